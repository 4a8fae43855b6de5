"""How a list of images is read: which of its columns names the files, and which the identities.

Nothing says so but the list itself: known names in its first row, and which cells are files on the disk. What can be
read in two ways, or in none, is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

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

_WHOLE_NUMBER = re.compile(r"(\d+)(\.0+)?")
_BY_HAND = "say which columns are meant with --path-column and --identity-column, by name or by number from 1"


@dataclass(frozen=True)
class Columns:
    """How the rows of a list are read. Columns count from 0; `identity` is None if the folders name the identities.

    `width` is the number of cells of every row, None for one or two. Identities in `whole_numbers` stand as 3.000000.
    """

    split: str
    header: tuple[str, ...]
    width: int | None
    path: int
    identity: int | None
    whole_numbers: bool = False

    def __str__(self) -> str:
        """In words, for the log."""
        if self.identity is None and not self.header and self.width in (None, 1):
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

    def rows(self, table: TextTable) -> Iterator[tuple[int, str, str | None]]:
        """Every image of the list: its line, its path, and its identity, or None if it has none.

        Raises TableError at a line that is not like the others.
        """
        rows = table.rows(self.split)
        if self.header:
            next(rows)
        for line, cells in rows:
            if self.width is None and len(cells) <= 2:
                yield line, cells[0], (cells[1] if len(cells) == 2 else "") or None
            elif len(cells) != self.width:
                wanted = self.width or "path, or path,identity"
                like = ", like the first" if self.header else ""
                raise TableError(f"line {line} has {len(cells)} columns instead of {wanted}{like}")
            elif self.identity is None:
                yield line, cells[self.path], None
            else:
                yield line, cells[self.path], self._named(cells[self.identity], line)

    def _named(self, cell: str, line: int) -> str:
        if not self.whole_numbers:
            return cell
        if not (number := _WHOLE_NUMBER.fullmatch(cell)):
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
    told: list[tuple[Reading, Columns]] = []
    problems: list[TableError] = []
    for reading in hitting:
        if len(reading.best) == best:
            try:
                told.append((reading, _columns(reading, wanted)))
            except TableError as problem:
                problems.append(problem)
    if not told:
        raise problems[0]
    first, columns = told[0]
    said = _said(first, columns)
    for other in hitting:
        for line, path in other.best.items():
            if line in first.best and path != first.best[line]:
                raise two_ways(line, first, other)
    for other, others in told[1:]:
        for line, named in _said(other, others).items():
            if line not in said and first.error is not None:
                raise first.error
            if said.get(line) != named:
                raise two_ways(line, first, other)
    return columns


def _columns(reading: Reading, wanted: Wanted) -> Columns:
    """The columns of the rows, split in one way. Raises TableError when they cannot be told."""
    header = reading.header
    widths = {len(cells) for cells in reading.rows.values()}
    width: int | None = len(header) or max(widths)
    path = _path_column(reading) if wanted.path is None else _named_column(reading, wanted.path, "--path-column")
    line, cells = next(iter(reading.rows.items()))
    if reading.split in (FIRST_BLANK, LAST_BLANK) and len(reading.best) < len(reading.rows):
        missing = next(line for line in reading.rows if line not in reading.best)
        raise TableError(
            f"line {missing} names no file if it is split at {SPLITS[reading.split]}, and paths that hold blanks "
            "can be told from identities by their files alone: separate them by commas or tabs"
        )
    if not header and line not in reading.hits.get(path, {}) and not names_an_image(cells, path):
        if wanted.path is None:
            raise TableError(
                f"line {line} names no file, {quoted(cells)}, while later lines do: if it is a header, {_BY_HAND}; if "
                "it is not, take it out"
            )
        header = tuple(cell.strip() for cell in cells)
    identity: int | None = None
    if wanted.identity is not None:
        if wanted.identity != _BY_FOLDERS:
            identity = _named_column(reading, wanted.identity, "--identity-column")
    elif not wanted.flat and header:
        identity = _identity_by_name(header, path)
    elif not wanted.flat:
        identity = _identity_by_place(reading, path, wanted.lst)
        if reading.split == "," and widths <= {1, 2} and path == 0:
            width = None
    own = [cells[identity] for cells in reading.rows.values() if identity is not None and len(cells) > identity]
    whole = bool(own) and all(map(_WHOLE_NUMBER.fullmatch, own)) and any("." in cell for cell in own)
    if own and not whole and not header and wanted.identity is None and all(map(_is_number, own)):
        fraction = next((cell for cell in own if not _WHOLE_NUMBER.fullmatch(cell)), None)
        if fraction is not None:
            raise TableError(
                f"has numbers such as {shown(fraction)} beside its paths, which look like scores and not like "
                "identities: take them out, or say with --identity-column what names the identities (0: the folders)"
            )
    return Columns(reading.split, header, width, path, identity, whole)


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
                f"names files in its columns {numbers}: a list of pairs is not a data set ('grafiqs evaluate --pairs' "
                f"takes one); if it is one, {_BY_HAND}"
            )
        return next(iter(reading.hits))
    files = [
        place for place, name in enumerate(reading.header) if plain(name) in PATHS and len(reading.hits.get(place, ()))
    ]
    exact = [place for place in files if plain(reading.header[place]) == PATHS[0]]
    if len(exact or files) != 1:
        raise TableError(f"{listed(reading.header)}, and which of them names the files cannot be told: {_BY_HAND}")
    return (exact or files)[0]


def _identity_by_name(header: tuple[str, ...], path: int) -> int | None:
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
    return (exact or named)[0]


def _identity_by_place(reading: Reading, path: int, lst: bool) -> int | None:
    """The column of the identities of a list without a header; None if there is no column but the path's."""
    widths = {len(cells) for cells in reading.rows.values()}
    width = max(widths)
    if width == 1:
        return None
    if width == 2:
        return 1 - path
    if len(widths) == 1:
        if lst and path == 1:  # insightface: flag, path, label, and perhaps box and landmarks
            return 2
        if lst and (width, path) == (3, 2):  # MXNet's im2rec: index, label, path
            return 1
        if width == 3:
            others = [column for column in range(width) if column != path]
            named = [column for column in others if not _counts(reading, column)]
            if len(named) == 1:
                return named[0]
    number = f"{width}" if len(widths) == 1 else f"{min(widths)} to {width}"
    raise TableError(
        f"has {number} columns without names, and which of them holds the identities cannot be told: {_BY_HAND}"
    )


def _counts(reading: Reading, column: int) -> bool:
    """Whether a column holds an index, or one flag: whole numbers, all different or all the same."""
    own = [cells[column] for cells in reading.rows.values()]
    return len(own) > 1 and all(cell.isdecimal() for cell in own) and len(set(own)) in (1, len(own))


def _said(reading: Reading, columns: Columns) -> dict[int, tuple[str, str | None]]:
    """Path and identity of the rows that were looked at, by line."""
    skipped = 1 if columns.header and not reading.header else 0
    return {
        line: (
            cells[columns.path] if columns.path < len(cells) else "",
            cells[columns.identity] if columns.identity is not None and columns.identity < len(cells) else None,
        )
        for line, cells in islice(reading.rows.items(), skipped, None)
    }


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
