"""The options that say which data set."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from grafiqs.options.field import option, plain, settle


@dataclass(frozen=True, kw_only=True)
class DataSetOptions:
    """The data set to work on."""

    # fmt: off
    image_path: Path = option(
        "data set", "the data set: a folder of identity folders or of images, a list of images (.txt, .csv: path or "
        "path,identity a line), a .zip or .tar of identity folders, webdataset's .tar shards, insightface's train.rec "
        "or a .bin of it, or one image",
        metavar="PATH")
    root: Path | None = option(
        "data set", "where the paths in a list begin (default: the list's folder)",
        default=None, metavar="DIR")
    image_extension: tuple[str, ...] = option(
        "data set", "take only files with these extensions, e.g. jpg or png,jpg, whatever is in them; . stands for "
        "files without one (default: every known image format, or all that a list names)",
        default=(), metavar="EXT")
    flat_structure: bool = option(
        "data set", "the data set has no identities: take all its images as one", default=False)
    identity_depth: int | None = option(
        "data set", "the identities are the folders at this level of a folder or archive, 1 being those directly in it "
        "(default: 1, or deeper if all images lie in one folder of folders, or in splits: the log says so)",
        default=None, metavar="N", minimum=1, excludes={"flat_structure": None}, later=True)
    # fmt: on

    def __post_init__(self) -> None:
        settle(self)
        extensions = tuple(sorted({word.lower().lstrip(".*") for word in self.image_extension}))
        object.__setattr__(self, "image_extension", extensions)

    def reading(self) -> dict[str, Any]:
        """The options that decide how a data set is read, wherever it lies, as JSON values."""
        names = (field.name for field in fields(DataSetOptions) if field.name not in ("image_path", "root"))
        return {name: plain(getattr(self, name)) for name in names}
