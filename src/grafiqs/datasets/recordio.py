"""RecordIO: records of encoded images in one file, read without MXNet, and the index that lies beside it.

A record is one or more parts, each `magic, kind << 29 | size, data`, little-endian, padded to 4 bytes; where the magic
occurs in the data, at a multiple of 4, the writer splits them there and leaves it out. The data of an image are a
header `flag, label, id, id2`, then `flag` more labels when flag > 0, then the encoded image.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from grafiqs.datasets.dataset import MAX_BYTES, too_large
from grafiqs.datasets.shared_file import SharedFile
from grafiqs.errors import UnreadableSampleError

_MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", _MAGIC)
_PART = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
_LABEL = struct.Struct("<f")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)

_PARTS = 10_000
"""The most parts of a record. Chance puts the magic into an image of a megabyte once in 16,000 times."""


Span = tuple[int, int]
"""Where a record begins, and where it ends at the latest."""


class DamagedError(Exception):
    """Bytes are not what they should be; the message says where."""


class Head(NamedTuple):
    """What stands before the image of a record of `size` bytes: a header, and more labels if `flag` says so."""

    flag: int
    label: float
    id: int
    more: bytes
    """The first two of more labels, as far as the record has them."""
    size: int

    @property
    def image(self) -> int:
        """Where the image begins in the record's data."""
        return _HEADER.size + self.flag * _LABEL.size

    @property
    def is_alone(self) -> bool:
        """Whether it speaks of other records, and no image follows."""
        return bool(self.flag) and self.image == self.size

    @property
    def labels(self) -> tuple[float, ...]:
        """One, or the first two of several. Raises DamagedError if the record has no room for all."""
        if self.image > self.size:
            raise DamagedError(f"a record of {self.size} bytes has no room for {self.flag} labels")
        return struct.unpack_from(f"<{min(self.flag, 2)}f", self.more) if self.flag else (self.label,)

    @property
    def identity(self) -> int | None:
        """The first label, if it is a whole number."""
        label = self.labels[0]
        return int(label) if label.is_integer() and abs(label) < 2**31 else None

    @property
    def is_range(self) -> bool:
        """Whether it speaks of the records from its first label up to its second, and holds no image itself."""
        if not self.is_alone or self.flag < 2:
            return False
        first, second = self.labels
        return first.is_integer() and second.is_integer() and 1 <= first <= second


class RecordFile:
    """A file of records, which several threads and forked processes read at once.

    Whatever reads raises DamagedError if bytes are not what they should be.
    """

    def __init__(self, path: Path) -> None:
        self._file = SharedFile(path)
        self.size = self._file.size

    def head(self, span: Span) -> Head:
        """What stands before the image of a record, which itself is not read."""
        return head_of(*self._begin(*span))

    def data(self, span: Span) -> bytes:
        """The data of a record, put together. Raises UnreadableSampleError when they are too many."""
        return self._joined(self._places(*span))

    def end(self, span: Span) -> int:
        """Where the record after this one begins."""
        return _end(self._places(*span))

    def index(self) -> tuple[Index, bool]:
        """The index that the file itself gives, and whether by the ids of its records, or else by their places.

        Records that speak of others may share an id: those that do are left out, which nothing but ranges needs.
        """
        offsets, ids, images = array("Q"), array("Q"), array("Q")
        offset = 0
        while offset < self.size:
            offsets.append(offset)
            offset = self.end((offset, self.size))
        offsets.append(self.size)
        for rank, span in enumerate(pairwise(offsets)):
            head = self.head(span)
            ids.append(head.id)
            if not head.is_alone:
                images.append(rank)
        for ranks in (range(len(ids)), images):
            if index := _index(array("Q", (ids[rank] for rank in ranks)), ranks, offsets):
                return index, True
        return Index(range(len(ids)), range(len(ids)), offsets), False

    def _begin(self, offset: int, end: int) -> tuple[bytes, int]:
        """The first bytes of the data of a record, up to where its image can begin, and how many they are in all."""
        most = _HEADER.size + 2 * _LABEL.size
        start = self._file.read_at(offset, min(_PART.size + most, end - offset))
        if len(start) > _PART.size:
            magic, size = _PART.unpack_from(start)  # in one part, as nearly all are: its kind, 0, leaves the size alone
            if magic == _MAGIC and size >> 29 == _WHOLE and offset + _PART.size + size <= end:
                return start[_PART.size :], size
        places = self._places(offset, end)
        enough = places[: 1 + most // len(_MAGIC_BYTES)]  # parts without a byte have the magic between them
        return self._joined([(offset, min(size, most)) for offset, size in enough]), _size(places)

    def _places(self, offset: int, end: int) -> list[tuple[int, int]]:
        """Where the data of the record at `offset`, up to `end`, lie: offset and size of each part."""
        places: list[tuple[int, int]] = []
        while True:
            start = self._file.read_at(offset, min(_PART.size, end - offset))
            if len(start) < _PART.size:
                raise DamagedError(f"a record ends before byte {offset + _PART.size}")
            magic, word = _PART.unpack(start)
            kind, size = word >> 29, word & (2**29 - 1)
            if magic != _MAGIC or kind not in ((_MIDDLE, _LAST) if places else (_WHOLE, _FIRST)):
                raise DamagedError(f"at byte {offset} no {'part of a record' if places else 'record'} begins")
            offset += _PART.size
            if offset + size > end:
                raise DamagedError(f"a record ends before byte {offset + size}")
            places.append((offset, size))
            if len(places) > _PARTS:
                raise DamagedError(f"a record has more than {_PARTS} parts")
            if kind in (_WHOLE, _LAST):
                return places
            offset = _end(places)

    def _joined(self, places: list[tuple[int, int]]) -> bytes:
        if (size := _size(places)) > MAX_BYTES:
            raise UnreadableSampleError(too_large(size))
        data = _MAGIC_BYTES.join(self._file.read_at(offset, size) for offset, size in places)
        if len(data) < size:
            raise DamagedError("the file has become shorter")
        return data


def _size(places: list[tuple[int, int]]) -> int:
    """How many bytes the parts of a record are together."""
    return sum(size for _, size in places) + (len(places) - 1) * len(_MAGIC_BYTES)


def _end(places: list[tuple[int, int]]) -> int:
    """Where the next part or record begins."""
    offset, size = places[-1]
    return offset + size + -size % 4


def head_of(data: bytes, size: int) -> Head:
    """The head of a record, of whose `size` bytes `data` are the first. Raises DamagedError if there is none."""
    if size < _HEADER.size:
        raise DamagedError(f"a record of {size} bytes has no header")
    flag, label, number, _ = _HEADER.unpack_from(data)
    return Head(flag, label, number, data[_HEADER.size : _HEADER.size + 2 * _LABEL.size], size)


# -- the index ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Index:
    """Where records begin: their keys, ascending; the rank of each in the file; by rank, their offsets, and the end."""

    keys: Sequence[int]
    ranks: Sequence[int]
    offsets: Sequence[int]

    def span(self, key: int) -> Span:
        """Where the record of a key lies."""
        place = bisect_left(self.keys, key)
        if place == len(self.keys) or self.keys[place] != key:
            raise DamagedError(f"the index has no record {key}")
        rank = self.ranks[place]
        return self.offsets[rank], self.offsets[rank + 1]


def read_index(path: Path, end: int) -> Index:
    """The index in a file of lines `key TAB offset`, in the order of the records, the last of which ends at `end`."""
    keys, offsets = array("Q"), array("Q")
    if path.exists() and not path.is_file():
        raise DamagedError("it is not a regular file")
    with path.open("rb") as lines:
        for line in lines:
            try:
                key, offset = map(int, line.split(None, 2))
                keys.append(key)
                offsets.append(offset)
            except (ValueError, OverflowError) as error:
                raise DamagedError(f"line {len(offsets) + 1} is not a key and an offset") from error
            if offset % 4 or (offset != 0 if len(offsets) == 1 else offset <= offsets[-2]):
                raise DamagedError(f"line {len(offsets)} has an offset where no record can begin")
    if not keys:
        raise DamagedError("it names no record")
    offsets.append(end)
    index = _index(keys, range(len(keys)), offsets)
    if index is None:
        raise DamagedError("it names a record twice")
    return index


def _index(keys: Sequence[int], ranks: Sequence[int], offsets: Sequence[int]) -> Index | None:
    """The index of the records of these keys and ranks; None if two have the same key."""
    if any(first >= second for first, second in pairwise(keys)):
        places = sorted(range(len(keys)), key=keys.__getitem__)
        keys, ranks = (array("Q", (values[place] for place in places)) for values in (keys, ranks))
        if any(first == second for first, second in pairwise(keys)):
            return None
    return Index(keys, ranks, offsets)
