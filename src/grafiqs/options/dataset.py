"""The options that say which data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grafiqs.options.field import option, settle


@dataclass(frozen=True, kw_only=True)
class DataSetOptions:
    """The data set to work on."""

    # fmt: off
    image_path: Path = option(
        "data set", "the data set: a folder of identity folders or of images, a list of images (.txt, .csv: path or "
        "path,identity a line), a .zip or .tar of identity folders, insightface's train.rec or a .bin of it",
        metavar="PATH")
    root: Path | None = option(
        "data set", "where the paths in a list begin (default: the list's folder)",
        default=None, metavar="DIR")
    image_extension: tuple[str, ...] = option(
        "data set", "take only files with these extensions, e.g. jpg or png,jpg (default: every known image format, "
        "or all that a list names)",
        default=(), metavar="EXT")
    flat_structure: bool = option(
        "data set", "the data set has no identities: take all its images as one", default=False)
    # fmt: on

    def __post_init__(self) -> None:
        settle(self)
        extensions = tuple(sorted({word.lower().lstrip(".*") for word in self.image_extension}))
        object.__setattr__(self, "image_extension", extensions)
