"""`grafiqs inspect`: describe a data set."""

from __future__ import annotations

import json
import logging
import sys
from argparse import Namespace

from grafiqs.cli.arguments import CODES, Parser, Work, options_of
from grafiqs.cli.terminal import log_to_terminal, write
from grafiqs.errors import RequestError
from grafiqs.options.dataset import DataSetOptions
from grafiqs.options.extract import Options

log = logging.getLogger(__name__)

_EXAMPLES = """
Identities, their numbers of samples, sizes, formats and modes; images that cannot be read, of one colour, or of 16 bits
that use fewer; images with the same pixels, within an identity and across; and a warning if images are not aligned
crops, which the networks expect.

examples:
  {prog} faces --samples-per-identity 50
  {prog} train.rec --json > train.json
"""


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe("Describe a data set; every image is read.", _EXAMPLES + CODES, "DATASET [options]")
    parser.add_options(DataSetOptions, image_path="DATASET")
    parser.add_argument(
        "--samples-per-identity", metavar="M", type=int, help="list the identities with fewer than M samples"
    )
    parser.add_argument("--json", action="store_true", help="print all that was found as JSON, to standard output")
    parser.add_argument("--quiet", action="store_true", help="print warnings and errors only (and the JSON)")


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    options = options_of(Options, command)
    from grafiqs import inspect_report
    from grafiqs.inspect import inspect_dataset

    log_to_terminal(command.quiet, results_on_stdout=command.json)
    if sys.stdout is None:
        raise RequestError("standard output is closed, where the report goes")

    def work() -> int:
        found = inspect_dataset(options)
        if command.json:
            write([json.dumps(found.to_json(), indent=1).encode(), b"\n"])
        else:
            for line in inspect_report.lines(found):
                log.info("%s", line)
        for warning in found.warnings():
            log.warning("warning: %s", warning)
        return 1 if found.unreadable else 0

    return work
