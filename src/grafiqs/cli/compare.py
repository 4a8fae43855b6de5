"""`grafiqs compare`: how runs of several seeds or networks agree, and what several seeds say together."""

from __future__ import annotations

import logging
from argparse import Namespace

from grafiqs.cli.arguments import CODES, Parser, Work, options_of
from grafiqs.disk.names import shown
from grafiqs.options.compare import CompareOptions
from grafiqs.plotting import need_plots

log = logging.getLogger(__name__)

_EXAMPLES = """
Samples are matched by the names of identity and sample, without extensions. Runs of one network are taken as
replicates: each statistic has a mean over them, with its interval of 95 %, and each two of them a distance of their
distributions. Scores of different networks have different scales: of them, ranks are compared, on shared samples.

examples:
  {prog} exp1_gradients exp2_gradients       # two seeds: what they share, how far their scores lie apart
  {prog} sweep --output-dir seeds            # every run in a folder
  {prog} small=runs/1 large=runs/2           # two networks on the same subset: do they rank faces alike?
  {prog} grafiqs_output                      # one run: distributions, layers, identities
"""


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe(
        "Compare runs: overlap, distributions, means over runs with their intervals, rank correlations, identities.",
        _EXAMPLES + CODES,
        "RUN [RUN ...] [options]",
    )
    parser.add_options(CompareOptions, runs="RUN")


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    options = options_of(CompareOptions, command)
    if options.plots:
        need_plots()
    from grafiqs.compare import compare
    from grafiqs.comparison.written import JSON, lines, write
    from grafiqs.run.finished import need_folder

    need_folder(options.output_dir)

    def work() -> int:
        found = compare(options)
        write(found, options.output_dir)
        if options.plots:
            from grafiqs.comparison.plots import draw

            draw(found, options.output_dir)
        for line in lines(found):
            log.info("%s", line)
        log.info("Written: %s", shown(options.output_dir / JSON))
        return 0

    return work
