"""How a list of images is read: which of its columns names the files, and which the identities.

Nothing says so but the list itself: known names in its first row, and which cells are files on the disk. What can be
read in two ways, or in none, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from grafiqs.datasets.readings import (
    IDENTITIES,
    PATHS,
    Reading,
    Wanted,
    listed,
    names_an_image,
    plain,
    quoted,
    readings,
    two_ways,
    why_none,
)
from grafiqs.disk.delimited import FIRST_BLANK, LAST_BLANK, SPLITS, TableError, TextTable
from grafiqs.disk.names import shown

_BY_FOLDERS = "0"
"""What --identity-column is if the folders of the paths name the identities."""

_OWN = ("identity", "sample", "path")
"""How the tables begin that this package writes: in them, samples have names."""

_MISSING = ("", "nan")
"""Cells of numbers that are none, as pandas writes them."""

_COUNTING = 3
"""From so many rows on, a column `id` that counts them names no identities."""

_WHOLE_NUMBER = re.compile(r"(\d+)(\.0+)?")
_BY_HAND = "say which columns are meant with --path-column and --identity-column, by name or by number from 1"


class Row(NamedTuple):
    """One image of a list: its line, its path, its identity, None if it has none, and its name in our own tables."""

    line: int
    path: str
    identity: str | None
    sample: str | None = None


@dataclass(frozen=True)
class Columns:
    """How the rows of a list are read. Columns count from 0; `identity` is None if the folders name the identities.

    `width` is the number of cells of every row. Identities in `whole_numbers` stand as 3.000000. `images` says that all
    the files that were looked at are called as images are.
    """

    split: str
    header: tuple[str, ...]
    width: int
    path: int
    identity: int | None
    whole_numbers: bool = False
    images: bool = False

    def __str__(self) -> str:
        """In words, for the log."""
        if self.identity is None and not self.header and self.width == 1:
            return "a path a line"
        parts = [f"path = {self._column(self.path)}"]
        if self.identity is not None:
            whole = ", a whole number" if self.whole_numbers else ""
            parts.append(f"identity = {self._column(self.identity)}{whole}")
        if self.width != 1:
            parts.append(f"separated by {SPLITS[self.split]}")
        return ", ".join(parts)

    def _column(self, number: int) -> str:
        name = f" `{shown(self.header[number])}`" if self.header else ""
        return f"column {number + 1}{name}"

    def rows(self, table: TextTable) -> Iterator[Row]:
        """Every image of the list. Raises TableError at a line that is not like the others."""
        rows = table.rows(self.split)
        if self.header:
            next(rows)
        own = tuple(map(plain, self.header[: len(_OWN)])) == _OWN and self.identity == 0
        for line, cells in rows:
            if len(cells) != self.width:
                like = ", like the first" if self.header else ""
                raise TableError(f"line {line} has {len(cells)} columns instead of {self.width}{like}")
            named = None if self.identity is None else self._named(cells[self.identity], line)
            yield Row(line, cells[self.path], named, cells[1] if own else None)

    def _named(self, cell: str, line: int) -> str:
        if not self.whole_numbers:
            return cell
        if cell.strip().lower() in _MISSING:
            return ""
        if not (number := _WHOLE_NUMBER.fullmatch(cell.strip())):
            raise TableError(f"line {line} has the identity {shown(cell)}, where the first lines have whole numbers")
        return number[1]


def tell(table: TextTable, root: Path, wanted: Wanted) -> Columns | None:
    """How to read a list whose paths begin at `root`; None if it has no rows.

    Raises TableError when that cannot be told; its message goes on after the list's name.
    """
    found = readings(table, root, wanted)
    # One blank separates only if nothing else finds as many files.
    most = max((len(reading.best) for reading in found if reading.split not in (FIRST_BLANK, LAST_BLANK)), default=0)
    best = max(len(reading.best) for reading in found)
    hitting = [
        reading for reading in found if reading.hits and (best > most or reading.split not in (FIRST_BLANK, LAST_BLANK))
    ]
    if not hitting:
        if not any(reading.rows or reading.error for reading in found):
            return None
        raise TableError(why_none(found, root, wanted))
    fullest = next(reading for reading in hitting if len(reading.best) == best)
    for other in hitting:
        for line, path in other.best.items():
            if path != fullest.best.get(line):
                raise two_ways(line, fullest, other)
    told: list[tuple[Reading, Columns]] = []
    problems: list[TableError] = []
    for reading in hitting:
        if len(reading.best) == best:
            try:
                headed = _headed(reading, wanted)
                told.append((headed, _columns(headed, wanted)))
            except TableError as problem:
                problems.append(problem)
    if not told:
        raise problems[0]
    first, columns = told[0]
    said = _said(first, columns)
    for other, others in told[1:]:
        for line, named in _said(other, others).items():
            if line not in said and first.error is not None:
                raise first.error
            if said.get(line) != named:
                raise two_ways(line, first, other)
    return columns


def _headed(reading: Reading, wanted: Wanted) -> Reading:
    """The rows, split in one way, without a first row that names columns nobody knows, but for their numbers.

    Raises TableError when that row cannot be told, or the files do not tell the split.
    """
    if reading.split in (FIRST_BLANK, LAST_BLANK) and len(reading.best) < len(reading.rows):
        missing = next(line for line in reading.rows if line not in reading.best)
        raise TableError(
            f"line {missing} names no file if it is split at {SPLITS[reading.split]}, and paths that hold blanks "
            "can be told from identities by their files alone: separate them by commas or tabs"
        )
    path = _path(reading, wanted)
    (line, cells), *rest = reading.rows.items()
    if reading.header or line in reading.hits.get(path, {}) or names_an_image(cells, path):
        return reading
    if wanted.path is None:
        raise TableError(
            f"line {line} names no file, {quoted(cells)}, while later lines do: if it is a header, {_BY_HAND}; if it "
            "is not, take it out"
        )
    return replace(reading, header=tuple(cell.strip() for cell in cells), rows=dict(rest))


def _columns(reading: Reading, wanted: Wanted) -> Columns:
    """The columns of the rows, split in one way. Raises TableError when they cannot be told."""
    rows = list(reading.rows.values())
    path, identity = _path(reading, wanted), _identity(reading, wanted)
    own = [cells[identity].strip() for cells in rows if identity is not None and identity < len(cells)]
    own = [cell for cell in own if cell.lower() not in _MISSING]
    told_by_place = not reading.header and wanted.identity is None
    if told_by_place and not own:
        identity = None  # a separator behind every path, and nothing behind that
    whole = bool(own) and all(map(_WHOLE_NUMBER.fullmatch, own)) and any("." in cell for cell in own)
    if told_by_place and not whole and own and all(map(_is_number, own)):
        fraction = next((cell for cell in own if not _WHOLE_NUMBER.fullmatch(cell)), None)
        if fraction is not None:
            raise TableError(
                f"has numbers such as {shown(fraction)} beside its paths, which look like scores and not like "
                "identities: take them out, or say with --identity-column what names the identities (0: the folders)"
            )
    width = len(reading.header) or max(map(len, rows))
    images = all(names_an_image([found], 0) for found in reading.hits.get(path, {}).values())
    return Columns(reading.split, reading.header, width, path, identity, whole, images)


def _path(reading: Reading, wanted: Wanted) -> int:
    """The column of the paths."""
    return _path_column(reading) if wanted.path is None else _named_column(reading, wanted.path, "--path-column")


def _identity(reading: Reading, wanted: Wanted) -> int | None:
    """The column of the identities; None if the folders of the paths name them, or they do not matter."""
    if wanted.identity is not None:
        by_folders = wanted.identity == _BY_FOLDERS
        return None if by_folders else _named_column(reading, wanted.identity, "--identity-column")
    if wanted.flat:
        return None
    path = _path(reading, wanted)
    if reading.header:
        return _identity_by_name(reading.header, path, list(reading.rows.values()))
    return _identity_by_place(reading, path, wanted.lst)


def _named_column(reading: Reading, name: str, option: str) -> int:
    """The column that the user names, by name or number."""
    width = len(reading.header) or max(map(len, reading.rows.values()))
    if name.isdecimal():
        if not 1 <= int(name) <= width:
            raise TableError(f"has {width} columns: {option} {name} is not one of them")
        return int(name) - 1
    places = [place for place, known in enumerate(reading.header) if plain(known) == plain(name)]
    if len(places) != 1:
        count = "two columns" if places else "no column"
        columns = (
            listed(reading.header) if reading.header else f"begins with {quoted(next(iter(reading.rows.values())))}"
        )
        raise TableError(f"has {count} {shown(name)} for {option}: it {columns}")
    return places[0]


def _path_column(reading: Reading) -> int:
    """The column that names the files."""
    if not reading.header:
        if len(reading.hits) > 1:
            numbers = " and ".join(str(column + 1) for column in sorted(reading.hits))
            raise TableError(
                f"names files in its columns {numbers}: pairs are for 'grafiqs evaluate --pairs', and no data set; if "
                f"it is one, {_BY_HAND}"
            )
        return next(iter(reading.hits))
    files = [
        place for place, name in enumerate(reading.header) if plain(name) in PATHS and len(reading.hits.get(place, ()))
    ]
    exact = [place for place in files if plain(reading.header[place]) == PATHS[0]]
    if len(exact or files) != 1:
        raise TableError(f"{listed(reading.header)}, and which of them names the files cannot be told: {_BY_HAND}")
    return (exact or files)[0]


def _identity_by_name(header: tuple[str, ...], path: int, rows: list[list[str]]) -> int | None:
    """The column that a header names for the identities; None if there is no column but the path's."""
    if len(header) == 1:
        return None
    named = [place for place, name in enumerate(header) if plain(name) in IDENTITIES and place != path]
    exact = [place for place in named if plain(header[place]) == IDENTITIES[0]]
    if len(exact or named) != 1:
        which = "more than one of them may name" if named else "none of them is known to name"
        raise TableError(
            f"{listed(header)}, and {which} the identities: say it with --identity-column (0: the paths' folders)"
        )
    column = (exact or named)[0]
    own = [cells[column].strip() for cells in rows if column < len(cells)]
    counts = len(own) >= _COUNTING and own == [str(number) for number in _from(own[0], len(own))]
    if plain(header[column]) == "id" and counts:
        raise TableError(
            f"{listed(header)}, of which `{shown(header[column])}` counts the lines and names no identity: say what "
            "does with --identity-column (0: the paths' folders)"
        )
    return column


def _identity_by_place(reading: Reading, path: int, lst: bool) -> int | None:
    """The column of the identities of a list without a header; None if there is no column but the path's."""
    widths = {len(cells) for cells in reading.rows.values()}
    width = max(widths)
    if width == 1:
        return None
    if widths == {2}:
        return 1 - path
    if widths == {1, 2} and path == 0:
        alone = next(line for line, cells in reading.rows.items() if len(cells) == 1)
        raise TableError(f"line {alone} names no identity, and others do: give one to all of them, or to none")
    if len(widths) == 1 and lst:
        if path == 1:  # insightface: flag, path, label, and perhaps box and landmarks
            return 2
        if (width, path) == (3, 2):  # MXNet's im2rec: index, label, path
            return 1
    number = f"{width}" if len(widths) == 1 else f"{min(widths)} to {width}"
    raise TableError(
        f"has {number} columns without names, and which of them holds the identities cannot be told: {_BY_HAND}"
    )


def _from(first: str, count: int) -> range:
    """Whole numbers from one on; none if it is not one."""
    return range(int(first), int(first) + count) if first.isdecimal() and len(first) < 19 else range(0)


def _said(reading: Reading, columns: Columns) -> dict[int, tuple[str, str | None]]:
    """Path and identity of the rows that were looked at, by line."""
    return {
        line: (
            cells[columns.path] if columns.path < len(cells) else "",
            cells[columns.identity] if columns.identity is not None and columns.identity < len(cells) else None,
        )
        for line, cells in reading.rows.items()
    }


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
