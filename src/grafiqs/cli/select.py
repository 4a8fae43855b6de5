"""`grafiqs select`: write the chosen subset as CSV."""

from __future__ import annotations

import logging
import os
from argparse import Namespace
from pathlib import Path

from grafiqs.cli.arguments import Parser, Work, options_of
from grafiqs.cli.terminal import log_to_terminal, write
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.options.field import path
from grafiqs.options.subset import SubsetOptions

log = logging.getLogger(__name__)

_EXAMPLES = """
examples:
  {prog} --image-path faces --num-identities 24 --samples-per-identity 40 --output subset.csv
  {prog} --image-path faces --samples-per-identity 5 --strict --num-identities 100 | cut -d, -f3
"""


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe(
        "Write the chosen subset as CSV (identity, sample, path); no image is opened.",
        _EXAMPLES,
        "--image-path DIR [options]",
    )
    parser.add_options(SubsetOptions)
    parser.add_argument("--output", metavar="FILE", type=path, help="the CSV file (default: standard output)")
    parser.add_argument("--quiet", action="store_true", help="print warnings and errors only")


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    options = options_of(SubsetOptions, command)
    from grafiqs.disk.files import whole
    from grafiqs.select import select_subset

    if command.output is None:
        log_to_terminal(command.quiet, results_on_stdout=True)

    def work() -> int:
        subset = select_subset(options)
        log.info("Subset SHA-256: %s", subset.sha256)
        if command.output is None:
            write(subset.csv(), "give --output FILE")
            return 0
        try:
            output = Path(os.path.realpath(command.output))
            # A pipe or a device is written to; anything else appears whole, or not at all.
            with open(output, "wb") if output.exists() and not output.is_file() else whole(output) as file:
                file.writelines(subset.csv())
        except BrokenPipeError:
            raise
        except OSError as error:
            place = shown(command.output)
            raise RequestError(f"cannot write {place}: {error.strerror}; give another --output") from error
        return 0

    return work
