"""The scores to be evaluated: of runs, and of any other method's tables; each knows which of its scores are better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grafiqs.datasets.readings import PATHS, plain
from grafiqs.disk import files
from grafiqs.disk.delimited import TableError, TextTable
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.evaluation.names import Names
from grafiqs.run.manifest import is_run
from grafiqs.run.results import Run, open_run

_SPLITS = (",", ";", "\t", " ")
_COLUMNS = (*PATHS, "sample", "identity")
"""What no score is called."""


@dataclass(frozen=True)
class Method:
    """One method's scores of samples: NaN where it has none. `direction` says which are better, as `edc` takes it."""

    name: str
    scores: NDArray[np.float64]
    direction: str


@dataclass(frozen=True)
class Samples:
    """The samples of an evaluation, and all that is known of them.

    `names` are their paths, `identities` theirs, as far as they are known ("" is the unnamed one), and `embeddings`
    (samples, size) with NaN where there is none. `pairs` are what the data set wants compared.
    """

    names: Names
    identities: list[str] | None
    methods: tuple[Method, ...]
    embeddings: NDArray[np.float32] | None
    pairs: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True)
class Table:
    """A table of paths and scores: columns of numbers by name."""

    paths: list[str]
    columns: dict[str, NDArray[np.float64]]
    identities: list[str] | None = None


def gathered(
    given: Mapping[str, Path], direction: str | None, embeddings: Path | None = None
) -> tuple[Samples, list[str]]:
    """The samples of all tables and runs that are given by name, and how each was read, a line each.

    The samples are those of the first, in its order. `direction` is that of tables, which do not say it themselves.
    `embeddings` (.npy) have a row for each score of the first, instead of the embeddings of its run.
    Raises RequestError for what cannot be read, and for tables without a direction.
    """
    said: list[str] = []
    methods: list[Method] = []
    names: Names | None = None
    identities: list[str] | None = None
    own: NDArray[np.float32] | None = None
    pairs: tuple[tuple[str, str, bool], ...] = ()
    for name, place in given.items():
        run = open_run(place) if is_run(place) else None
        table = _of_run(run) if run is not None else _read(place)
        if names is None:
            names, identities = Names(table.paths), table.identities
            if run is not None:
                pairs = tuple((str(a), str(b), bool(same)) for a, b, same in run.manifest.pairs)
            own = _embeddings(run, embeddings, len(names))
        before = names.before(table.paths, shown(place))
        places = [names.place(path, before) for path in table.paths]
        known = [row for row, found in enumerate(places) if found is not None]
        if run is None and direction is None:
            raise RequestError(
                f"{shown(place)} does not say whether a lower or a higher score is better: give --direction"
            )
        for column, values in table.columns.items():
            scores = np.full(len(names), np.nan)
            scores[[place for place in places if place is not None]] = values[known]
            alone = len(table.columns) == 1 and run is None
            methods.append(
                Method(
                    name if alone else column if len(given) == 1 else f"{name}/{column}",
                    scores,
                    str(direction) if run is None else "lower",
                )
            )
        what = f"{len(table.paths):,} samples, {', '.join(map(shown, table.columns))}"
        others = len(places) - len(known)
        beside = f"; {others:,} of them are not of {shown(next(iter(given)))}" if others else ""
        said.append(f"{shown(name)}: {what}{beside}")
    assert names is not None  # noqa: S101 - the options have one
    return Samples(names, identities, tuple(methods), own, pairs), said


def _of_run(run: Run) -> Table:
    failed = list(run.failures)
    paths = [*map(str, run.scores["path"]), *failed]
    nothing = np.full(len(failed), np.nan)
    columns = {layer: np.concatenate([run.scores[layer], nothing]) for layer in run.manifest.layers}
    by_path = {sample.location: sample.identity for sample in run.manifest.subset.samples}
    return Table(paths, columns, [by_path[path] for path in paths])


def _embeddings(run: Run | None, path: Path | None, samples: int) -> NDArray[np.float32] | None:
    """A row for each sample: NaN for those that have none."""
    if path is None:
        if run is None or not run.manifest.embeds:
            return None
        found = np.asarray(run.embeddings, np.float32)
    else:
        try:
            found = np.asarray(np.load(files.opened(path), allow_pickle=False), np.float32)
        except (OSError, ValueError) as error:
            raise RequestError(f"{shown(path)} is not an array of embeddings (.npy): {shown(error)}") from error
        rows = samples if run is None else len(run.scores)
        if found.ndim != 2 or len(found) != rows:
            raise RequestError(
                f"{shown(path)} has the shape {found.shape}: it is to have a row for each of the {rows:,} scores"
            )
    return np.concatenate([found, np.full((samples - len(found), found.shape[1]), np.nan, np.float32)])


def _read(place: Path) -> Table:
    """A table of paths and scores: "path score" lines, or CSV with names of columns."""
    try:
        table = TextTable(lambda: files.opened(place))
        split = max(_SPLITS, key=lambda split: _fitting(table, split))
        rows = list(table.rows(split))
    except (TableError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RequestError(f"cannot read the scores {shown(place)}: {reason}") from error
    if not rows or _fitting(table, split) == 0:
        raise RequestError(f"{shown(place)} is not a table of scores: a path and a number a line, or names of columns")
    header = [cell.strip() for cell in rows[0][1]]
    if any(_number(cell) is not None for cell in header[1:]) or _number(header[-1]) is not None:
        header = []
    else:
        rows = rows[1:]
    width = len(rows[0][1])
    path, scores = _columns_of(header, rows[0][1], place)
    for line, cells in rows:
        if len(cells) != width:
            raise RequestError(f"{shown(place)} line {line} has {len(cells)} columns instead of {width}")
    values = {}
    for column in scores:
        numbers = [_number(cells[column]) for _, cells in rows]
        wrong = next((line for (line, _), number in zip(rows, numbers, strict=True) if number is None), None)
        if wrong is not None:
            raise RequestError(f"{shown(place)} line {wrong} has no number where the score stands")
        values[header[column] if header else "score"] = np.array(numbers, np.float64)
    lower = [plain(name) for name in header]
    identities = [cells[lower.index("identity")] for _, cells in rows] if "identity" in lower else None
    return Table([cells[path] for _, cells in rows], values, identities)


def _fitting(table: TextTable, split: str) -> int:
    """How many of the first lines have a path and a number when they are split so."""
    found = 0
    try:
        for count, (_, cells) in enumerate(table.rows(split)):
            found += len(cells) > 1 and any(_number(cell) is not None for cell in cells) and _number(cells[0]) is None
            if count == 100:
                break
    except TableError:
        pass
    return found


def _columns_of(header: Sequence[str], first: Sequence[str], place: Path) -> tuple[int, list[int]]:
    """The column of the paths, and those of the scores."""
    if not header:
        words = [column for column, cell in enumerate(first) if _number(cell) is None]
        numbers = [column for column in range(len(first)) if column not in words]
        if len(words) != 1 or len(numbers) != 1:
            raise RequestError(
                f"{shown(place)} has {len(first)} columns without names: a path and a score are read, or names"
            )
        return words[0], numbers
    names = [plain(name) for name in header]
    paths = [column for column, name in enumerate(names) if name in PATHS]
    exact = [column for column in paths if names[column] == PATHS[0]] or paths
    scores = [
        column
        for column, name in enumerate(names)
        if name not in _COLUMNS and column < len(first) and _number(first[column]) is not None
    ]
    if len(exact) != 1 or not scores:
        raise RequestError(
            f"{shown(place)} has the columns {', '.join(map(shown, header))}: it needs a path and scores"
        )
    return exact[0], scores


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
