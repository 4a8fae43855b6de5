"""progress.jsonl: what a run has done so far, a line a sample, there until the run is finished.

A line is appended when all files of its sample stand under their final names. Only the place of each line is
kept in memory.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

NAME = "progress.jsonl"


@dataclass(frozen=True)
class Scored:
    """A sample that is done: its scores and the checksums of its gradient files, in the order of the layers."""

    index: int
    image_sha256: str
    scores: list[float]
    files_sha256: list[str]


@dataclass(frozen=True)
class Failed:
    """A sample that could not be scored, and why."""

    index: int
    reason: str


Outcome = Scored | Failed


class Journal:
    """The journal of a run of `count` samples, new or found in the folder."""

    def __init__(self, folder: Path, count: int) -> None:
        self._path = folder / NAME
        self._places = np.full(count, -1, dtype=np.int64)
        self._file = self._path.open("a+b", buffering=0)
        self._load()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __contains__(self, index: int) -> bool:
        return bool(self._places[index] >= 0)

    def append(self, outcome: Outcome) -> None:
        """Record one outcome; it is on its way to the disk when this returns. Raises OSError when the disk is full."""
        text = line(outcome)
        place = self._file.seek(0, os.SEEK_END)
        if self._file.write(text) != len(text):
            self._file.truncate(place)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._places[outcome.index] = place

    def forget(self, index: int) -> None:
        """Count a sample as not done after all."""
        self._places[index] = -1

    def outcomes(self) -> Iterator[Outcome]:
        """Every outcome recorded, in the order of the samples."""
        with self._path.open("rb") as file:
            for place in self._places[self._places >= 0]:
                file.seek(place)
                yield _from_list(json.loads(file.readline()))

    def remove(self) -> None:
        """The run is finished: its tables say it all."""
        self._path.unlink()

    def _load(self) -> None:
        """Find the lines of scored samples; a torn last line is cut off, a failure is left to be tried again."""
        place = 0
        with self._path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    outcome = _from_list(json.loads(line))
                    if isinstance(outcome, Scored) and 0 <= outcome.index < len(self._places):
                        self._places[outcome.index] = place
                except (ValueError, TypeError):
                    pass  # a damaged line: its sample is done again
                place += len(line)
        self._file.truncate(place)


def line(outcome: Outcome) -> bytes:
    """An outcome as a line of the journal."""
    return json.dumps(list(vars(outcome).values())).encode() + b"\n"


def _from_list(values: list[object]) -> Outcome:
    if len(values) == 2:
        return Failed(*values)  # type: ignore[arg-type]
    return Scored(*values)  # type: ignore[arg-type]
