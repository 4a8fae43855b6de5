"""A table of paths and scores, as any method's authors write it: lines "path score", or CSV."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grafiqs.backbones.catalogue import DIRECTIONS, QUALITIES, QUALITY
from grafiqs.calibration.reference import Reference
from grafiqs.datasets.readings import PATHS, plain
from grafiqs.datasets.samples import COLUMNS as SAMPLE
from grafiqs.disk import files
from grafiqs.disk.delimited import LAST_BLANK, TableError, TextTable
from grafiqs.disk.names import shown, without_extension
from grafiqs.errors import RequestError

_SPLITS = (",", ";", "\t", LAST_BLANK)

_MISSING = frozenset(("", "-", "nan", "na", "n/a", "none", "null"))
"""What stands where a sample has no score."""

_QUALITIES = dict.fromkeys((*QUALITIES.values(), QUALITY), "higher")

_KNOWN = {**DIRECTIONS, **_QUALITIES}
"""The directions of all columns of a run's scores.csv."""

_INDICES = ("index", "idx", "id", "no", "row", "number", "unnamed: 0")
"""What columns are called that number the rows."""

_FIELD = "GraFIQs_"
"""How the name of a run's own text files begins; then comes that of the score."""

_LOOKED_AT = 100
"""Lines that tell how they are split."""

_FORM = "a path and a score a line, or columns with names, one of which is a path"


@dataclass(frozen=True)
class ScoreTable:
    """Paths, and columns of scores by name: NaN where a sample has none. `directions` are those that are known.

    `identities` are those of the samples, if the table has them; `said` is what was left out; `qualities` are the
    columns that hold a run's scores once more, rounded to a quality; `reference` makes qualities of the others.
    """

    paths: list[str]
    columns: dict[str, NDArray[np.float64]]
    identities: Sequence[str | None] | None = None
    directions: Mapping[str, str] = field(default_factory=dict)
    said: str = ""
    qualities: AbstractSet[str] = frozenset()
    reference: Reference | None = None


def read_scores(place: Path) -> ScoreTable:
    """Read a table of scores. Raises RequestError when it is none, or has a score that is not finite."""
    try:
        table = TextTable(lambda: files.opened(place))
        split = max(_SPLITS, key=lambda split: _fitting(table, split))
        if not _fitting(table, split):
            raise TableError(f"is not a table of scores: {_FORM}")
        rows = list(table.rows(split))
        return _table([cell.strip() for cell in rows[0][1]], rows, place)
    except IsADirectoryError as error:
        raise RequestError(f"{shown(place)} is a folder, and not one of a run: give run folders or tables") from error
    except (TableError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RequestError(f"cannot read the scores {shown(place)}: {reason}") from error


def _fitting(table: TextTable, split: str) -> int:
    """How many of the first lines have a path and a number when they are split so."""
    found = 0
    try:
        for _, cells in islice(table.rows(split), _LOOKED_AT):
            numbers = sum(_number(cell) is not None for cell in cells)
            found += len(cells) > 1 and 0 < numbers < len(cells)
    except TableError:
        pass
    return found


def _table(head: list[str], rows: list[tuple[int, list[str]]], place: Path) -> ScoreTable:
    """The table that rows make, of which the first may be names of columns. Raises TableError if they make none."""
    named = _is_header(head)
    body, width = rows[1:] if named else rows, len(head)
    for line, cells in body:
        if len(cells) != width:
            raise TableError(f"line {line} has {len(cells)} columns instead of {width}")
    if not body:
        raise TableError(f"has names of columns alone: {_FORM}")
    names = [plain(name) for name in head] if named else [""] * width
    cells_of = [[cells[column] for _, cells in body] for column in range(width)]
    numeric = [column for column in range(width) if _is_numeric(cells_of[column])]
    path = _path_column(names, numeric, width) if named else _only([n for n in range(width) if n not in numeric], width)
    there = [column for column in numeric if column != path and names[column] not in SAMPLE]
    scores = [column for column in there if not (named and _is_index(names[column], cells_of[column]))]
    if not named:
        scores = [column for column in there if not all(map(_is_missing, cells_of[column]))]
    if not scores or (not named and len(scores) > 1):
        raise TableError(f"has {width} columns, and which are scores cannot be told: {_FORM}")
    known = place.stem.removeprefix(_FIELD) if place.stem.startswith(_FIELD) and not named else "score"
    values = {head[column] if named else known: _scores(body, column) for column in scores}
    is_ours = set(SAMPLE) <= set(head) or known in DIRECTIONS
    left_out = [head[column] or "without a name" for column in there if column not in scores] if named else []
    return ScoreTable(
        cells_of[path],
        values,
        _identities(cells_of[names.index("identity")], blank=is_ours) if "identity" in names else None,
        {name: _KNOWN[name] for name in values if is_ours and name in _KNOWN},
        f"; left out as no score: the column {', '.join(map(shown, left_out))}" if left_out else "",
        values.keys() & _QUALITIES.keys() if is_ours else frozenset(),
    )


def _is_header(head: list[str]) -> bool:
    """Whether a first line names columns: one of them the path, or none of its cells is a number, a file or missing."""
    if any(plain(cell) in PATHS for cell in head) or (len(head) > 1 and not head[0]):
        return True
    return all(_number(cell) is None and "/" not in cell and without_extension(cell) == cell for cell in head)


def _identities(cells: Sequence[str], *, blank: bool) -> list[str | None]:
    """The identities in a column; None where there is none. In tables of ours, "" is the unnamed one."""
    return [None if _is_missing(cell) and not (blank and not cell) else cell for cell in cells]


def _path_column(names: Sequence[str], numeric: Sequence[int], width: int) -> int:
    known = [column for column in range(width) if names[column] in PATHS and column not in numeric]
    exact = [column for column in known if names[column] == PATHS[0]]
    words = [column for column in range(width) if column not in numeric and names[column] not in SAMPLE[:2]]
    return _only(exact or known or words, width)


def _only(columns: Sequence[int], width: int) -> int:
    if len(columns) != 1:
        raise TableError(f"has {width} columns, and which of them is the path cannot be told: {_FORM}")
    return columns[0]


def _is_numeric(cells: Sequence[str]) -> bool:
    """Whether cells are numbers as a rule, some or all perhaps missing."""
    there = [cell for cell in cells if not _is_missing(cell)]
    return 2 * sum(_number(cell) is not None for cell in there) > len(there) or not there


def _is_index(name: str, cells: Sequence[str]) -> bool:
    """Whether a column numbers the rows, as pandas writes one: it has no name, or such a name and counts."""
    first = cells[0].strip()
    counts = first in ("0", "1") and all(
        cell.strip() == str(number) for number, cell in enumerate(cells, start=int(first))
    )
    return not name or (counts and name in _INDICES)


def _scores(body: Sequence[tuple[int, list[str]]], column: int) -> NDArray[np.float64]:
    found = np.empty(len(body))
    for row, (line, cells) in enumerate(body):
        number = _number(cells[column])
        if number is None:
            raise TableError(f"line {line} has no number where the score stands: {shown(repr(cells[column]))}")
        if math.isinf(number):
            raise TableError(f"line {line} has a score without end ({shown(cells[column])}): write nan if it has none")
        found[row] = number
    return found


def _number(text: str) -> float | None:
    """The number that a cell holds: NaN if it is missing, None if it is something else."""
    if _is_missing(text):
        return math.nan
    try:
        return float(text)
    except ValueError:
        return None


def _is_missing(text: str) -> bool:
    return text.strip().lower() in _MISSING
