"""A shard as work: what claims call it, what is known of it while it is at work, and what it came to."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from grafiqs.run.claims import Claim
from grafiqs.run.holder import Holder
from grafiqs.run.journal import Scored
from grafiqs.shards import Shards


def work(number: int) -> str:
    """A shard as claims call it.

    >>> work(17)
    '00017'
    """
    return f"{number:05}"


def shard_of(name: str, shards: Shards) -> int | None:
    """The shard that claims call so, if it is one of these.

    >>> shard_of("00001", Shards(20, 10)), shard_of("1", Shards(20, 10)), shard_of("tables", Shards(20, 10))
    (1, None, None)
    """
    number = int(name) if name.isdecimal() else len(shards)
    return number if number < len(shards) and work(number) == name else None


@dataclass(frozen=True)
class Done:
    """What a shard that is done came to."""

    environments: list[dict[str, Any]]
    scored: int
    failed: int
    files: list[list[str]]
    """The (SHA-256, path) of each file that holds several of its samples."""
    seconds: float
    """How long who did it was at it, by a clock of its own."""

    def is_one(self) -> bool:
        """Whether it can have been one: what is read may be damaged, or written by somebody else."""
        return (
            _are_environments(self.environments)
            and all(type(count) is int and count >= 0 for count in (self.scored, self.failed))
            and isinstance(self.files, list)
            and all(isinstance(each, list) and [*map(type, each)] == [str, str] for each in self.files)
            and type(self.seconds) is float
            and 0 <= self.seconds < 2**36
        )


@dataclass
class Open:
    """A shard that this process holds, with the lines of its samples that are done."""

    number: int
    claim: Claim
    environments: list[dict[str, Any]]
    lines: dict[int, bytes]
    known: dict[int, Scored]
    """Those that were done before it was claimed."""
    checksums: dict[int, list[str]]
    """Those of the gradients of each sample that has scores."""
    since: float = field(default_factory=time.monotonic)


def environments_of(holder: Holder | None) -> list[dict[str, Any]]:
    """The environments in which a holder said that it computes."""
    own = holder.words.get("environments") if holder is not None else None
    return own if _are_environments(own) else []


def _are_environments(value: object) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def has_environment(environments: list[dict[str, Any]], one: dict[str, Any]) -> bool:
    """Whether an environment is among others; the differences that self-checks saw do not count."""
    plain = {key: value for key, value in one.items() if key != "self_check"}
    return any({key: value for key, value in each.items() if key != "self_check"} == plain for each in environments)
