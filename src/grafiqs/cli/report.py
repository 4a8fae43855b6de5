"""`grafiqs report`: one page that shows a run."""

from __future__ import annotations

from argparse import Namespace

from grafiqs.cli.arguments import CODES, Parser, Work, options_of
from grafiqs.options.report import ReportOptions

_EXAMPLES = """
The page is one HTML file that opens offline in any browser: what the run is, its scores and qualities, every face with
its heat maps, sorted and filtered as you like, what falls below a threshold, identities, and what failed. Several runs
are shown side by side. The exit code is 1 if pictures are missing, as images or gradients were changed since the run.

examples:
  {prog} grafiqs_output                                   # grafiqs_output/report.html
  {prog} grafiqs_output --no-faces --output share.html    # without pictures, to be sent around
  {prog} grafiqs_output --evaluation evaluation           # with the curves of 'grafiqs evaluate'
  {prog} sweep --output seeds.html                        # every run in a folder
"""


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe(
        "Show runs on one page, for people who would rather look.", _EXAMPLES + CODES, "RUN [RUN ...] [options]"
    )
    parser.add_options(ReportOptions, runs="RUN")


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    options = options_of(ReportOptions, command)
    from grafiqs.report import report

    return lambda: 1 if report(options).changed else 0
