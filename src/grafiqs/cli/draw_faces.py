"""`grafiqs draw-faces`: draw a data set of people who do not exist."""

from __future__ import annotations

from argparse import Namespace

from grafiqs.cli.arguments import CODES, Parser, Work, options_of
from grafiqs.faces.opencv import need_opencv
from grafiqs.options.draw import DrawOptions

_EXAMPLES = """
People who do not exist, in aligned crops of 112x112 pixels, to try things on: OUT/person_0000/0000.png and so on.
OUT/faces.csv holds every number behind every face, with its degradation and strength. The same options give
the same bytes on the same kind of machine; a drawing that was stopped is resumed.

examples:
  {prog} faces
  {prog} faces --identities 200 --samples-per-identity 12 --degraded 0 --seed 7 --contact-sheet faces.png
"""


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe("Draw a data set of faces.", _EXAMPLES + CODES, "OUT [options]")
    parser.add_options(DrawOptions, output="OUT")


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    options = options_of(DrawOptions, command)
    need_opencv("drawing faces")
    from grafiqs.demo.draw import draw_faces

    def work() -> int:
        draw_faces(options)
        return 0

    return work
