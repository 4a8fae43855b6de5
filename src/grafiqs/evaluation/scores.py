"""The scores to be evaluated: of runs, and of any other method's tables; each knows which of its scores are better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grafiqs.calibration.reference import Reference, read_reference
from grafiqs.disk import files
from grafiqs.disk.names import key, shown
from grafiqs.errors import RequestError
from grafiqs.evaluation.names import Names
from grafiqs.evaluation.score_table import ScoreTable, read_scores
from grafiqs.run.finished import SCORES
from grafiqs.run.manifest import is_run
from grafiqs.run.results import Run, open_run


@dataclass(frozen=True)
class Method:
    """One method's scores of samples: NaN where it has none. `direction` says which are better, as `edc` takes it.

    `column` is its name in its table; `reference` makes qualities of its scores, if there is one; `is_quality` says
    that it is one of a run: the order of a score beside it, rounded.
    """

    name: str
    scores: NDArray[np.float64]
    direction: str
    column: str = ""
    reference: Reference | None = None
    is_quality: bool = False

    def quality(self, score: float | None) -> int | None:
        """The quality of a score, by the reference; None where there is none."""
        if score is None or self.reference is None or self.column not in self.reference.distributions:
            return None
        return self.reference.quality(self.column, score)


@dataclass(frozen=True)
class GivenRun:
    """A run among the SCORES, by its `name` there; `prefix` and the name of a column are that of a method."""

    name: str
    prefix: str
    run: Run


@dataclass(frozen=True)
class Samples:
    """The samples of an evaluation, and all that is known of them.

    `names` are their paths, and grow when a table names others. By place there: `identities`, as far as they are known
    ("" is the unnamed one); and the scores of each method and the `embeddings`, NaN where there are none, as far as
    they reach; `whose` says what these are of. `run` is the first of SCORES, if that is a run; `runs` are all that are.
    """

    names: Names
    identities: dict[int, str]
    methods: list[Method]
    embeddings: NDArray[np.float32] | None
    whose: str
    run: Run | None
    runs: list[GivenRun]

    def identity(self, place: int) -> str | None:
        """The identity of a sample, None if it is not known."""
        return self.identities.get(place)


def gathered(
    given: Mapping[str, Path],
    directions: Mapping[str, str],
    embeddings: Path | None = None,
    prefixed: bool = False,
    reference: Path | None = None,
) -> tuple[Samples, list[str]]:
    """The samples of all tables and runs that are given by name, and how each was read, a line each.

    The samples are those of the first, in its order, then others. `directions` are those of scores that do not say it
    themselves: by name, and under "" of the others. `embeddings` (.npy) have a row for each score of the first, and
    take the place of those of its run. `reference` (.json) makes qualities of the scores of runs, in the place of their
    own. Methods are called as the columns of scores are; if there are several of SCORES,
    or `prefixed`, with the name before.
    Raises RequestError for what cannot be read, for tables without a direction, and for a reference of other scores.
    """
    said: list[str] = []
    known = None if reference is None else read_reference(reference)
    if known is not None:
        said.append(f"Reference: {known.said()}")
    found: Samples | None = None
    untold = False
    for name, place in given.items():
        run = _run_of(place)
        if run is not None and known is not None and reference is not None:
            known.refuse_other(run.manifest.holds_for(), reference)
        table = read_scores(place) if run is None else _of_run(run, known or run.reference)
        if found is None:
            own = _embeddings(run, embeddings, len(table.paths))
            whose = shown(name if embeddings is None else embeddings)
            found = Samples(Names(table.paths), {}, [], own, whose, run, [])
        prefix = "" if len(given) == 1 and not prefixed else f"{name}/"
        before = len(found.names)
        places = found.names.places(table.paths, shown(place))
        once, counts = np.unique(places, return_counts=True)
        if len(once) < len(places):
            twice = found.names.paths[once[counts > 1][0]]
            raise RequestError(f"{shown(place)} has two scores of {shown(twice)}: leave one")
        if run is not None:
            found.runs.append(GivenRun(name, prefix, run))
        _identify(found, places, table, place)
        methods = list(_methods(name, prefix, table, places, directions, place))
        untold |= any(column not in table.directions for column in table.columns)
        others = len(found.names) - before if found.methods else 0
        beside = f", of which {others:,} are not among those before" if others else ""
        by: dict[str, list[str]] = {}
        for method in (each for each in methods if not each.is_quality):
            by.setdefault(method.direction, []).append(shown(method.name))
        better = "; ".join(f"{direction} is better: {', '.join(names)}" for direction, names in by.items())
        said.append(f"Scores of {shown(name)}: {len(table.paths):,} samples{beside}; {better}{table.said}")
        found.methods.extend(methods)
    assert found is not None  # noqa: S101 - the options have one
    if known is not None and not found.runs:
        raise RequestError("--reference is for the scores of runs, and no run is among the SCORES: leave it out")
    if "" in directions and not untold:
        raise RequestError("--direction is for tables that do not say it, and all of these do: leave it out")
    return found, said


def _identify(found: Samples, places: NDArray[np.int64], table: ScoreTable, place: Path) -> None:
    """Take up the identities of a table. Raises RequestError when it parts the samples otherwise than those before."""
    own = {at: key(name) for at, name in zip(places.tolist(), table.identities or (), strict=False) if name is not None}
    shared = {(found.identities[at], identity) for at, identity in own.items() if at in found.identities}
    if len({one for one, _ in shared}) < len(shared) or len({other for _, other in shared}) < len(shared):
        raise RequestError(
            f"{shown(place)} has other identities than the SCORES before it: leave its column identity out, or them"
        )
    names = {other: one for one, other in shared}
    for at, identity in own.items():
        found.identities.setdefault(at, names.get(identity, identity))


def _run_of(place: Path) -> Run | None:
    """The run that a folder, or the scores.csv in it, is of."""
    folder = place.parent if place.name == SCORES else place
    return open_run(folder) if is_run(folder) else None


def _of_run(run: Run, reference: Reference | None) -> ScoreTable:
    failed = list(run.failures)
    paths = [*map(str, run.scores["path"]), *failed]
    nothing = np.full(len(failed), np.nan)
    columns = {name: np.concatenate([run.scores[name], nothing]) for name in run.directions}
    by_path = {sample.location: sample.identity for sample in run.manifest.subset.samples}
    qualities = run.directions.keys() - {*run.manifest.scores}
    identities = [by_path[path] for path in paths]
    return ScoreTable(paths, columns, identities, run.directions, qualities=qualities, reference=reference)


def _methods(
    name: str,
    prefix: str,
    table: ScoreTable,
    places: NDArray[np.int64],
    directions: Mapping[str, str],
    place: Path,
) -> Iterator[Method]:
    """The columns of a table as methods."""
    for column, values in table.columns.items():
        known, asked = table.directions.get(column), directions.get(name)
        if known is not None and asked is not None and all(each in table.directions for each in table.columns):
            raise RequestError(f"--direction names {shown(name)}, which knows it of its scores: leave it out")
        direction = known or asked or directions.get("")
        if direction is None:
            raise RequestError(
                f"{shown(place)} does not say whether a lower or a higher score is better: give --direction lower or "
                f"higher, or {shown(name)}=higher if others differ"
            )
        scores = np.full(int(places.max(initial=-1)) + 1, np.nan)
        scores[places] = values
        plain = len(table.columns) == 1 and not table.directions
        called = name if plain else f"{prefix}{column}"
        yield Method(called, scores, direction, column, table.reference, column in table.qualities)


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
