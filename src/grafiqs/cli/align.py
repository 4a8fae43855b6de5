"""`grafiqs align`: cut ordinary photos to aligned crops, as the networks expect them."""

from __future__ import annotations

from argparse import Namespace

from grafiqs.cli.arguments import CODES, Parser, Work, options_of
from grafiqs.faces.opencv import need_opencv
from grafiqs.options.align import AlignOptions

_EXAMPLES = """
Five landmarks of a face are brought to the ArcFace template by a turn, a scale and a shift. The networks were trained
on such crops: scores of unaligned faces mean little. OUT mirrors the data set, in PNG files; OUT/align.csv has box,
landmarks, score and turn of every face, OUT/failures.csv the pictures without a face. Of several faces the largest near
the centre is taken, or with --all-faces each. Pictures may lie, or stand on their head. An alignment that was stopped
is resumed.

A detector is a YuNet model, such as face_detection_yunet_2023mar.onnx of OpenCV's model zoo.

examples:
  {prog} photos crops --detector yunet.onnx
  {prog} photos crops --landmarks crops_before/align.csv
"""


def fill(parser: Parser) -> None:
    """Give the parser its texts and arguments."""
    parser.describe(
        "Cut ordinary photos to aligned crops of 112x112 pixels, as the networks expect them.",
        _EXAMPLES + CODES,
        "IN OUT --detector ONNX | --landmarks TABLE [options]",
    )
    parser.add_options(AlignOptions, image_path="IN", output="OUT")


def prepare(command: Namespace) -> Work:
    """Load what the verb needs; what is returned does its work, and says the exit code."""
    options = options_of(AlignOptions, command)
    need_opencv("aligning faces")
    from grafiqs.align import align_faces

    return lambda: 1 if align_faces(options).failed else 0
