"""What the files in progress/ say of the samples of each shard; what is damaged there says nothing."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from typing import Any

from grafiqs.run.claims import Claims
from grafiqs.run.journal import Outcome, Scored, stated, values_of
from grafiqs.run.shard_work import Done, environments_of, has_environment, work
from grafiqs.shards import Shards


class DamagedShardError(OSError):
    """What stands in progress/ of a shard that is done cannot be so."""

    def __init__(self, number: int) -> None:
        what = f"progress/{work(number)}.done is damaged; the command that began the run does its shard again"
        super().__init__(errno.EIO, what)
        self.number = number


class ShardLines:
    """The lines of the shards in the files that `claims` are made of.

    `fits` says whether what a line states can be of this run.
    """

    def __init__(self, claims: Claims, shards: Shards, fits: Callable[[Scored], bool]) -> None:
        self._claims = claims
        self._shards = shards
        self._fits = fits

    def done(self, number: int) -> Done:
        """What a shard came to that is done. Raises OSError when its file is damaged."""
        with self._claims.opened(f"{work(number)}.done") as file:
            file.readline()
            values = values_of(file.readline())
        if len(values) != len(fields(Done)):
            raise DamagedShardError(number)
        found = Done(*values)
        if not found.is_one() or found.scored + found.failed != len(self._shards.samples(number)):
            raise DamagedShardError(number)
        return found

    def begun(self, number: int, turns: int | None = None) -> tuple[dict[int, Scored], list[dict[str, Any]]]:
        """The samples of a shard that were done by its holders so far, and the environments in which that was."""
        found: dict[int, Scored] = {}
        environments: list[dict[str, Any]] = []
        for name in self._claims.turns(work(number))[:turns]:
            own = environments_of(self._claims.holder(name))
            scored = {each.index: each for each in self.read(name, number) if isinstance(each, Scored)}
            if scored:
                environments += [each for each in own if not has_environment(environments, each)]
            found |= scored
        return found, environments

    def scored(self, number: int) -> dict[int, Scored]:
        """The samples with scores of a shard that is done, as far as that can be read."""
        every = self.read(f"{work(number)}.done", number)
        return {outcome.index: outcome for outcome in every if isinstance(outcome, Scored)}

    def last(self, number: int) -> list[Outcome]:
        """The outcomes of a shard that is not done, the last of each sample."""
        turns = self._claims.turns(work(number))
        return list({each.index: each for name in turns for each in self.read(name, number)}.values())

    def read(self, name: str, number: int) -> Iterator[Outcome]:
        """The outcomes in a file, but for lines that are damaged or say nothing."""
        every = self._shards.samples(number)
        with suppress(FileNotFoundError), self._claims.opened(name) as file:
            for text in file:
                if text.endswith(b"\n") and text[:1] not in b"\n{":
                    outcome = stated(text, Scored, self._fits)
                    if outcome is not None and outcome.index in every:
                        yield outcome
