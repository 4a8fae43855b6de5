"""progress/: what has been done so far of a run, shard by shard, and by whom.

`<shard>.<turn>` is a claim (`grafiqs.run.claims`) and the journal of its holder, a line a sample; `<shard>.done` are
the lines of a shard that is done, in the order of its samples. What is done is never looked at again before the tables
are written, so that a start takes no longer for a large run than for a small one.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.disk import files, inside
from grafiqs.disk.names import shown
from grafiqs.run import claims
from grafiqs.run.claims import Claims
from grafiqs.run.journal import Outcome, Scored, line, line_of
from grafiqs.run.shard_lines import DamagedShardError, ShardLines
from grafiqs.run.shard_work import Done, Open, has_environment, shard_of, work
from grafiqs.run.store import Store
from grafiqs.shards import Shards

NAME = "progress"

LEAVING = f"{NAME}{inside.PART}"
"""What the folder is called while it is being removed."""


class ShardJournals:
    """The journals of a run in the folder `root`, whose samples are cut into `shards`.

    `fits` says whether what a line states can be of this run, and the `store` what is there of that which lines say is
    done: all of it, if none is given. They lie in the folder `name` there.
    """

    def __init__(
        self,
        root: Path,
        shards: Shards,
        fits: Callable[[Scored], bool],
        store: Store | None = None,
        name: str = NAME,
    ) -> None:
        self.folder = root / name
        self.shards = shards
        self.claims = Claims(self.folder)
        self.lines = ShardLines(self.claims, shards, fits)
        self._store = store
        self._is_done = np.zeros(shards.count, bool)
        self._closed: set[int] = set()
        """The shards that are known to be done."""
        self._own: set[int] = set()
        """Those that this process did."""
        self.reopened: set[int] = set()
        """Those that this process found not to be done after all."""
        self._open: dict[int, Open] = {}
        self._last = 0.0
        """When the last shard was done."""

    # -- looking -----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Find what is done, by the shards that are, and the lines of those that were begun.

        Raises OSError when something else than a folder is in its place.
        """
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            raise OSError(errno.ENOTDIR, f"{NAME} is a link, which is not followed there, or not a folder", NAME)
        for name, newest in self.claims.newest().items():
            number = shard_of(name, self.shards)
            if number is None or number in self._open:
                continue
            if newest.endswith(".done"):
                self._close(number)
            else:
                known = self.lines.begun(number)[0]
                self._is_done[[*(known if self._store is None else self._store.seen(known))]] = True

    def look_for_done(self) -> None:
        """Find the shards that are done by now, on whatever machine."""
        for name, newest in self.claims.newest(anew=True).items():
            number = shard_of(name, self.shards)
            if number is not None and newest.endswith(".done"):
                self._close(number)

    def is_done(self, index: int) -> bool:
        """Whether a sample is done, as far as this process knows."""
        return bool(self._is_done[index])

    def is_closed(self, number: int) -> bool:
        """Whether a shard is done; it is looked for."""
        if number not in self._closed and self.claims.is_done(work(number)):
            self._close(number)
        return number in self._closed

    def pending(self, numbers: Sequence[int] | None = None) -> NDArray[np.int64]:
        """The indices of the samples that are not done, in order; those of all shards, or of these."""
        if numbers is None:
            return np.flatnonzero(~self._is_done)
        places = [
            range_ for number in numbers if number not in self._closed for range_ in [self.shards.samples(number)]
        ]
        every = np.concatenate([np.arange(each.start, each.stop) for each in places] or [np.zeros(0, np.int64)])
        return np.compress(~self._is_done[every], every)

    def count(self) -> int:
        """How many samples are done, as far as this process knows."""
        return int(np.count_nonzero(self._is_done))

    def held(self) -> list[int]:
        """The shards that this process holds."""
        return list(self._open)

    def _since(self, shard: Open) -> float:
        """Seconds since work on a shard began: since it was claimed, or the one before it was done."""
        return time.monotonic() - max(self._last, shard.since)

    def is_held(self, number: int) -> bool:
        """Whether this process holds a shard."""
        return number in self._open

    def is_free(self, number: int) -> bool:
        """Whether a shard that is not done can be had: asked again and again, this tells if its holder beats."""
        turns = self.claims.turns(work(number))
        return not turns or self.claims.is_abandoned(turns[-1])

    def whose(self, claimed: str) -> str:
        """Who holds a work, in words."""
        turns = self.claims.turns(claimed)
        return self._who(turns[-1] if turns else "")

    def anybody(self) -> str | None:
        """Who else is at work on a shard or the tables, or may be, in words; None if nobody is."""
        for newest in self.claims.newest().values():
            if not newest.endswith(".done") and not self.claims.is_abandoned(newest):
                return self._who(newest)
        return None

    def _who(self, claim: str) -> str:
        holder = self.claims.holder(claim)
        return "their holder is not known" if holder is None else f"process {holder.process} of {shown(holder.host)}"

    # -- working -----------------------------------------------------------------------------------------------

    def make(self) -> None:
        """Make the folder. Raises OSError when that cannot be."""
        self.folder.mkdir(exist_ok=True)
        self.look()

    def take(self, number: int, environments: list[dict[str, Any]], **words: Any) -> Open | None:
        """Claim a shard, with what was done of it before; None if it is done, or another process is at it."""
        claim = self.claims.take(work(number), environments=environments, **words)
        if claim is None:
            return None
        known, before = self.lines.begun(number, claim.turn)
        checksums = {index: scored.files_sha256 for index, scored in known.items()}
        held = {*known} if self._store is None else self._store.begin_shard(number, claim.turn, checksums)
        there = {index: scored for index, scored in known.items() if index in held}
        every = self.shards.samples(number)
        self._is_done[every.start : every.stop] = False
        self._is_done[list(there)] = True
        lines = {index: line(scored) for index, scored in there.items()}
        united = [*before, *(each for each in environments if not has_environment(before, each))]
        self._open[number] = found = Open(
            number, claim, united, lines, there, {index: checksums[index] for index in there}
        )
        return found

    def release(self, number: int) -> None:
        """Give a shard back that is not done."""
        self.claims.release(self._open.pop(number).claim)

    def doubt(self, number: int) -> None:
        """Count a shard that another process holds as not done, unless it is by now."""
        if not self.is_closed(number):
            every = self.shards.samples(number)
            self._is_done[every.start : every.stop] = False

    def hold(self, index: int) -> None:
        """Make sure that this process still holds the shard of a sample. Raises StoppedError if it does not."""
        self.claims.hold(self._open[self.shards.of(index)].claim)

    def append(self, outcome: Outcome) -> Open:
        """Record one outcome; returns its shard.

        It is on its way to the disk when this returns. Raises OSError when the disk is full.
        """
        shard = self._open[self.shards.of(outcome.index)]
        self.claims.hold(shard.claim)
        text, file = line(outcome), shard.claim.file
        place = file.seek(0, os.SEEK_END)
        if file.write(text) != len(text):
            file.truncate(place)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        shard.lines[outcome.index] = text
        if isinstance(outcome, Scored):
            shard.checksums[outcome.index] = outcome.files_sha256
        self._is_done[outcome.index] = True
        return shard

    def known(self, index: int) -> Scored | None:
        """What a sample of a shard at work was done as before it was claimed, if it was."""
        return self._open[self.shards.of(index)].known.get(index)

    def close_shard(self, shard: Open, files: list[tuple[str, str]]) -> None:
        """Say that a shard is done; `files` are those that hold several of its samples, (SHA-256, path)."""
        scored = len(shard.checksums)
        done = Done(
            shard.environments, scored, len(shard.lines) - scored, [[*each] for each in files], self._since(shard)
        )
        first = line_of(list(vars(done).values()))
        self._last = time.monotonic()
        self.claims.finish(shard.claim, [first, *(shard.lines[index] for index in sorted(shard.lines))])
        del self._open[shard.number]
        self._own.add(shard.number)
        self._close(shard.number)

    def reopen(self, number: int) -> None:
        """A shard is not done after all, as some of it is gone: what is there of it is kept."""
        environments, known = list[dict[str, Any]](), self.lines.scored(number)
        with suppress(DamagedShardError):
            environments = self.lines.done(number).environments
        whole = {*known} if self._store is None else self._store.whole(known)
        there = [each for each in known.values() if each.index in whole]
        self.claims.reopen(work(number), map(line, there), environments=environments)
        self._closed.discard(number)
        self._own.discard(number)
        self.reopened.add(number)
        every = self.shards.samples(number)
        self._is_done[every.start : every.stop] = False

    def lacking(self) -> Iterator[tuple[int, int]]:
        """The shards that others did of which gradients are gone, or cut short: each with the first such sample.

        Raises OSError when a file is damaged, or for a link on the way.
        """
        for number in range(len(self.shards)):
            if self._store is None or number in self._own:
                continue
            every = self.shards.samples(number)
            gone = set(every) - self._store.whole(every)
            if gone and (lost := sorted(gone & self.lines.scored(number).keys())):
                yield number, lost[0]

    def close(self) -> None:
        """Let go of everything, so that others may take it at once."""
        self.claims.close()
        self._open.clear()

    def environments(self) -> list[dict[str, Any]]:
        """The environments in which shards were done, in their order."""
        found: list[dict[str, Any]] = []
        for number in range(len(self.shards)):
            found += [each for each in self.lines.done(number).environments if not has_environment(found, each)]
        return found

    def whole_files(self) -> list[tuple[str, str]]:
        """The (SHA-256, path) of the files that hold the gradients of several samples: a shard after the other."""
        every = (self.lines.done(number).files for number in range(len(self.shards)))
        return [(checksum, path) for files in every for checksum, path in files]

    # -- reading -----------------------------------------------------------------------------------------------

    def outcomes(self, indices: Sequence[int] | None = None) -> Iterator[Outcome]:
        """The outcomes of all samples that are done, in their order, or of these, in ascending order.

        Raises OSError when a file is damaged.
        """
        if indices is None:
            for number in range(len(self.shards)):
                yield from self._of(number).values()
            return
        number, found = -1, dict[int, Outcome]()
        for index in indices:
            if self.shards.of(index) != number:
                number = self.shards.of(index)
                found = self._of(number)
            if index not in found:
                raise DamagedShardError(number)
            yield found[index]

    def remove(self) -> None:
        """The run is finished: its tables say it all."""
        with suppress(FileNotFoundError):
            os.rename(self.folder, self.folder.with_name(LEAVING))  # so that it is gone at once
        self.close()  # only now: what is given back there is not to be had
        self.tidy()

    def tidy(self) -> None:
        """Remove what is left of a folder that was to be removed, and nothing that others put there."""
        leaving = self.folder.with_name(LEAVING)
        if leaving.is_dir() and not leaving.is_symlink():
            for name in filter(claims.is_own, os.listdir(leaving)):
                inside.remove(leaving, name)
            with suppress(OSError):
                leaving.rmdir()

    def _close(self, number: int) -> None:
        every = self.shards.samples(number)
        self._is_done[every.start : every.stop] = True
        self._closed.add(number)

    def _of(self, number: int) -> dict[int, Outcome]:
        """The outcomes of a shard that are known, in the order of its samples."""
        if number in self._closed:
            found = {outcome.index: outcome for outcome in self.lines.read(f"{work(number)}.done", number)}
            if len(found) != len(self.shards.samples(number)):
                self.claims.opened(f"{work(number)}.done").close()  # or it is gone
                raise DamagedShardError(number)
            return found
        return dict(sorted(self.lines.begun(number)[0].items()))


def is_there(root: Path) -> bool:
    """Whether a run is at work in a folder, or was stopped in it."""
    return files.exists(root / NAME)


def remove_empty(root: Path) -> None:
    """Remove the folder if nothing is in it."""
    with suppress(OSError):
        (root / NAME).rmdir()


def paths(root: Path) -> list[str]:
    """The files of the folder, whatever state it is in."""
    found: list[str] = []
    for folder in (NAME, LEAVING):
        with suppress(OSError):
            found += sorted(f"{folder}/{name}" for name in os.listdir(root / folder) if claims.is_own(name))
    return found
