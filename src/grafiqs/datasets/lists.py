"""A text table that lists image files, and perhaps the identity of each."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from grafiqs.datasets.columns import Row, tell
from grafiqs.datasets.dataset import MAX_PATH, Dataset, Readable
from grafiqs.datasets.folders import forms_of, is_there, read_file
from grafiqs.datasets.layout import Arrangement, arranged, aside
from grafiqs.datasets.members import Members
from grafiqs.datasets.naming import named
from grafiqs.datasets.readings import NOTHING, Wanted, is_elsewhere, names_an_image, quoted
from grafiqs.disk import files
from grafiqs.disk.delimited import TableError, TextTable
from grafiqs.disk.names import extension, in_order, shown
from grafiqs.errors import RequestError

log = logging.getLogger(__name__)

EXTENSIONS = ("csv", "lst", "tsv", "txt")
"""The file extensions of lists."""

_FEW = 10
"""From so many images on, one identity for all of them, or another for each, is worth a warning."""


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
            listed, stated = self._listed(extensions, wanted)
        except TableError as error:
            raise RequestError(f"{shown(place)} {error}") from error
        except OSError as error:
            raise RequestError(f"cannot read the list {shown(place)}: {error.strerror}") from error
        self._samples: dict[str, dict[str, str]] = {}
        """The location of each sample, by identity and path inside it, if the list names identities."""
        self._arranged: Arrangement | None = None
        """What the folders of the paths say, if they do."""
        if wanted.flat or all(identity is None for identity in listed.values()):
            self._by_folders(listed, wanted)
            return
        if wanted.depth is not None:
            raise RequestError(
                f"{shown(place)} names identities, and --identity-depth says which folders do: --identity-column 0 "
                "leaves it to the folders"
            )
        self._samples = named(listed, stated, place)
        self.ignored = len(self._samples.pop("", ())) if len(self._samples) > 1 else 0
        self.identities = in_order(self._samples)
        if len(listed) >= _FEW and max(map(len, self._samples.values())) == 1:
            log.warning("warning: every image of %s has another identity: is that what names them?", shown(place))
        elif len(listed) >= _FEW and len(self._samples) == 1 and self.identities != ("",):
            log.warning("warning: all images of %s have one identity, %s", shown(place), shown(self.identities[0]))

    def _by_folders(self, listed: Collection[str], wanted: Wanted) -> None:
        """Tell the identities by the folders of the paths, as in an archive; what lies aside there is left out."""
        kept = [location for location in listed if aside(location) is None] or list(listed)
        self._arranged = arranged(Members(kept, (), None), self._root, wanted.flat, wanted.depth)
        self.identities, self.ignored = self._arranged.identities, self._arranged.ignored
        if not wanted.flat:
            self.said += f"; {self._arranged.said or 'the identities are the first folders of the paths'}"
        if len(kept) < len(listed):
            self.said += f"; left out: {len(listed) - len(kept)} that are hidden, or in folders of systems"

    def _listed(
        self, extensions: frozenset[str] | None, wanted: Wanted
    ) -> tuple[dict[str, str | None], dict[str, str]]:
        """The identity of every listed file by its location, None if it has none, and the names of samples that say so.

        Raises TableError, or OSError.
        """
        table = TextTable(lambda: files.opened(self.place))
        columns = tell(table, self._root, wanted)
        listed: dict[str, str | None] = {}
        stated: dict[str, str] = {}
        identities: dict[str, str] = {}  # each once, however many images it has
        lines = repeated = padded = 0
        for row in () if columns is None else columns.rows(table):
            lines += 1
            location = self._relative(row)
            if extensions is not None and extension(location) not in extensions:
                continue
            if columns is not None and columns.images and not names_an_image([location], 0):
                self._refuse_unlike(row, location)
            identity = row.identity
            if identity is not None:
                plain = identity if identity in location.split("/")[:-1] else identity.strip()
                padded += plain != identity
                identity = identities.setdefault(plain, plain)
                if identity in (".", "..") or "/" in identity:
                    raise TableError(
                        f"line {row.line}: {shown(identity)} is not the name of an identity (a path with a comma in it "
                        "stands in quotes)"
                    )
            if location not in listed:
                listed[location] = identity
                if row.sample:
                    stated[location] = row.sample
                continue
            if listed[location] != identity and not wanted.flat:
                now, then = shown(identity), shown(listed[location])
                raise TableError(
                    f"line {row.line}: {shown(location)} is listed for {now} and, before, for {then}: a sample has one "
                    "identity"
                )
            repeated += 1
        if columns is None or not listed:
            raise TableError(f"names no image in its {lines} lines: check --image-path")
        if repeated:
            log.warning("%d lines of %s repeat earlier ones, and count once", repeated, shown(self.place))
        if padded:
            log.warning("%d lines of %s have blanks around the identity: taken off", padded, shown(self.place))
        marked = "" if table.encoding.startswith("utf-8") else f", in {table.encoding.upper()}"
        self.said = f"list of {len(listed):,} images: {columns}{marked}"
        return listed, stated

    def _refuse_unlike(self, row: Row, location: str) -> None:
        """Raise TableError for a path that is not called as an image is, as those of the first lines, and not there."""
        if not any(os.path.lexists(self._root / form) for form in forms_of(location)):
            raise TableError(
                f"line {row.line} names no file, and does not end as the first lines do, like an image: "
                f"{quoted([row.path])}. If it is a header or a note, take it out; if a path, separate it as those are"
            )

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

    def _relative(self, row: Row) -> str:
        """A listed path, relative to the root. Raises TableError when it leads out of that."""
        path, where = row.path, f"line {row.line}"
        if "\\" in path and not is_there(self._root, path, turned=False):
            if is_elsewhere(path):
                raise TableError(f"{where}: {shown(path)} has a drive of Windows: write paths relative to the data set")
            path = path.replace("\\", "/")
        whole = os.path.normpath(os.path.join(self._prefix, path))
        if len(whole) > MAX_PATH:
            raise TableError(f"{where}: a path of {len(whole):,} characters is longer than any file system takes")
        if not whole.startswith(self._prefix) or len(whole) == len(self._prefix):
            raise TableError(
                f"{where}: {shown(path) or 'an empty path'} is not a file below {shown(self._root)}: say with --root "
                "where the paths begin"
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
