"""How a table of landmarks is read: which of its columns are the points, in which order; and its rows.

The forms that are known: columns with names (those of an align.csv, CelebA's, VGGFace2's), and a path and numbers
without names (insightface's and IJB-C's), in which the points are where numbers lie as those of faces do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from grafiqs.datasets.readings import PATHS, plain
from grafiqs.disk.delimited import SPLITS, TableError, TextTable
from grafiqs.disk.names import shown
from grafiqs.faces.face import BOX
from grafiqs.faces.template import LANDMARKS

LIKE_A_FACE = 14.0
"""Landmarks that lie farther from the template are not a face's.

Those of 1,580 photos of LFW lie up to 12.9 pixels off, those of a head turned until both eyes nearly meet 13.5, points
on a line 14.9, and with right and left exchanged 18.6 or more (2026-11-25).
"""

_LOOKED_AT = 100
"""Rows that are looked at to tell the columns."""

_BESIDE = 7
"""The most numbers that a row may have beside the points: insightface's have a flag, a label and a box."""

_SPLITS = (",", ";", "\t", " ")
_PATHS = (*PATHS, "name_id")
_PARTS = {"lefteye": 1, "eyeleft": 1, "righteye": 2, "eyeright": 2, "nose": 3, "nosetip": 3,
          "leftmouth": 4, "mouthleft": 4, "rightmouth": 5, "mouthright": 5}  # fmt: skip
"""What tables call the points, without underscores."""

_SIXTY_EIGHT = ((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47), (30,), (48,), (54,))
"""Which of iBUG's 68 points, from 0 on, are the eyes, each the mean of its outline, nose tip and corners of the mouth.

Source: Sagonas et al., "300 Faces In-the-Wild Challenge", Image and Vision Computing 2016.
"""


@dataclass(frozen=True)
class Row:
    """A row of the table: the path, and the points (5, 2), or why there are none; box and score if it has them."""

    path: str
    points: NDArray[np.float64] | None
    box: tuple[float, ...] | None = None
    reason: str = ""


@dataclass(frozen=True)
class LandmarkColumns:
    """Where the columns stand: `points` are those of x1, y1, x2, ... , of five points or 68; `rows_from` is a line."""

    split: str
    rows_from: int
    path: int
    points: tuple[int, ...]
    named: bool
    box: tuple[int, ...] = ()

    def __str__(self) -> str:
        """In words, for the log."""
        count = len(self.points) // 2
        order = (
            "by name"
            if self.named
            else "x and y in turn"
            if self.points[1] == self.points[0] + 1
            else "all x, then all y"
        )
        last = max(self.points) + 1
        places = f"columns {min(self.points) + 1} to {last} ({order})"
        return f"path = column {self.path + 1}, {count} points = {places}, separated by {SPLITS[self.split]}"

    def rows(self, table: TextTable) -> Iterator[Row]:
        """Every row that has a path. Raises TableError when the text itself cannot be read."""
        for line, cells in table.rows(self.split):
            if line < self.rows_from:
                continue
            if len(cells) <= self.path or len(cells) <= max(self.points):
                path = cells[self.path] if len(cells) > self.path else ""
                yield Row(path, None, reason=f"line {line} of the table of landmarks has {len(cells)} columns")
                continue
            numbers = [_number(cells[column]) for column in self.points]
            if not all(map(math.isfinite, numbers)):
                wrong = next(
                    cells[column]
                    for column, number in zip(self.points, numbers, strict=True)
                    if not math.isfinite(number)
                )
                reason = f"line {line} of the table of landmarks has no number: {shown(repr(wrong))}"
                yield Row(cells[self.path], None, reason=reason)
                continue
            box = tuple(_number(cells[column]) for column in self.box if column < len(cells))
            complete = len(box) == len(BOX) and all(map(math.isfinite, box))
            yield Row(cells[self.path], five(np.array(numbers).reshape(1, -1, 2))[0], box if complete else None)


def told(table: TextTable) -> LandmarkColumns:
    """How a table is read. Raises TableError, whose message goes on after the table's name, when it cannot be told."""
    every = {split: _first_rows(table, split) for split in _SPLITS}
    split = max(_SPLITS, key=lambda split: sum(_numbers(cells) >= 10 for _, cells in every[split][0]))
    rows, error = every[split]
    if error is not None and len(rows) < 2:
        raise error
    if rows and len(rows[0][1]) == 1 and _numbers(rows[0][1]) == 1:
        rows = rows[1:]  # how many rows follow, as in CelebA's
    if not rows:
        raise TableError("has no rows")
    line, first = rows[0]
    data = [cells for _, cells in rows if _numbers(cells) >= 10]
    known = [name for name in map(plain, first) if name in _PATHS or _coordinate(name) is not None]
    if known and _numbers(first) == 0 and len(first) > 1:
        if len(rows) == 1:
            raise TableError("has no rows")
        width = max(map(len, data), default=len(first))
        names = ["path"] * (width == len(first) + 1) + first  # CelebA's names its paths nothing
        return _by_name(names, split, rows[1][0])
    if not data:
        raise TableError(
            f"line {line} has neither names of columns nor a path and ten numbers: {shown(', '.join(first))[:100]!r}"
        )
    width = max(set(map(len, data)), key=[len(cells) for cells in data].count)
    data = [cells for cells in data if len(cells) == width]
    words = [column for column in range(width) if not all(math.isfinite(_number(cells[column])) for cells in data)]
    if len(words) > 1:
        raise TableError(f"has {len(words)} columns that are not numbers: name them in a header")
    path = words[0] if words else 0
    return LandmarkColumns(split, line, path, _by_fit(data, path, width), named=False)


def five(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The eyes, the nose tip and the corners of the mouth (N, 5, 2) of faces of five or 68 points."""
    if points.shape[1] == len(LANDMARKS):
        return points
    return np.stack([points[:, own].mean(axis=1) for own in map(list, _SIXTY_EIGHT)], axis=1)


def off_template(faces: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far faces (N, 5, 2) lie from the template when each is brought nearest to it, in pixels of the crop (RMS).

    Points that all coincide lie nowhere: 0, which `cut_out` reports.
    """
    source, target = faces @ (1, 1j), LANDMARKS @ (1, 1j)
    target = target - target.mean()
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # of numbers that lie in no picture
        spread = source - source.mean(axis=1, keepdims=True)
        explained = np.abs(spread.conj() @ target) ** 2 / (np.abs(spread) ** 2).sum(axis=1)
        rest = (np.abs(target) ** 2).sum() - explained
    found = np.sqrt(np.maximum(rest, 0) / len(LANDMARKS))
    return np.where(np.isnan(found), 0.0, found)


def _first_rows(table: TextTable, split: str) -> tuple[list[tuple[int, list[str]]], TableError | None]:
    """The first rows, up to one that cannot be read, and why."""
    rows: list[tuple[int, list[str]]] = []
    try:
        rows.extend(islice(table.rows(split), _LOOKED_AT))
    except TableError as error:
        return rows, error
    return rows, None


def _by_name(names: list[str], split: str, rows_from: int) -> LandmarkColumns:
    """The columns of a table whose first row names them."""
    known = [plain(name) for name in names]
    paths = [column for column, name in enumerate(known) if name in _PATHS]
    exact = [column for column in paths if known[column] == PATHS[0]] or paths
    if len(exact) != 1:
        raise TableError(
            f"has {'no column' if not exact else 'more than one column'} of paths among {', '.join(map(shown, names))}"
        )
    places: dict[tuple[int, str], int] = {}
    for column, name in enumerate(known):
        coordinate = _coordinate(name)
        if coordinate is not None and places.setdefault(coordinate, column) != column:
            raise TableError(f"has two columns {shown(names[column])}")
    numbers = {number for number, _ in places}
    start = min(numbers, default=1)
    count = len(numbers)
    missing = [
        f"{axis}{number}"
        for number in range(start, max(numbers, default=5) + 1)
        for axis in "xy"
        if (number, axis) not in places
    ]
    if missing or (count not in (5, 68)):
        if count > 5:
            raise TableError(
                f"names {count} points a face, and those of five (eyes, nose tip, corners of the mouth) or 68 are read"
            )
        wanted = missing or [
            f"{axis}{number}" for number in range(1, 6) for axis in "xy" if (number, axis) not in places
        ]
        raise TableError(f"has no column {', '.join(wanted)}")
    points = tuple(places[number, axis] for number in range(start, start + count) for axis in "xy")
    box = tuple(known.index(name) for name in BOX) if set(BOX) <= set(known) else ()
    return LandmarkColumns(split, rows_from, exact[0], points, True, box)


def _coordinate(name: str) -> tuple[int, str] | None:
    """Which point's x or y a column is called after: x1, P1X, landmark_1_x, lefteye_x."""
    word = name.replace("_", "")
    if match := re.fullmatch(r"(?:p|point|lm|landmark)?(\d{1,3})([xy])|(?:p|point|lm|landmark)?([xy])(\d{1,3})", word):
        number, axis = (match[1], match[2]) if match[1] else (match[4], match[3])
        return int(number), axis
    return (_PARTS[word[:-1]], word[-1]) if word[:-1] in _PARTS and word[-1] in "xy" else None


def _by_fit(data: list[list[str]], path: int, width: int) -> tuple[int, ...]:
    """The columns of the points of a table without names: where its numbers lie as faces do, and nowhere else."""
    columns = [column for column in range(width) if column != path]
    values = np.array([[_number(cells[column]) for column in columns] for cells in data])
    extra = [len(columns) - 2 * count for count in (5, 68)]
    counts = [count for count, more in zip((5, 68), extra, strict=True) if 0 <= more <= _BESIDE]
    ways: dict[tuple[int, ...], float] = {}
    for count in counts:
        for start in range(len(columns) - 2 * count + 1):
            own = range(start, start + 2 * count)
            for places in (tuple(own), tuple(own[axis * count + point] for point in range(count) for axis in (0, 1))):
                faces = five(values[:, places].reshape(len(values), count, 2))
                ways[places] = float(np.median(off_template(faces)))
    best = min(ways, key=lambda places: ways[places], default=())
    if ways and ways[best] > LIKE_A_FACE and len(columns) == 10:
        best = tuple(range(10))  # five points all the same, if of no face: what is wrong with them is said later
    elif not ways or ways[best] > LIKE_A_FACE:
        raise TableError(
            f"has a path and {len(columns)} numbers a row, which do not lie like the five points of a face, nor like "
            "68 (x and y in turn, or all x and then all y): name its columns path, x1, y1 to x5, y5"
        )
    return tuple(columns[place] for place in best)


def _numbers(cells: list[str]) -> int:
    return sum(math.isfinite(_number(cell)) for cell in cells)


def _number(text: str) -> float:
    """A finite number, or NaN."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
