"""`grafiqs demo`: show it all on drawn faces."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from grafiqs.cli.arguments import CODES, Parser, Work
from grafiqs.faces.opencv import need_opencv
from grafiqs.options.field import path

_EXAMPLES = """
Draws faces of people who do not exist, chooses a subset by seeds, extracts its gradients with the backbone that comes
with the package, evaluates the scores, and shows it all on a page (run/report.html) and in a picture of the best and
the worst faces. It takes less than a minute.

examples:
  {prog}
  {prog} --output-dir elsewhere
"""


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe("Show on drawn faces what the package does.", _EXAMPLES + CODES)
    parser.add_argument(
        "--output-dir",
        metavar="DIR",
        type=path,
        default=Path("demo_output"),
        help="the folder of the demo; one that was stopped there is resumed (default: demo_output)",
    )
    parser.add_argument("--overwrite", action="store_true", help="remove the run that the folder holds, and start over")


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    need_opencv("drawing faces")
    from grafiqs.demo.first_run import first_run

    return lambda: 1 if first_run(command.output_dir, command.overwrite).failed else 0
