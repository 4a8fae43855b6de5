"""The options that say which data set."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.options.field import flag, option, plain, settle


@dataclass(frozen=True, kw_only=True)
class PlaceOptions:
    """Where the data set is."""

    # fmt: off
    image_path: Path = option(
        "data set", "the data set: a folder of identity folders or of images, a list of images (.csv, .txt, .tsv, "
        ".lst: a path a line, or columns), a .zip or .tar of identity folders, webdataset's .tar shards, insightface's "
        "train.rec or a .bin of it, or one image",
        metavar="PATH")
    # fmt: on


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How a data set is read, wherever it lies."""

    # fmt: off
    root: Path | None = option(
        "data set", "where the paths in a list begin (default: the list's folder)",
        default=None, metavar="DIR")
    path_column: str | None = option(
        "data set", "the column of a list that has the paths, by name or by number from 1 (default: told by known "
        "names, and by which column names files)", default=None, metavar="COLUMN", later=True)
    identity_column: str | None = option(
        "data set", "the column of a list that has the identities, likewise, or the field of webdataset's labels; 0: "
        "the folders of the paths name them", default=None, metavar="COLUMN", later=True)
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
        for name in ("path_column", "identity_column"):
            value = getattr(self, name)
            if value is not None and (not value.strip() or (name == "path_column" and value == "0")):
                raise RequestError(f"{flag(name)} is {shown(repr(value))}: it takes a name, or a number from 1")
        extensions = tuple(sorted({word.lower().lstrip(".*") for word in self.image_extension}))
        object.__setattr__(self, "image_extension", extensions)


@dataclass(frozen=True, kw_only=True)
class DataSetOptions(ReadingOptions, PlaceOptions):
    """The data set to work on."""

    def reading(self) -> dict[str, Any]:
        """The options that decide how a data set is read, wherever it lies, as JSON values."""
        names = (field.name for field in fields(DataSetOptions) if field.name not in ("image_path", "root"))
        return {name: plain(getattr(self, name)) for name in names}
