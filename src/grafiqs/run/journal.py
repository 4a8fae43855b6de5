"""What has been done so far, a line a sample, and progress.jsonl, which holds the lines of an alignment.

A line is appended when all files of its sample stand under their final names. Of progress.jsonl only the place of each
line is kept in memory. Runs of earlier versions had one, too.
"""

from __future__ import annotations

import base64
import errno
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any, Generic, NamedTuple, TypeVar

import numpy as np

from grafiqs.disk import inside

NAME = "progress.jsonl"


@dataclass(frozen=True)
class Scored:
    """A sample that is done: its scores and the checksums of its gradient files, in the order of the layers.

    `face` is the row of the face that it was aligned by, in the order of `grafiqs.faces.face.Face`, or empty;
    `embedding` the bytes of its float32 numbers in base64, or empty.
    """

    index: int
    image_sha256: str
    scores: list[float]
    files_sha256: list[str]
    face: list[float | None]
    embedding: str


class Crop(NamedTuple):
    """An aligned crop that is written: the row of its face, its checksum and its size in bytes."""

    face: list[float | None]
    sha256: str
    size: int


@dataclass(frozen=True)
class Aligned:
    """A sample whose aligned crops are written, one as a rule, and the checksum of its picture."""

    index: int
    image_sha256: str
    crops: list[Crop]

    def __post_init__(self) -> None:
        object.__setattr__(self, "crops", [Crop(*crop) for crop in self.crops])  # JSON knows lists alone


@dataclass(frozen=True)
class Failed:
    """A sample that could not be scored or aligned, and why."""

    index: int
    reason: str


_BEFORE = 2 + len(Crop._fields)
"""How many values the line of an aligned sample had in versions that knew one crop alone: those of the crop as its own.
"""

Outcome = Scored | Failed

Done = TypeVar("Done", Scored, Aligned)


class Journal(Generic[Done]):
    """The journal of `count` samples, of which none is done until it is loaded.

    `kind` is what a sample that is done comes to; `fits` says whether what a line states can be of this run.
    """

    def __init__(self, folder: Path, count: int, kind: type[Done], fits: Callable[[Done], bool]) -> None:
        self._kind: type[Done] = kind
        self._fits: Callable[[Done], bool] = fits
        self._folder = folder
        self._places = np.full(count, -1, dtype=np.int64)
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self._places)

    def __contains__(self, index: int) -> bool:
        return bool(self._places[index] >= 0)

    def pending(self) -> list[int]:
        """The indices of the samples that are not done, in order."""
        return (self._places < 0).nonzero()[0].tolist()

    @property
    def is_loaded(self) -> bool:
        """Whether outcomes can be recorded."""
        return self._file is not None

    def load(self) -> None:
        """Take up the journal that the folder holds, or a new one. Raises OSError when that cannot be.

        The lines of samples that are done are found; a torn last line is cut off, a failure is left to be tried again.
        """
        self._file = inside.opened(self._folder, NAME, append=True)
        self._file.truncate(self.look())

    def look(self) -> int:
        """Find the lines of samples that are done, in the journal that the folder holds; returns where the last ends.

        Raises OSError when there is none.
        """
        place, known = 0, range(len(self._places))
        with inside.opened(self._folder, NAME) as file:
            for text in file:
                if not text.endswith(b"\n"):
                    break
                outcome = self._stated(text)
                if outcome is not None and not isinstance(outcome, Failed) and outcome.index in known:
                    self._places[outcome.index] = place
                place += len(text)
        return place

    def append(self, outcome: Done | Failed) -> None:
        """Record one outcome; it is on its way to the disk when this returns. Raises OSError when the disk is full."""
        if self._file is None:
            raise ValueError("the journal is not loaded")
        text = line(outcome)
        place = self._file.seek(0, os.SEEK_END)
        if self._file.write(text) != len(text):
            self._file.truncate(place)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._places[outcome.index] = place

    def forget(self, index: int) -> None:
        """Count a sample as not done after all."""
        self._places[index] = -1

    def outcomes(self, indices: Sequence[int] | None = None) -> Iterator[Done | Failed]:
        """Every outcome recorded, in the order of the samples, or those of these. Raises OSError for a damaged line."""
        places = self._places[self._places >= 0] if indices is None else self._places[indices]
        with inside.opened(self._folder, NAME) as file:
            for place in places:
                file.seek(place)
                outcome = self._stated(file.readline())
                if outcome is None:
                    raise OSError(errno.EIO, f"{NAME} was damaged while the run was at work")
                yield outcome

    def image_sha256(self, index: int) -> str:
        """The checksum of the image that a sample which is done was scored or aligned by."""
        with inside.opened(self._folder, NAME) as file:
            file.seek(self._places[index])
            outcome = self._stated(file.readline())
        return "" if outcome is None or isinstance(outcome, Failed) else outcome.image_sha256

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """The run is finished: its tables say it all."""
        inside.remove(self._folder, NAME)

    def _stated(self, text: bytes) -> Done | Failed | None:
        return stated(text, self._kind, self._fits)


def stated(text: bytes, kind: type[Done], fits: Callable[[Done], bool]) -> Done | Failed | None:
    """What a line states, or None when it is damaged, or not of this run: then its sample is done again.

    `kind` is what a sample that is done comes to; `fits` says whether that can be of this run.
    """
    values: list[Any] = values_of(text)
    if kind is Aligned and len(values) == _BEFORE:
        values = [*values[:2], [values[2:]]]
    if _are_of(kind, values):
        outcome = kind(*values)
        return outcome if fits(outcome) else None
    return Failed(*values) if _are_of(Failed, values) else None


def write(folder: Path, outcomes: Iterable[Scored | Aligned | Failed]) -> None:
    """Write the journal of these outcomes, in the place of one that may be there."""
    with inside.whole(folder, NAME) as file:
        file.writelines(map(line, outcomes))


def line(outcome: Scored | Aligned | Failed) -> bytes:
    """An outcome as a line of the journal."""
    return line_of(list(vars(outcome).values()))


def line_of(values: list[Any]) -> bytes:
    """Values as a line: the CRC-32 of their JSON, then the JSON."""
    text = json.dumps(values).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def values_of(text: bytes) -> list[Any]:
    """The values in a line; none when it is damaged."""
    checksum, _, content = text.rstrip(b"\n").partition(b" ")
    values: object = None
    with suppress(ValueError, RecursionError):
        values = json.loads(content) if checksum == b"%08x" % zlib.crc32(content) else None
    return values if isinstance(values, list) else []


def _are_of(kind: type[Scored | Aligned | Failed], values: list[Any]) -> bool:
    """Whether these can be the values of the fields of `kind`."""
    names = [field.name for field in fields(kind)]
    return len(values) == len(names) and all(_CHECKS[name](value) for name, value in zip(names, values, strict=True))


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: object) -> bool:
    return type(value) is float and math.isfinite(value)


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _is_embedding(value: object) -> bool:
    if value == "":
        return True
    try:
        return isinstance(value, str) and bool(
            np.isfinite(np.frombuffer(base64.b64decode(value, validate=True), "<f4")).all()
        )
    except ValueError:
        return False


def _every(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda values: isinstance(values, list) and all(map(check, values))


def _is_face(value: object) -> bool:
    return isinstance(value, list) and all(each is None or _is_number(each) for each in value)


def _is_crop(value: object) -> bool:
    if not isinstance(value, list) or len(value) != len(Crop._fields):
        return False
    face, sha256, size = value
    return _is_face(face) and _is_sha256(sha256) and _is_count(size)


_CHECKS: dict[str, Callable[[object], bool]] = {
    "index": _is_count,
    "reason": lambda value: isinstance(value, str),
    "image_sha256": _is_sha256,
    "crops": _every(_is_crop),
    "files_sha256": _every(_is_sha256),
    "scores": _every(_is_number),
    "face": _is_face,
    "embedding": _is_embedding,
}
"""What the values of each field are: the line may be damaged, or written by somebody else."""
