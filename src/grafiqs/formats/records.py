"""insightface's training sets: RecordIO files of encoded images, with an index beside them, read without MXNet.

A record is one or more parts, each `magic, kind << 29 | size, data`, little-endian, padded to 4 bytes; where the magic
occurs in the data, at a multiple of 4, the writer splits them there and leaves it out. The data of an image are a
header `flag, label, id, id2`, then `flag` more labels when flag > 0, then the encoded image.
"""

from __future__ import annotations

import logging
import struct
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.formats.dataset import MAX_BYTES, Dataset, too_large
from grafiqs.formats.shared_file import SharedFile
from grafiqs.names import in_order, shown

log = logging.getLogger(__name__)

_MAGIC = 0xCED7230A
_MAGIC_BYTES = struct.pack("<I", _MAGIC)
_PART = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")
_LABEL = struct.Struct("<f")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)

_PARTS = 10_000
"""The most parts of a record. Chance puts the magic into an image of a megabyte once in 16,000 times."""

_EXACT = 2**24
"""Up to here float32, the type of labels, holds every whole number."""


class _DamagedError(Exception):
    """Where bytes are not what they should be; the message says where."""


@dataclass(frozen=True)
class _Index:
    """Where records begin: their keys, ascending; the rank of each in the file; by rank, their offsets, and the end."""

    keys: Sequence[int]
    ranks: Sequence[int]
    offsets: Sequence[int]

    def span(self, key: int) -> tuple[int, int]:
        """Where a record begins, and where it ends at the latest."""
        place = bisect_left(self.keys, key)
        if place == len(self.keys) or self.keys[place] != key:
            raise _DamagedError(f"the index has no record {key}")
        rank = self.ranks[place]
        return self.offsets[rank], self.offsets[rank + 1]


@dataclass(frozen=True)
class _Head:
    """What stands before the image of a record: its labels (one, or `flag` of them), and whether an image follows."""

    flag: int
    labels: tuple[float, ...]
    empty: bool

    @property
    def identity(self) -> int | None:
        """The first label, where it is a whole number."""
        label = self.labels[0]
        return int(label) if label.is_integer() and abs(label) < 2**31 else None

    @property
    def is_range(self) -> bool:
        """Whether it speaks of the records from its first label up to its second, and holds no image itself."""
        if not self.empty or self.flag < 2:
            return False
        first, second = self.labels
        return first.is_integer() and second.is_integer() and 1 <= first <= second


class Records(Dataset):
    """A training set: identities are the labels, as seven digits; samples the keys of their records, as eight.

    Records are listed by their identity ranges, where record 0 has them, or else by their labels. An index that is
    missing or damaged is made again by walking from record to record; its keys are then the ids in the records' own
    headers, which is where packers put them, or else, where two images have the same, the places in the file.
    `flat` makes all of them one unnamed identity. Raises RequestError when the file cannot be followed.
    """

    form = "RecordIO"

    def __init__(self, place: Path, flat: bool = False) -> None:
        self.place = place
        self._flat = flat
        try:
            self._file = SharedFile(place)
        except OSError as error:
            raise RequestError(f"cannot read {shown(place)}: {error.strerror}") from error
        self._index_path = place.with_suffix(".idx")
        self._walked = False
        found = self._found()
        if not found:
            raise RequestError(f"{shown(place)} holds no image of an identity: check --image-path")
        self._keys = {_name(label): keys for label, keys in found.items()}
        self.identities = ("",) if flat else in_order(self._keys)

    def samples(self, identity: str) -> tuple[str, ...]:
        """The keys of an identity's records."""
        if self._flat:
            return in_order(f"{name}/{_key(key)}" for name, keys in self._keys.items() for key in keys)
        return in_order(map(_key, self._keys[identity]))

    def read(self, location: str) -> bytes:
        """The encoded image of a record. Raises UnreadableSampleError, with the reason."""
        name, _, key = location.partition("/")
        try:
            if _key(int(key)) != key:
                raise ValueError
            data = self._record(int(key))
            head, image = _parsed(data, len(data))
        except ValueError as error:
            raise UnreadableSampleError("is not in the training set") from error
        except _DamagedError as error:
            raise UnreadableSampleError(f"the record is damaged: {error}") from error
        except OSError as error:
            raise UnreadableSampleError(f"cannot be read: {error.strerror}") from error
        if head.identity is None or _name(head.identity) != name:
            raise UnreadableSampleError(f"the record has the label {head.labels[0]:g}, and is listed for {name}")
        return data[image:]

    def _found(self) -> dict[int, Sequence[int]]:
        """The keys of every identity's records."""
        try:
            self._index = _read_index(self._index_path, self._file.size)
            end = _end(self._places(*self._index.offsets[-2:]))
            if end < self._file.size:
                raise _DamagedError(f"the last record that it names ends at byte {end} of {self._file.size}")
            return self._listed()
        except FileNotFoundError:
            log.info("There is no %s: walking through %s", shown(self._index_path), shown(self.place))
        except (_DamagedError, OSError) as error:
            log.warning("%s is damaged (%s): walking through %s", *map(shown, (self._index_path, error, self.place)))
        self._walked = True
        try:
            self._index = self._made()
            return self._listed()
        except (_DamagedError, OSError) as error:
            raise RequestError(f"{shown(self.place)} is damaged ({error}): get the file again") from error

    def _listed(self) -> dict[int, Sequence[int]]:
        by_range = self._by_range()
        return self._by_label() if by_range is None else by_range

    def _by_range(self) -> dict[int, Sequence[int]] | None:
        """Identities from the ranges that record 0 leads to; None where there are none, or they are not true."""
        keys = self._index.keys
        if not keys or keys[0] != 0:
            return None
        top = self._head(0)
        if not top.is_range or top.labels[1] > _EXACT:
            return None
        end = int(top.labels[1])
        if len(keys) < end or keys[end - 1] != end - 1:
            raise _DamagedError(f"not all records up to {end - 1} are there")
        found: dict[int, range] = {}
        listed = 0
        for number in range(int(top.labels[0]), end):
            head = self._head(number)
            if not head.is_range or head.labels[1] > top.labels[0]:
                return None
            own = range(int(head.labels[0]), int(head.labels[1]))
            if not own:
                continue
            label = self._head(own[0]).identity
            if label is None or label in found or label != self._head(own[-1]).identity:
                return None
            found[label] = own
            listed += len(own)
        last = 1
        for own in sorted(found.values(), key=lambda keys: keys[0]):
            if own[0] != last:
                return None
            last = own[-1] + 1
        return dict(found) if last == int(top.labels[0]) == listed + 1 else None

    def _by_label(self) -> dict[int, Sequence[int]]:
        """Identities from the labels of all records."""
        found: dict[int, array[int]] = {}
        nameless = 0
        for key in self._index.keys:
            head = self._head(key)
            if head.flag and head.empty:  # it speaks of other records
                continue
            if head.identity is None:
                nameless += 1
            else:
                found.setdefault(head.identity, array("Q")).append(key)
        if nameless:
            log.warning("%d records of %s have no whole number as label, and are left out", nameless, shown(self.place))
        return dict(found)

    def _head(self, key: int) -> _Head:
        """What stands before the image of a record, which itself is not read."""
        return _parsed(*self._begin(*self._index.span(key)))[0]

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

    def _record(self, key: int) -> bytes:
        """The data of a record, put together; an index that leads astray is made again, once.

        Threads that meet with that at once each make it, rather than wait: a lock could be forked while it is held.
        """
        index = self._index
        try:
            return self._joined(self._places(*index.span(key)))
        except _DamagedError:
            if not self._walked:
                self._make_again()
            if self._index is index:
                raise
        return self._joined(self._places(*self._index.span(key)))

    def _make_again(self) -> None:
        """Take the offsets from the file itself, where it holds as many records as the index names."""
        try:
            offsets = self._walk()
            if len(offsets) == len(self._index.offsets) and offsets != self._index.offsets:
                log.warning("%s leads astray: walked through %s", shown(self._index_path), shown(self.place))
                self._index = replace(self._index, offsets=offsets)
        except _DamagedError:
            pass
        self._walked = True

    def _made(self) -> _Index:
        """The index that the file itself gives: by the ids of its records, or else by their places.

        Records that speak of others may share an id: those that do are left out, which nothing but ranges needs.
        """
        offsets = self._walk()
        ids, images = array("Q"), array("Q")
        for rank, span in enumerate(pairwise(offsets)):
            data, size = self._begin(*span)
            if size < _HEADER.size:
                raise _DamagedError(f"a record of {size} bytes has no header")
            flag, _, number, _ = _HEADER.unpack_from(data)
            ids.append(number)
            if not flag or size != _HEADER.size + flag * _LABEL.size:
                images.append(rank)
        for ranks in (range(len(ids)), images):
            if index := _index(array("Q", (ids[rank] for rank in ranks)), ranks, offsets):
                log.info("The samples of %s are named by the ids in its records", shown(self.place))
                return index
        log.warning(
            "records of %s share an id: its samples are named by their places in the file, and may not be those that "
            "are drawn with its index",
            shown(self.place),
        )
        return _Index(range(len(ids)), range(len(ids)), offsets)

    def _walk(self) -> array[int]:
        """Where the records begin, from the first to the last, and the end."""
        offsets = array("Q")
        offset = 0
        while offset < self._file.size:
            offsets.append(offset)
            offset = _end(self._places(offset, self._file.size))
        offsets.append(self._file.size)
        return offsets

    def _places(self, offset: int, end: int) -> list[tuple[int, int]]:
        """Where the data of the record at `offset`, up to `end`, lie: offset and size of each part."""
        places: list[tuple[int, int]] = []
        while True:
            start = self._file.read_at(offset, min(_PART.size, end - offset))
            if len(start) < _PART.size:
                raise _DamagedError(f"a record ends before byte {offset + _PART.size}")
            magic, word = _PART.unpack(start)
            kind, size = word >> 29, word & (2**29 - 1)
            if magic != _MAGIC or kind not in ((_MIDDLE, _LAST) if places else (_WHOLE, _FIRST)):
                raise _DamagedError(f"at byte {offset} no {'part of a record' if places else 'record'} begins")
            offset += _PART.size
            if offset + size > end:
                raise _DamagedError(f"a record ends before byte {offset + size}")
            places.append((offset, size))
            if len(places) > _PARTS:
                raise _DamagedError(f"a record has more than {_PARTS} parts")
            if kind in (_WHOLE, _LAST):
                return places
            offset = _end(places)

    def _joined(self, places: list[tuple[int, int]]) -> bytes:
        if (size := _size(places)) > MAX_BYTES:
            raise UnreadableSampleError(too_large(size))
        data = _MAGIC_BYTES.join(self._file.read_at(offset, size) for offset, size in places)
        if len(data) < size:
            raise _DamagedError("the file has become shorter")
        return data


def _size(places: list[tuple[int, int]]) -> int:
    """How many bytes the parts of a record are together."""
    return sum(size for _, size in places) + (len(places) - 1) * len(_MAGIC_BYTES)


def _end(places: list[tuple[int, int]]) -> int:
    """Where the next part or record begins."""
    offset, size = places[-1]
    return offset + size + -size % 4


def _parsed(data: bytes, size: int) -> tuple[_Head, int]:
    """The head of a record, of whose `size` bytes `data` are the first, and where its image begins."""
    if size < _HEADER.size:
        raise _DamagedError(f"a record of {size} bytes has no header")
    flag, label, _, _ = _HEADER.unpack_from(data)
    image = _HEADER.size + flag * _LABEL.size
    if image > size:
        raise _DamagedError(f"a record of {size} bytes has no room for {flag} labels")
    labels = struct.unpack_from(f"<{min(flag, 2)}f", data, _HEADER.size) if flag else (label,)
    return _Head(flag, labels, empty=image == size), image


def _read_index(path: Path, end: int) -> _Index:
    """The index in a file of lines `key TAB offset`, in the order of the records, the last of which ends at `end`."""
    keys, offsets = array("Q"), array("Q")
    if path.exists() and not path.is_file():
        raise _DamagedError("it is no regular file")
    with path.open("rb") as lines:
        for line in lines:
            try:
                key, offset = map(int, line.split(None, 2))
                keys.append(key)
                offsets.append(offset)
            except (ValueError, OverflowError) as error:
                raise _DamagedError(f"line {len(offsets) + 1} is no key and offset") from error
            if offset % 4 or (offset != 0 if len(offsets) == 1 else offset <= offsets[-2]):
                raise _DamagedError(f"line {len(offsets)} has an offset where no record can begin")
    if not keys:
        raise _DamagedError("it names no record")
    offsets.append(end)
    index = _index(keys, range(len(keys)), offsets)
    if index is None:
        raise _DamagedError("it names a record twice")
    return index


def _index(keys: Sequence[int], ranks: Sequence[int], offsets: Sequence[int]) -> _Index | None:
    """The index of the records of these keys and ranks; None where two have the same key."""
    if any(first >= second for first, second in pairwise(keys)):
        places = sorted(range(len(keys)), key=keys.__getitem__)
        keys, ranks = (array("Q", (values[place] for place in places)) for values in (keys, ranks))
        if any(first == second for first, second in pairwise(keys)):
            return None
    return _Index(keys, ranks, offsets)


def _name(label: int) -> str:
    return f"{label:07d}"


def _key(key: int) -> str:
    return f"{key:08d}"
