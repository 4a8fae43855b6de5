"""The options of `align`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grafiqs.errors import RequestError
from grafiqs.images.preprocessing import USUAL
from grafiqs.options.dataset import DataSetOptions
from grafiqs.options.field import SIZE, option


@dataclass(frozen=True, kw_only=True)
class AlignOptions(DataSetOptions):
    """What to align, by what, into what. Raises RequestError when the values do not fit together.

    >>> AlignOptions(image_path="photos", output="crops", landmarks="landmarks.csv").input_size
    (112, 112)
    """

    # fmt: off
    output: Path = option("output", "the folder of the aligned crops, new or empty", metavar="OUT")
    detector: Path | None = option(
        "landmarks", "a YuNet face detector (.onnx), which finds the faces and their landmarks",
        default=None, metavar="ONNX", excludes={"landmarks": None})
    landmarks: Path | None = option(
        "landmarks", "a table of landmarks instead: a path and five points a row (the eyes, the tip of the nose, the "
        "corners of the mouth; left in the picture first), or 68, with names of columns or without: an align.csv, or "
        "those of CelebA, VGGFace2, IJB-C, insightface, MTCNN",
        default=None, metavar="TABLE")
    input_size: tuple[int, int] = option(
        "crops", "height and width of the crops; the template is as high as they are, and in their middle",
        default=USUAL.size, **SIZE)
    all_faces: bool = option(
        "crops", "cut out every face of a photo, not the largest near the centre alone: that one has the photo's name, "
        "the others, the largest first, have it with _1, _2, ... behind it", default=False, requires=("detector",),
        which="which finds them")
    keep_going: bool = option(
        "output", "go on if the first hundred images all fail, instead of stopping before the first",
        default=False, decides=False)
    overwrite: bool = option(
        "output", "remove the crops that the folder holds, and start over", default=False)
    quiet: bool = option("output", "print warnings and errors only", default=False)
    # fmt: on

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.detector is None and self.landmarks is None:
            raise RequestError(
                "aligning needs landmarks: give --detector, a YuNet model (.onnx), or --landmarks, a table of them"
            )
