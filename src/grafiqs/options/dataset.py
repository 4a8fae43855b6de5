"""The options that say which data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.options.field import flag, option, settle


@dataclass(frozen=True, kw_only=True)
class DataSetOptions:
    """The data set to work on."""

    # fmt: off
    image_path: Path = option(
        "data set", "the data set: a folder of identity folders or of images, a list of images (.csv, .txt, .tsv, "
        ".lst: a path a line, or columns), a .zip or .tar of identity folders, insightface's train.rec or a .bin of it",
        metavar="PATH")
    root: Path | None = option(
        "data set", "where the paths in a list begin (default: the list's folder)",
        default=None, metavar="DIR")
    path_column: str | None = option(
        "data set", "the column of a list that has the paths, by name or by number from 1 (default: told by known "
        "names, and by which column names files)", default=None, metavar="COLUMN")
    identity_column: str | None = option(
        "data set", "the column of a list that has the identities, likewise; 0: the folders of the paths name them",
        default=None, metavar="COLUMN")
    image_extension: tuple[str, ...] = option(
        "data set", "take only files with these extensions, e.g. jpg or png,jpg (default: every known image format, "
        "or all that a list names)",
        default=(), metavar="EXT")
    flat_structure: bool = option(
        "data set", "the data set has no identities: take all its images as one", default=False)
    # fmt: on

    def __post_init__(self) -> None:
        settle(self)
        for name in ("path_column", "identity_column"):
            value = getattr(self, name)
            if value is not None and (not value.strip() or (name == "path_column" and value == "0")):
                raise RequestError(f"{flag(name)} is {shown(repr(value))}: it takes a name, or a number from 1")
        extensions = tuple(sorted({word.lower().lstrip(".*") for word in self.image_extension}))
        object.__setattr__(self, "image_extension", extensions)
