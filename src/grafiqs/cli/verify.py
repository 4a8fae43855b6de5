"""`grafiqs verify`: check a finished run."""

from __future__ import annotations

from argparse import Namespace

from grafiqs.cli.arguments import Parser, Work
from grafiqs.options.field import path

_EXAMPLES = """
The subset is derived again from the manifest (if the data set is available), and every file is checked against
it: presence, shape, dtype, checksum, finite values, and score = sum of |gradient|. The images are checked against
the checksums they had when they were read. For an alignment: the samples, every crop and table, and the photos. For a
sweep: each of its runs, and that they are those of sweep.json and sweep.csv.

examples:
  {prog} grafiqs_output
  {prog} crops
  {prog} grafiqs_output --image-path /elsewhere/faces
"""


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe("Check a finished run, alignment or sweep.", _EXAMPLES)
    parser.add_argument("run", metavar="RUN", type=path, help="the run folder, or the folder of crops, or of a sweep")
    parser.add_argument("--image-path", metavar="PATH", type=path, help="where the data set is now")
    parser.add_argument("--root", metavar="DIR", type=path, help="where the paths in a list begin now")
    parser.add_argument("--quiet", action="store_true", help="print what is wrong only")


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    from grafiqs.verify import verify_run

    return lambda: 1 if verify_run(command.run, command.image_path, command.quiet, command.root) else 0
