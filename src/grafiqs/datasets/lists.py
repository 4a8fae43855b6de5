"""A text or CSV list of image files: a line each, `path` or `path,identity`."""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from grafiqs.datasets.dataset import MAX_PATH, Dataset
from grafiqs.datasets.folders import Files, read_file
from grafiqs.disk.names import extension, in_order, shown
from grafiqs.errors import RequestError

log = logging.getLogger(__name__)

EXTENSIONS = ("csv", "txt")
"""The file extensions of lists."""

PATHS = ("path", "file", "filename", "file_name", "image", "image_path", "image_id", "img", "name")
"""What tables call the column of the paths, in lower case, with underscores for blanks and hyphens."""

IDENTITIES = ("identity", "id", "label", "class", "person", "subject", "name_id")
"""What they call that of the identities."""


class ListedFiles(Dataset):
    """The files that a list names, whatever their extension, unless `extensions` limit them.

    A table whose first row has a column `path` is read by its columns `path` and `identity`, whatever else it has:
    so what `grafiqs select` writes is a list, and a scores.csv; an empty cell there is the unnamed identity. Paths
    are relative to `root`, by default the list's folder. If no identity is named, it is the first folder of the
    path; files in no folder are one unnamed identity, or, beside others, ignored. `flat` makes all of them one unnamed
    identity. A line that repeats another counts once.
    Raises RequestError, with the line, for a list that cannot be read.
    """

    form = "list"

    def __init__(
        self, place: Path, root: Path | None = None, extensions: frozenset[str] | None = None, flat: bool = False
    ) -> None:
        self.place = place
        self._root = place.parent if root is None else root
        self._prefix = os.path.join(os.path.abspath(self._root), "")
        self._samples: dict[str, dict[str, str]] = {}
        """The location of each sample, by identity and path inside it."""
        identities: dict[str, str] = {}
        lines = repeated = 0
        name = shown(place)
        for line, path, named in _rows(place):
            lines += 1
            where = f"{name} line {line}"
            if "\0" in path or "\0" in (named or ""):
                raise RequestError(f"{where} holds a NUL character: a list is text in UTF-8")
            location = self._relative(path, where)
            if extensions is not None and extension(location) not in extensions:
                continue
            identity, inside = ("", location) if flat else _split(location, named, where)
            samples = self._samples.setdefault(identity, {})
            if identities.setdefault(location, identity) != identity:
                raise RequestError(
                    f"{where}: {shown(location)} is listed for {shown(identity)} and, before, for "
                    f"{shown(identities[location])}: a sample has one identity"
                )
            if samples.get(inside) == location:
                repeated += 1
            elif samples.setdefault(inside, location) != location:
                raise RequestError(
                    f"{where}: {shown(location)} would be the same sample of {shown(identity)} as "
                    f"{shown(samples[inside])}: leave one of them out"
                )
        if not self._samples:
            raise RequestError(f"the list {name} names no image in its {lines} lines: check --image-path")
        if repeated:
            log.warning("%d lines of %s repeat earlier ones, and count once", repeated, name)
        self.ignored = len(self._samples.pop("", ())) if len(self._samples) > 1 else 0
        self.identities = in_order(self._samples)

    @property
    def root(self) -> Path:
        """The folder that the listed paths are relative to."""
        return self._root

    def samples(self, identity: str) -> tuple[str, ...]:
        """The listed paths of one identity, without the identity's folder if they begin with it."""
        return in_order(self._samples[identity])

    def location(self, identity: str, path: str) -> str:
        """The path as listed, relative to the root."""
        return self._samples[identity][path]

    def read(self, location: str) -> bytes:
        """The bytes of a listed file. Raises UnreadableSampleError, with the reason."""
        return read_file(self._root / location)

    def reading(self) -> Files:
        """The files without their names, which may be millions."""
        return Files(self._root)

    def _relative(self, path: str, where: str) -> str:
        """A listed path, relative to the root; `where` it stands is for the error."""
        whole = os.path.normpath(os.path.join(self._prefix, path))
        if len(whole) > MAX_PATH:
            raise RequestError(f"{where}: a path of {len(path):,} characters is longer than any file system takes")
        if not whole.startswith(self._prefix) or len(whole) == len(self._prefix):
            raise RequestError(
                f"{where}: {shown(path) or 'an empty path'} is not a file below {shown(self._root)}: "
                "say with --root where the paths begin"
            )
        return whole[len(self._prefix) :]


def _split(location: str, named: str | None, where: str) -> tuple[str, str]:
    """The identity of a listed file, and its path inside that."""
    if named is not None and (named in (".", "..") or "/" in named):
        raise RequestError(
            f"{where}: {shown(named)} is not the name of an identity (a path with a comma in it stands in quotes)"
        )
    if named is not None:
        return named, location.removeprefix(f"{named}/") if named else location
    folder, slash, inside = location.partition("/")
    return (folder, inside) if slash else ("", location)


def _rows(place: Path) -> Iterator[tuple[int, str, str | None]]:
    """Every listed file: its line, its path, and its identity, or None if none is named."""
    try:
        with place.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file, strict=True)
            header: list[str] | None = None
            for row in rows:
                if not any(row):
                    continue
                if header is None:
                    header = [name.strip().lower() for name in row]
                    if "path" in header:
                        continue
                    header = []
                if len(row) != len(header) if header else len(row) > 2:
                    raise RequestError(
                        f"{shown(place)} line {rows.line_num} has {len(row)} columns instead of "
                        + (f"{len(header)}, like the first" if header else "path, or path,identity")
                    )
                named = dict(zip(header or ("path", "identity"), row, strict=False))
                identity = named.get("identity")
                yield rows.line_num, named["path"], identity if header else identity or None
    except csv.Error as error:
        raise RequestError(f"{shown(place)} line {rows.line_num} is not a line of a list: {error}") from error
    except OSError as error:
        raise RequestError(f"cannot read the list {shown(place)}: {error.strerror}") from error
