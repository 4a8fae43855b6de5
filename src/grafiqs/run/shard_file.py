"""A file of the shard store: the gradients of one shard and layer, with a safetensors header that is known beforehand.

Of a file, all is known before it is read but which samples have rows, and the checksums of those. So a header is read
by writing it anew from what it says of these: it is right if that gives the same bytes. docs/store.md is the format.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import IO, Any

import numpy as np

from grafiqs.datasets.dataset import Sample
from grafiqs.disk.inside import PART

FORMAT = "grafiqs gradients 1"

TENSOR = "gradients"
"""What the one tensor of a file is called."""

MOST = 2**14
"""No file has more rows: readers of safetensors take headers of 100 MB, and names may be long."""

_HEADER = 100_000_000
_ENDING = ".safetensors"
_NAME = re.compile(rf"([0-9]{{5,}})({re.escape(_ENDING)}|\.[0-9]+{re.escape(PART)})")
_DTYPES = {"float32": "F32", "float16": "F16"}
_CHECKSUM = re.compile("[0-9a-f]{64}")

_BLOCK = 4096
"""The data begin at a multiple of it, so that they can be mapped."""


@dataclass(frozen=True)
class ShardFile:
    """The file of one shard and layer: `samples` are all of the shard, and `first` is the first one's index in the run.

    `shape` (C, H, W) and `dtype` are those of a gradient.

    >>> file = ShardFile("block4", 7, 448, (Sample("ann", "0", "ann/0.png"),), (2, 1, 1), "float32")
    >>> file.path, file.start, file.row_size, file.rows(file.header({0: "ab" * 32}))[0][:6]
    ('block4/00007.safetensors', 4096, 8, 'ababab')
    """

    layer: str
    number: int
    first: int
    samples: Sequence[Sample]
    shape: tuple[int, ...]
    dtype: str

    @property
    def path(self) -> str:
        """Where it lies: a POSIX path relative to the run folder."""
        return path_of(self.layer, self.number)

    def part(self, turn: int) -> str:
        """Where it lies before it is finished, if its shard was claimed `turn` times before."""
        return f"{self.layer}/{self.number:05}.{turn}{PART}"

    @cached_property
    def numbers(self) -> np.dtype[Any]:
        """The numbers of the data, little-endian."""
        return np.dtype(self.dtype).newbyteorder("<")

    @cached_property
    def row_size(self) -> int:
        """The bytes of one gradient."""
        return math.prod(self.shape) * self.numbers.itemsize

    @cached_property
    def start(self) -> int:
        """Where the data begin: behind a header in which every sample has a row, whether all have one or not."""
        longest = len(self._text(dict.fromkeys(range(len(self.samples)), "0" * 64)))
        return -(-(8 + longest) // _BLOCK) * _BLOCK

    def need_room(self) -> None:
        """Raise OSError when the header would be longer than readers of safetensors take."""
        if self.start > _HEADER:
            why = f"the names of its samples fill {self.start} bytes: a smaller --shard-size, or --store tree"
            raise OSError(errno.EFBIG, f"{self.path}: {why}", self.path)

    def place(self, row: int) -> int:
        """Where a row begins, or would."""
        return self.start + row * self.row_size

    def header(self, rows: dict[int, str]) -> bytes:
        """All that stands before the data.

        `rows` has the SHA-256 of each row: by the place of its sample in the shard, in ascending order.
        """
        return struct.pack("<Q", self.start - 8) + self._text(rows).ljust(self.start - 8)

    def rows(self, header: bytes) -> dict[int, str]:
        """The `rows` in a header that nobody vouches for. Raises ValueError if it cannot be one of this file."""
        try:
            metadata = json.loads(header[8:].decode("ascii"))["__metadata__"]
            places = {(sample.identity, sample.name): place for place, sample in enumerate(self.samples)}
            found = [places[identity, name] for identity, name in json.loads(metadata["samples"])]
            rows = dict(zip(found, json.loads(metadata["sha256"]), strict=True))
            if found == sorted(rows) and all(map(_CHECKSUM.fullmatch, rows.values())) and self.header(rows) == header:
                return rows
        except (ValueError, TypeError, KeyError, IndexError, RecursionError):
            pass
        raise ValueError(f"its header is not the one of shard {self.number} of this run")

    def read_rows(self, file: IO[bytes]) -> dict[int, str]:
        """The `rows` of a file that is open. Raises ValueError if it cannot be this one, or is not whole."""
        rows = self.rows(os.pread(file.fileno(), self.start, 0))
        size = os.fstat(file.fileno()).st_size
        if size != self.place(len(rows)):
            raise ValueError(f"it has {size} bytes instead of {self.place(len(rows))}")
        return rows

    def _text(self, rows: dict[int, str]) -> bytes:
        own = [self.samples[place] for place in rows]
        metadata = {
            "format": FORMAT,
            "layer": self.layer,
            "shard": str(self.number),
            "first": str(self.first),
            "samples": _json([[sample.identity, sample.name] for sample in own]),
            "sha256": _json(list(rows.values())),
            "rows_sha256": hashlib.sha256(b"".join(map(bytes.fromhex, rows.values()))).hexdigest(),
        }
        tensor = {
            "dtype": _DTYPES[self.dtype],
            "shape": [len(rows), *self.shape],
            "data_offsets": [0, len(rows) * self.row_size],
        }
        return _json({"__metadata__": metadata, TENSOR: tensor}).encode("ascii")


def path_of(layer: str, number: int) -> str:
    """Where the file of a shard and layer lies."""
    return f"{layer}/{number:05}{_ENDING}"


def shard_of(name: str) -> tuple[int, bool] | None:
    """The shard that a file is of by its name, and whether it is finished; None if it has another name.

    >>> shard_of("00007.safetensors"), shard_of("00007.2.part"), shard_of("notes.txt")
    ((7, True), (7, False), None)
    """
    match = _NAME.fullmatch(name)
    return None if match is None else (int(match[1]), match[2] == _ENDING)


def get(file: IO[bytes], form: ShardFile, row: int) -> bytes:
    """The bytes of a row of a file; fewer if it ends before that does."""
    return os.pread(file.fileno(), form.row_size, form.place(row))


def put(file: IO[bytes], data: bytes | memoryview, place: int) -> None:
    """Write all of the data from `place` on; from any thread. Raises OSError when the disk is full."""
    left = memoryview(data)
    while left:
        written = os.pwrite(file.fileno(), left, place)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left, place = left[written:], place + written


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
