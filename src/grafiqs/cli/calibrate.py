"""`grafiqs calibrate`: make a reference of a run, by which scores have a quality from 0 to 100."""

from __future__ import annotations

import logging
from argparse import Namespace

from grafiqs.cli.arguments import CODES, Parser, Work, options_of
from grafiqs.disk.names import shown
from grafiqs.options.calibrate import CalibrateOptions

log = logging.getLogger(__name__)

_EXAMPLES = """
A reference holds how the scores of a run are distributed. By it, --reference of 'extract', 'sweep', 'score',
'evaluate' and 'compare' gives each score a quality: 80 means that it is better than 80 % of the reference's. It holds
for the same weights, norms and input alone, and is refused elsewhere. If the run has embeddings, its scores are ranked
by how well they predict recognition errors, as 'evaluate' does, and the best layer is what "quality" means; if none
predicts them, it says so.

examples:
  {prog} run                                            # reference.json, of a run with --embeddings
  {prog} run --output lfw.json --pairs pairs.txt --fmr 0.001
  {prog} run --layer embedding_norm --overwrite         # what quality means, chosen by hand
"""


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe(
        "Make a reference of a run: by it, scores have a quality from 0 to 100.", _EXAMPLES + CODES, "RUN [options]"
    )
    parser.add_options(CalibrateOptions, run="RUN")


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    options = options_of(CalibrateOptions, command)
    from grafiqs.calibrate import calibrate

    def work() -> int:
        reference = calibrate(options)
        log.info("Written: %s, %s", shown(options.output), reference.said())
        return 0

    return work
