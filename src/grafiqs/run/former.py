"""What is done of a run that has no journals of shards: it was finished, or an earlier version began it."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.run import finished
from grafiqs.run.contents import journal_of
from grafiqs.run.journal import Outcome, Scored
from grafiqs.run.manifest import Manifest
from grafiqs.run.shard_journals import LEAVING, ShardJournals
from grafiqs.run.store import Store


@dataclass(frozen=True)
class Former:
    """The outcomes that a run has, those of `pending` samples aside, which failed or lack gradients.

    `whole_files` are the (SHA-256, path) of the files that hold the gradients of several samples. The tables named in
    `damaged` are to be written anew.
    """

    outcomes: Callable[[], Iterator[Outcome]]
    pending: NDArray[np.int64]
    whole_files: Sequence[tuple[str, str]] = ()
    damaged: tuple[str, ...] = ()

    def write(self, journals: ShardJournals, environments: list[dict[str, Any]]) -> None:
        """Make the folder of the journals anew, as if all outcomes but those of `pending` samples had just been done.

        Raises OSError when that cannot be.
        """
        shards, leaving = journals.shards, journals.folder.with_name(LEAVING)
        new = ShardJournals(journals.folder.parent, shards, lambda _scored: True, name=LEAVING)
        new.claims.is_alone = True
        each, unfinished = len(self.whole_files) // max(1, len(shards)), set(self.pending.tolist())
        journals.tidy()
        new.make()
        every = iter(self.outcomes())
        outcome = next(every, None)
        for number in range(len(shards)):
            shard = new.take(number, environments)
            if shard is None:
                raise OSError(errno.EBUSY, "another process is at work", str(leaving))
            while outcome is not None and shards.of(outcome.index) == number:
                if outcome.index not in unfinished:
                    new.append(outcome)
                outcome = next(every, None)
            if len(shard.lines) == len(shards.samples(number)):
                new.close_shard(shard, [*self.whole_files[number * each : (number + 1) * each]])
            else:
                new.release(number)
        new.close()
        os.rename(leaving, journals.folder)
        journals.look()


def of_finished(root: Path, manifest: Manifest, store: Store) -> tuple[Former, Counter[type[Any]]]:
    """What a finished run has, and how many outcomes of each kind.

    Raises ValueError when tables do not agree, or were changed since and cannot be written anew from others, and
    OSError when one cannot be read.
    """
    changed, derived = finished.changed(root, manifest), finished.derived(manifest)
    if lost := [f"{name} {how} since" for name, how in changed.items() if name not in derived]:
        raise ValueError(", ".join(lost))
    store.need_folders()
    counts: Counter[type[Any]] = Counter()
    lacking: list[int] = []
    for outcome in finished.read(root, manifest, "known"):
        counts[type(outcome)] += 1
        if not (isinstance(outcome, Scored) and store.is_whole(outcome.index)):
            lacking.append(outcome.index)
    whole = finished.whole_files(root, manifest)
    former = Former(lambda: finished.read(root, manifest, "known"), np.array(lacking, np.int64), whole, tuple(changed))
    return former, counts


def of_journal(root: Path, manifest: Manifest, store: Store) -> Former:
    """What a run has that an earlier version began: its journal is one file. Raises OSError when it cannot be read."""
    journal = journal_of(root, manifest)
    journal.look()
    for index in range(len(journal)):
        if index in journal and not store.is_whole(index):
            journal.forget(index)
    return Former(journal.outcomes, np.array(journal.pending(), np.int64))
