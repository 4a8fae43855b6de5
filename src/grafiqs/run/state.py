"""How far a run has come, by a look at its folder: what is done, what is in flight and by whom, and the time left."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from grafiqs.disk import files
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.run import finished
from grafiqs.run import journal as journals
from grafiqs.run import manifest as manifests
from grafiqs.run.claims import STALE
from grafiqs.run.ending import TABLES
from grafiqs.run.holder import Holder
from grafiqs.run.journal import Failed, Outcome, Scored
from grafiqs.run.shard_journals import ShardJournals
from grafiqs.run.shard_lines import DamagedShardError
from grafiqs.run.shard_work import shard_of
from grafiqs.run.tables import FAILURES

_RECENT = 64
"""As many of the last shards say how long one takes."""


@dataclass(frozen=True)
class InFlight:
    """A shard that somebody holds, or held.

    `quiet` are the seconds since its file last grew, by this machine's clock.
    """

    number: int
    holder: Holder | None
    done: int
    total: int
    quiet: float
    is_abandoned: bool

    @property
    def is_alive(self) -> bool:
        """Whether somebody is at work on it, as far as one look tells."""
        return not self.is_abandoned and self.quiet < STALE


@dataclass(frozen=True)
class State:
    """How far a run has come; samples are counted in those that have `scored`, `failed`, and all of them, `total`.

    `seconds_left` is None if nobody is at work, or nothing is done yet by which it could be said.
    """

    folder: Path
    is_finished: bool
    total: int
    scored: int
    failed: int
    shards: int
    shards_done: int
    in_flight: list[InFlight]
    left: list[tuple[int, int]]
    """The shards that nobody has begun, as ranges: (first, last)."""
    damaged: list[int]
    """The shards that are done, but for what says so, which is damaged: they are done again."""
    tables: InFlight | None
    """Who writes the tables, or did: `number` is that of no shard."""
    reasons: list[tuple[int, str]]
    """How often samples failed for which reason, the most frequent first."""
    seconds_left: float | None

    @property
    def done(self) -> int:
        """How many samples are done, with scores or without."""
        return self.scored + self.failed


def look(folder: Path) -> State:
    """How far the run in `folder` has come; nothing is written, and no sample is read.

    Raises RequestError when there is no run, or it was begun by an earlier version, and OSError when its files cannot
    be read.
    """
    shards = manifests.shards_of(folder)
    reasons: Counter[str] = Counter()
    if finished.is_finished(folder):
        reasons.update(reason for _, reason in FAILURES.read(folder))
        failed, every = reasons.total(), len(shards)
        return State(
            folder=folder,
            is_finished=True,
            total=shards.count,
            scored=shards.count - failed,
            failed=failed,
            shards=every,
            shards_done=every,
            in_flight=[],
            left=[],
            damaged=[],
            tables=None,
            reasons=_most(reasons),
            seconds_left=0.0,
        )
    if files.exists(folder / journals.NAME):
        raise RequestError(
            f"the run in {shown(folder)} was begun by an earlier version of grafiqs: the command that began it "
            "resumes it"
        )
    found, kinds = ShardJournals(folder, shards, lambda _scored: True), Counter[type[Outcome]]()
    times: list[float] = []
    in_flight: list[InFlight] = []
    touched: list[int] = []
    damaged: list[int] = []
    tables: InFlight | None = None
    for name, newest in sorted(found.claims.newest().items()):
        number = shard_of(name, shards)
        if name == TABLES:
            tables = _in_flight(found, len(shards), newest, 0)
        if number is None:
            continue
        touched.append(number)
        if newest.endswith(".done"):
            try:
                shard = found.lines.done(number)
            except DamagedShardError:
                damaged.append(number)
                continue
            kinds += Counter({Scored: shard.scored, Failed: shard.failed})
            times.append(shard.seconds / max(1, shard.scored + shard.failed))
            outcomes = list(found.lines.read(newest, number)) if shard.failed else []
        else:
            outcomes = found.lines.last(number)
            kinds.update(map(type, outcomes))
            in_flight.append(_in_flight(found, number, newest, len(outcomes)))
        reasons.update(each.reason for each in outcomes if isinstance(each, Failed))
    left = shards.count - kinds.total()
    return State(
        folder=folder,
        is_finished=False,
        total=shards.count,
        scored=kinds[Scored],
        failed=kinds[Failed],
        shards=len(shards),
        shards_done=len(times),
        in_flight=in_flight,
        left=_gaps(touched, len(shards)),
        damaged=damaged,
        tables=tables,
        reasons=_most(reasons),
        seconds_left=_left(left, times, in_flight),
    )


def _in_flight(found: ShardJournals, number: int, newest: str, done: int) -> InFlight:
    quiet = 0.0
    with suppress(FileNotFoundError):
        quiet = max(0.0, time.time() - os.stat(found.folder / newest).st_mtime)
    holder, is_abandoned = found.claims.holder(newest), found.claims.is_abandoned(newest)
    total = len(found.shards.samples(number)) if number < len(found.shards) else 0
    return InFlight(number, holder, done, total, quiet, is_abandoned)


def _left(samples: int, times: list[float], in_flight: list[InFlight]) -> float | None:
    """The seconds that so many samples take those who are at work.

    `times` are the seconds that a sample took in each shard that is done.
    """
    alive = (each for each in in_flight if each.is_alive)
    workers = {(each.holder.host, each.holder.process) if each.holder else each.number for each in alive}
    if not workers or not times:
        return None
    return samples * statistics.median(times[-_RECENT:]) / len(workers)


def _gaps(numbers: Iterable[int], count: int) -> list[tuple[int, int]]:
    """The numbers below `count` that are none of these, as ranges: (first, last).

    >>> _gaps([0, 4, 5, 6], 8)
    [(1, 3), (7, 7)]
    """
    ends = [-1, *sorted(numbers), count]
    return [(before + 1, after - 1) for before, after in pairwise(ends) if after - before > 1]


def _most(reasons: Counter[str]) -> list[tuple[int, str]]:
    return [(count, reason) for reason, count in reasons.most_common()]
