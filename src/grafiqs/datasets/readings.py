"""The ways in which the first rows of a list can be split, and which of their cells are files on the disk."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import islice
from pathlib import Path

from grafiqs.datasets.folders import is_there
from grafiqs.disk.delimited import FIRST_BLANK, LAST_BLANK, SPLITS, TableError, TextTable
from grafiqs.disk.names import EXTENSIONS, extension, shown

PATHS = ("path", "file", "filename", "file_name", "image", "image_path", "image_id", "img", "name")
"""What tables call the column of the paths, in lower case, with underscores for blanks and hyphens."""

IDENTITIES = ("identity", "id", "label", "class", "person", "subject", "name_id")
"""What they call that of the identities."""

_LOOKED_AT = (100, 10_000)
"""How many rows are looked at to tell the columns; the second number if none of the first names a file."""


@dataclass(frozen=True)
class Wanted:
    """What the user says of a list: the columns of paths and identities, each by name, by number from 1, or not.

    `lst` says that it is one of insightface's or MXNet's .lst, `flat` that identities do not matter, and `depth` the
    level of the folders that are identities.
    """

    path: str | None = None
    identity: str | None = None
    lst: bool = False
    flat: bool = False
    depth: int | None = None

    @property
    def names(self) -> set[str]:
        """The columns that are given by name, as names are compared."""
        return {plain(name) for name in (self.path, self.identity) if name is not None and not name.isdecimal()}


NOTHING = Wanted()
"""What the user says who says nothing."""


@dataclass
class Reading:
    """One way to read the first rows: the cells of each line, and by line the path that is a file there."""

    split: str
    header: tuple[str, ...]
    rows: dict[int, list[str]]
    error: TableError | None
    hits: dict[int, dict[int, str]] = field(default_factory=dict)
    """By column: the paths that are files, by line."""

    @property
    def best(self) -> dict[int, str]:
        """The paths of the column with most files."""
        return max(self.hits.values(), key=len, default={})


def readings(table: TextTable, root: Path, wanted: Wanted) -> list[Reading]:
    """The first rows in every way of splitting them; more rows if none of the first names a file."""
    there = cache(partial(is_there, root))
    for count in _LOOKED_AT:
        found = [_look(table, split, count, there, wanted) for split in SPLITS]
        if any(reading.hits for reading in found) or all(len(reading.rows) < count for reading in found):
            break
    return found


def _look(table: TextTable, split: str, count: int, there: Callable[[str], bool], wanted: Wanted) -> Reading:
    """The first `count` rows, split in one way."""
    rows: dict[int, list[str]] = {}
    error = None
    try:
        rows.update(islice(table.rows(split), count + 1))
    except TableError as stopped:
        error = stopped
    header: tuple[str, ...] = ()
    if rows and split not in (FIRST_BLANK, LAST_BLANK):
        line, cells = next(iter(rows.items()))
        known = wanted.names or PATHS
        if any(plain(cell) in known and not there(cell) for cell in cells):
            header = tuple(cell.strip() for cell in rows.pop(line))
    reading = Reading(split, header, rows, error)
    for line, cells in rows.items():
        for column, cell in enumerate(cells):
            if there(cell):
                reading.hits.setdefault(column, {})[line] = cell
    return reading


def why_none(readings: list[Reading], root: Path, wanted: Wanted) -> str:
    """What to say of a list that names no file."""
    headed = next((reading for reading in readings if reading.header), None)
    commas = next(reading for reading in readings if reading.split == ",")
    chosen = headed or commas
    if not chosen.rows and chosen.error is not None:
        return str(chosen.error)
    if not chosen.rows:
        return "names no image in its 0 lines: check --image-path"
    line, cells = next(iter(chosen.rows.items()))
    if wanted.names and headed is None:
        return f"has no column {shown(min(wanted.names))}: its first line is {quoted(cells)}"
    if kind := _lfw(readings):
        return kind
    places = [place for place, name in enumerate(chosen.header) if plain(name) in (wanted.names or PATHS)]
    if wanted.path is not None and wanted.path.isdecimal():
        places = [int(wanted.path) - 1]
    cell = cells[min(places[0] if places else 0, len(cells) - 1)]
    looked = f"{shown(os.path.join(root, cell))[:300]}"
    if is_elsewhere(cell):
        instead = "a path with a drive of Windows or of the web is not one here: write paths relative to the data set"
    elif bare := next((kind for kind in ("jpg", "png", "jpeg") if is_there(root, f"{cell}.{kind}")), None):
        instead = f"it is there with the extension .{bare}: write it, too"
    else:
        instead = (
            "a list has a path a line, or path and identity, or a header such as path,identity: say with --root where "
            "its paths begin, or with --path-column which column has them"
        )
    return (
        f"names no file in its first {len(chosen.rows):,} lines. Line {line} is {quoted(cells)}, which was looked for "
        f"as {looked}: {instead}"
    )


def is_elsewhere(path: str) -> bool:
    """Whether a path begins with a drive of Windows, or is of the web."""
    return re.match(r"[A-Za-z]:[\\/]|[A-Za-z][A-Za-z0-9+.-]*://|\\\\", path) is not None


def _lfw(readings: list[Reading]) -> str | None:
    """What to say if it is one of LFW's lists, which name people and numbers."""
    for reading in readings:
        rows = list(reading.rows.values())
        body = rows[1:] if rows and all(cell.isdecimal() for cell in rows[0]) else rows
        if not body or reading.split not in ("\t", " ", ","):
            continue
        if all(len(cells) in (3, 4) and cells[1].isdecimal() and cells[-1].isdecimal() for cells in body):
            return (
                "has comparisons, as LFW's pairs.txt: names and numbers of images. Pairs are for 'grafiqs "
                "evaluate --pairs'; a data set is the folder of the images"
            )
        if all(len(cells) == 2 and cells[1].isdecimal() and not names_an_image(cells, 0) for cells in body):
            return (
                "has names and numbers, as LFW's people.txt has people and how many images each has: no files. A data "
                "set is the folder of the images"
            )
    return None


def two_ways(line: int, first: Reading, other: Reading) -> TableError:
    """What to raise for a line that another way of splitting makes another file, or another identity, of."""
    ways = " and by ".join(SPLITS[reading.split] for reading in (first, other))
    if line not in first.best:
        one, another = (SPLITS[reading.split] for reading in (first, other))
        return TableError(
            f"line {line} names a file by {another}, and most others by {one}: separate all of them alike"
        )
    return TableError(
        f"line {line} can be split by {ways}, and names a file either way: put paths that hold a separator in quotes, "
        "or give the list a header such as path,identity"
    )


def names_an_image(cells: list[str], path: int) -> bool:
    """Whether the cell of a column ends as the name of an image does."""
    return path < len(cells) and extension(cells[path].replace("\\", "/")) in EXTENSIONS


def plain(name: str) -> str:
    """The name of a column as names are compared."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def listed(header: tuple[str, ...]) -> str:
    """The columns of a header, for a message."""
    return f"has the columns {', '.join(map(shown, header))}"


def quoted(cells: list[str]) -> str:
    """A row as people recognise it."""
    return repr(shown(", ".join(cells))[:200])
