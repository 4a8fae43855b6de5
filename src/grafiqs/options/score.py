"""The options of `score`."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from grafiqs.backbones.catalogue import DIRECTIONS
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.options.compute import ComputeOptions
from grafiqs.options.dataset import ReadingOptions
from grafiqs.options.field import flag, option, settle, written

STANDARD_INPUT = "-"
"""The photo that stands for those whose paths come on standard input."""

FORMATS = ("table", "csv", "json")


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(ComputeOptions, ReadingOptions):
    """Which photos to score, by what, and which of them to take again.

    Raises RequestError when the values do not fit together.

    >>> ScoreOptions(photos=["photo.jpg"], max_score=["image=140", "loss=3"]).limits("max_score")
    {'image': 140.0, 'loss': 3.0}
    """

    # fmt: off
    photos: tuple[str, ...] = option(
        "photos", "photos, folders or archives of them, lists; - for paths of photos on standard input, a line each",
        metavar="PHOTO")
    reference: Path | None = option(
        "quality", "what 'grafiqs calibrate' made of a run: gives each photo a quality from 0 to 100 (default: that "
        "of the backbone for drawn faces, if no --weights are given)", default=None, metavar="FILE")
    min_quality: tuple[str, ...] = option(
        "quality", "mark for taking again what has a lower quality: by the reference's layer, such as 20, or by those "
        "that are named, such as image=20,block2=10", default=(), metavar="QUALITY", adds=True)
    max_score: tuple[str, ...] = option(
        "quality", "mark for taking again what scores more, such as image=140: what 'grafiqs evaluate' lists",
        default=(),
        metavar="LAYER=SCORE", adds=True)
    fail_below: bool = option(
        "quality", "exit with 1 if a photo is marked, so that a script can ask for another", default=False)
    format: str = option(
        "output", "a table to read, or csv, or json (one list of objects)", default="table", choices=FORMATS)
    heat_maps: Path | None = option(
        "output", "a new folder for a picture of each photo: the crop, and where on it the gradients are large",
        default=None, metavar="DIR")
    quiet: bool = option("output", "print warnings and errors only, beside the results", default=False)
    # fmt: on

    def __post_init__(self) -> None:
        settle(self)
        self._check_computation()
        if not self.photos:
            raise RequestError("nothing to score: give photos, folders of them, or - for paths on standard input")
        if self.photos.count(STANDARD_INPUT) > 1:
            raise RequestError("- is there twice, and standard input ends once")
        self.limits("min_quality")
        for name in self.limits("max_score"):
            if DIRECTIONS.get(name) == "higher":
                raise RequestError(
                    f"--max-score names {name}, of which higher ones are better: use --min-quality {name}=20"
                )
        if self.fail_below and not self.min_quality and not self.max_score:
            raise RequestError("--fail-below needs --min-quality or --max-score, which say what falls short")

    def limits(self, name: str) -> dict[str, float]:
        """The limits of `min_quality` or `max_score`, by score; "" stands for the reference's layer.

        Raises RequestError for one that is not a number, or is named twice.
        """
        is_quality = name == "min_quality"
        what = "a quality from 0 to 100, or LAYER=QUALITY" if is_quality else "LAYER=SCORE, a score of 0 or more"
        whole = f"{flag(name)} is {shown(written(getattr(self, name)))}"
        found: dict[str, float] = {}
        for text in getattr(self, name):
            score, equals, number = (part.strip() for part in text.rpartition("="))
            try:
                value = float(number)
            except ValueError:
                value = math.nan
            if not 0 <= value <= (100 if is_quality else sys.float_info.max) or bool(equals) != bool(score):
                raise RequestError(f"{whole}: it takes {what}")
            if not equals and not is_quality:
                raise RequestError(f"{whole}: it takes {what}")
            if equals and score not in DIRECTIONS:
                raise RequestError(f"{whole}: {shown(score)} is none of {', '.join(DIRECTIONS)}")
            if score in found:
                raise RequestError(f"{whole}: it gives {score or 'the layer of the reference'} two limits")
            found[score] = value
        return found
