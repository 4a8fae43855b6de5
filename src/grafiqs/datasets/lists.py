"""A text table that lists image files, and perhaps the identity of each."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from grafiqs.datasets.columns import tell
from grafiqs.datasets.dataset import MAX_PATH, Dataset, Readable
from grafiqs.datasets.folders import forms_of, is_there, read_file
from grafiqs.datasets.layout import Arrangement, arranged
from grafiqs.datasets.members import Members
from grafiqs.datasets.readings import NOTHING, Wanted
from grafiqs.disk import files
from grafiqs.disk.delimited import TableError, TextTable
from grafiqs.disk.names import extension, in_order, shown
from grafiqs.errors import RequestError

log = logging.getLogger(__name__)

EXTENSIONS = ("csv", "lst", "tsv", "txt")
"""The file extensions of lists."""


class ListedFiles(Dataset):
    """The files that a list names, whatever their extension, unless `extensions` limit them.

    How it is read is told by `columns`, with what `wanted` says of it; in a table with a header, an empty identity is
    the unnamed one. Paths are relative to `root`, by default the list's folder. If no identity is named, the folders of
    the paths are told as those of an archive (`layout.arranged`); if some are, the first folder counts for the others.
    `wanted.flat` makes all of them one unnamed identity. A line that repeats another counts once.
    Raises RequestError, with the line, for a list that cannot be read, or names no file.
    """

    form = "list"

    def __init__(
        self,
        place: Path,
        root: Path | None = None,
        extensions: frozenset[str] | None = None,
        wanted: Wanted = NOTHING,
    ) -> None:
        self.place = place
        self._root = place.parent if root is None else root
        self._prefix = os.path.join(os.path.abspath(self._root), "")
        try:
            listed = self._listed(extensions, wanted)
        except TableError as error:
            raise RequestError(f"{shown(place)} {error}") from error
        except OSError as error:
            raise RequestError(f"cannot read the list {shown(place)}: {error.strerror}") from error
        self._samples: dict[str, dict[str, str]] = {}
        """The location of each sample, by identity and path inside it, if the list names identities."""
        self._arranged: Arrangement | None = None
        """What the folders of the paths say, if they do."""
        if wanted.flat or not any(named is not None for named in listed.values()):
            self._arranged = arranged(Members(listed, (), None), self._root, wanted.flat, wanted.depth)
            self.identities, self.ignored = self._arranged.identities, self._arranged.ignored
            if not wanted.flat:
                self.said += f"; {self._arranged.said or 'the identities are the first folders of the paths'}"
            return
        if wanted.depth is not None:
            raise RequestError(
                f"{shown(place)} names identities, and --identity-depth says which folders do: --identity-column 0 "
                "leaves it to the folders"
            )
        top = _top(listed)
        for location, named in listed.items():
            identity, inside = _split(location.removeprefix(top), named)
            samples = self._samples.setdefault(identity, {})
            if samples.setdefault(inside, location) != location:
                raise RequestError(
                    f"{shown(place)} lists {shown(location)}, which would be the same sample of {shown(identity)} as "
                    f"{shown(samples[inside])}: leave one of them out"
                )
        self.ignored = len(self._samples.pop("", ())) if len(self._samples) > 1 else 0
        self.identities = in_order(self._samples)

    def _listed(self, extensions: frozenset[str] | None, wanted: Wanted) -> dict[str, str | None]:
        """The location of every listed file, and its identity if one is named. Raises TableError, or OSError."""
        table = TextTable(lambda: files.opened(self.place))
        columns = tell(table, self._root, wanted)
        listed: dict[str, str | None] = {}
        lines = repeated = 0
        for line, path, named in () if columns is None else columns.rows(table):
            lines += 1
            location = self._relative(path, line)
            if extensions is not None and extension(location) not in extensions:
                continue
            if named is not None and (named in (".", "..") or "/" in named):
                raise TableError(
                    f"line {line}: {shown(named)} is not the name of an identity (a path with a comma in it stands in "
                    "quotes)"
                )
            if location not in listed:
                listed[location] = named
                continue
            before, now = (_split(location, name)[0] for name in (listed[location], named))
            if before != now and not wanted.flat:
                raise TableError(
                    f"line {line}: {shown(location)} is listed for {shown(now)} and, before, for {shown(before)}: a "
                    "sample has one identity"
                )
            repeated += 1
        if columns is None or not listed:
            raise TableError(f"names no image in its {lines} lines: check --image-path")
        if repeated:
            log.warning("%d lines of %s repeat earlier ones, and count once", repeated, shown(self.place))
        marked = "" if table.encoding.startswith("utf-8") else f", in {table.encoding.upper()}"
        self.said = f"list of {len(listed):,} images: {columns}{marked}"
        return listed

    @property
    def root(self) -> Path:
        """The folder that the listed paths are relative to."""
        return self._root

    def samples(self, identity: str) -> tuple[str, ...]:
        """The listed paths of one identity, without the identity's folder if they begin with it."""
        return in_order(self._samples[identity]) if self._arranged is None else self._arranged.samples(identity)

    def location(self, identity: str, path: str) -> str:
        """The path as listed, relative to the root."""
        if self._arranged is None:
            return self._samples[identity][path]
        return self._arranged.top + self._arranged.location(identity, path)

    def read(self, location: str) -> bytes:
        """The bytes of a listed file. Raises UnreadableSampleError, with the reason."""
        return self.reading().read(location)

    def reading(self) -> NamedFiles:
        """The files without their names, which may be millions."""
        return NamedFiles(self._root)

    def _relative(self, path: str, line: int) -> str:
        """A listed path, relative to the root. Raises TableError when it leads out of that."""
        if "\\" in path and not is_there(self._root, path, turned=False):
            path = path.replace("\\", "/")
        whole = os.path.normpath(os.path.join(self._prefix, path))
        if len(whole) > MAX_PATH:
            raise TableError(f"line {line}: a path of {len(whole):,} characters is longer than any file system takes")
        if not whole.startswith(self._prefix) or len(whole) == len(self._prefix):
            raise TableError(
                f"line {line}: {shown(path) or 'an empty path'} is not a file below {shown(self._root)}: say with "
                "--root where the paths begin"
            )
        return whole[len(self._prefix) :]


@dataclass(frozen=True)
class NamedFiles(Readable):
    """Files below a folder by names of others' making, which may be in another Unicode normal form than the disk's."""

    root: Path

    def read(self, location: str) -> bytes:
        """The bytes of a file. Raises UnreadableSampleError, with the reason."""
        return read_file(next((path for path in self._places(location) if os.path.exists(path)), self.root / location))

    def _places(self, location: str) -> Iterator[Path]:
        return (self.root / form for form in forms_of(location))


def _top(listed: Mapping[str, str | None]) -> str:
    """The folders, with a slash, that stand before the identity's own in every path; nothing if one has others."""
    tops = None
    for location, named in listed.items():
        folders = location.split("/")[:-1]
        places = (place for place, folder in enumerate(folders) if folder == named)
        own = {"".join(f"{folder}/" for folder in folders[:place]) for place in places}
        tops = own if tops is None else tops & own
        if not tops:
            return ""
    return min(tops or ("",), key=len)


def _split(location: str, named: str | None) -> tuple[str, str]:
    """The identity of a listed file, and its path inside that."""
    if named is not None:
        return named, location.removeprefix(f"{named}/") if named else location
    folder, slash, inside = location.partition("/")
    return (folder, inside) if slash else ("", location)
