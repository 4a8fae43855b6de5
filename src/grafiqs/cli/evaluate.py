"""`grafiqs evaluate`: how well scores predict recognition errors, and at which score to discard."""

from __future__ import annotations

import logging
from argparse import Namespace

from grafiqs.cli.arguments import CODES, Parser, Work, options_of
from grafiqs.disk.names import shown
from grafiqs.options.evaluate import EvaluateOptions
from grafiqs.plotting import need_plots

log = logging.getLogger(__name__)

_EXAMPLES = """
The error versus discard characteristic: comparisons of the worst samples are discarded first, and the rate of genuine
ones that do not match is what is left. The area under that curve relative to no gain is 1 for scores that predict
nothing, and small for good ones; with its interval of 95 % from a bootstrap over identities. Then, for each method, the
score at which to discard 1, 2, 5, 10 and 20 % of the comparisons, and what that leaves. Beside the scores stand the
length of the embedding, where there are embeddings, and no order at all.

examples:
  {prog} run                                        # all genuine pairs of a run with --embeddings, and impostors
  {prog} run magface=scores.txt --direction higher --pairs pairs.txt --fmr 0.001 --output-dir lfw
  {prog} scores.csv --direction lower --pairs pairs.csv --protocol rethreshold    # pairs with similarities
"""


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe(
        "Evaluate how well scores predict recognition errors: curves, areas, and at which score to discard.",
        _EXAMPLES + CODES,
        "SCORES [SCORES ...] [options]",
    )
    parser.add_options(EvaluateOptions, scores="SCORES")


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    options = options_of(EvaluateOptions, command)
    if options.plots:
        need_plots()
    from grafiqs.evaluate import evaluate
    from grafiqs.evaluation.written import lines, write
    from grafiqs.run.finished import need_folder

    need_folder(options.output_dir)

    def work() -> int:
        found = evaluate(options)
        write(found, options.output_dir)
        if options.plots:
            from grafiqs.evaluation.plots import draw

            draw(found, options.output_dir)
        for line in lines(found):
            log.info("%s", line)
        log.info("Written: %s", shown(options.output_dir / "edc.json"))
        return 0

    return work
