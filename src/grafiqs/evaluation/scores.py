"""The scores to be evaluated: of runs, and of any other method's tables; each knows which of its scores are better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grafiqs.backbones.catalogue import DIRECTIONS
from grafiqs.datasets.readings import PATHS, plain
from grafiqs.disk import files
from grafiqs.disk.delimited import TableError, TextTable
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.evaluation.names import Names
from grafiqs.run.finished import SCORES
from grafiqs.run.manifest import is_run
from grafiqs.run.results import Run, open_run
from grafiqs.run.tables import SAMPLE

_SPLITS = (",", ";", "\t", " ")


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
    """A table of paths and scores: columns of numbers by name, and the directions of those that are known."""

    paths: list[str]
    columns: dict[str, NDArray[np.float64]]
    identities: list[str] | None = None
    directions: Mapping[str, str] = field(default_factory=dict)


def gathered(
    given: Mapping[str, Path], directions: Mapping[str, str], embeddings: Path | None = None
) -> tuple[Samples, list[str]]:
    """The samples of all tables and runs that are given by name, and how each was read, a line each.

    The samples are those of the first, in its order. `directions` are those of scores that do not say it themselves: by
    name, and under "" of the others. `embeddings` (.npy) have a row for each score of the first, and take the place of
    those of its run.
    Raises RequestError for what cannot be read, and for tables without a direction.
    """
    said: list[str] = []
    methods: list[Method] = []
    first: Samples | None = None
    for name, place in given.items():
        run = _run_of(place)
        table = _read(place) if run is None else _of_run(run)
        if first is None:
            pairs = () if run is None else tuple((str(a), str(b), bool(same)) for a, b, same in run.manifest.pairs)
            own = _embeddings(run, embeddings, len(table.paths))
            first = Samples(Names(table.paths), table.identities, (), own, pairs)
        places, others = _places(first.names, table, place)
        own_methods = list(_methods(name, table, places, len(first.names), directions, place, is_alone=len(given) == 1))
        beside = f"; {others:,} of them are not of {shown(next(iter(given)))}" if others else ""
        better = ", ".join(f"{shown(method.name)} ({method.direction} is better)" for method in own_methods)
        said.append(f"Scores of {shown(name)}: {len(table.paths):,} samples{beside}; {better}")
        methods += own_methods
    assert first is not None  # noqa: S101 - the options have one
    return replace(first, methods=tuple(methods)), said


def _run_of(place: Path) -> Run | None:
    """The run that a folder, or the scores.csv in it, is of."""
    folder = place.parent if place.name == SCORES else place
    return open_run(folder) if is_run(folder) else None


def _places(names: Names, table: Table, place: Path) -> tuple[NDArray[np.int64], int]:
    """The place of each sample of a table among those of the evaluation, -1 if it is none; and how many are none.

    Raises RequestError when two rows are of one sample.
    """
    before = names.before(table.paths, shown(place))
    found = np.array([-1 if (at := names.place(path, before)) is None else at for path in table.paths], np.int64)
    known = found[found >= 0]
    once, counts = np.unique(known, return_counts=True)
    if len(once) < len(known):
        twice = names.paths[once[counts > 1][0]]
        raise RequestError(f"{shown(place)} has two scores of {shown(twice)}: one is to be left")
    return found, len(found) - len(known)


def _methods(
    name: str,
    table: Table,
    places: NDArray[np.int64],
    samples: int,
    directions: Mapping[str, str],
    place: Path,
    *,
    is_alone: bool,
) -> Iterator[Method]:
    """The columns of a table as methods, their scores in the order of the samples."""
    for column, values in table.columns.items():
        known, asked = table.directions.get(column), directions.get(name)
        if known is not None and asked not in (None, known):
            raise RequestError(
                f"--direction says that of {shown(name)} the {asked} score is better, and {shown(column)} is known to "
                f"be better the {known} it is: leave that out"
            )
        direction = known or asked or directions.get("")
        if direction is None:
            raise RequestError(
                f"{shown(place)} does not say whether a lower or a higher score is better: give --direction lower or "
                f"higher, or {shown(name)}=higher if others differ"
            )
        scores = np.full(samples, np.nan)
        scores[places[places >= 0]] = values[places >= 0]
        called = column if is_alone else f"{name}/{column}"
        if len(table.columns) == 1 and not table.directions:
            called = name
        yield Method(called, scores, direction)


def _of_run(run: Run) -> Table:
    failed = list(run.failures)
    paths = [*map(str, run.scores["path"]), *failed]
    nothing = np.full(len(failed), np.nan)
    columns = {name: np.concatenate([run.scores[name], nothing]) for name in run.directions}
    by_path = {sample.location: sample.identity for sample in run.manifest.subset.samples}
    return Table(paths, columns, [by_path[path] for path in paths], run.directions)


def _embeddings(run: Run | None, path: Path | None, samples: int) -> NDArray[np.float32] | None:
    """A row for each sample: NaN for those that have none."""
    if path is None:
        if run is None or not run.manifest.embeds:
            return None
        found = np.asarray(run.embeddings, np.float32)
    else:
        try:
            with files.opened(path) as file:
                found = np.asarray(np.load(file, allow_pickle=False), np.float32)
        except (OSError, ValueError, EOFError) as error:
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
    is_ours = tuple(header[: len(SAMPLE)]) == SAMPLE and set(values) <= set(DIRECTIONS)
    return Table([cells[path] for _, cells in rows], values, identities, DIRECTIONS if is_ours else {})


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
    numeric = [column for column in range(min(len(names), len(first))) if _number(first[column]) is not None]
    paths = [column for column, name in enumerate(names) if name in PATHS and column not in numeric]
    exact = [column for column in paths if names[column] == PATHS[0]] or paths
    scores = [column for column in numeric if names[column] not in ("identity", "sample")]
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
