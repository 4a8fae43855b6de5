"""insightface's training sets: RecordIO files of encoded images, each with the label of its identity."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Sequence
from pathlib import Path

from grafiqs.datasets.dataset import Dataset
from grafiqs.datasets.recordio import DamagedError, Head, RecordFile, head_of, read_index
from grafiqs.disk.names import in_order, shown
from grafiqs.errors import RequestError, UnreadableSampleError

log = logging.getLogger(__name__)

_EXACT = 2**24
"""Up to here float32, the type of labels, holds every whole number."""


class Records(Dataset):
    """A training set: identities are the labels, as seven digits; samples the keys of their records, as eight.

    Records are listed by their identity ranges, if record 0 has them, or else by their labels. An index that is
    missing or damaged is made again by walking from record to record; its keys are then the ids in the records' own
    headers, which is where packers put them, or else, if two images have the same, the places in the file.
    `flat` makes all of them one unnamed identity. Raises RequestError when the file cannot be read.
    """

    form = "RecordIO"

    def __init__(self, place: Path, flat: bool = False) -> None:
        self.place = place
        self._flat = flat
        try:
            self._file = RecordFile(place)
        except OSError as error:
            raise RequestError(f"cannot read {shown(place)}: {error.strerror}") from error
        self._index_path = place.with_suffix(".idx")
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
            data = self._file.data(self._index.span(int(key)))
            head = head_of(data, len(data))
            identity = head.identity
        except ValueError as error:
            raise UnreadableSampleError("is not in the training set") from error
        except DamagedError as error:
            index = f"if {self._index_path.name} is wrong, the file is walked through without it"
            raise UnreadableSampleError(f"the record is damaged: {error}; {index}") from error
        except OSError as error:
            raise UnreadableSampleError(f"cannot be read: {error.strerror}") from error
        if identity is None or _name(identity) != name:
            raise UnreadableSampleError(f"the record has the label {head.labels[0]:g}, and is listed for {name}")
        return data[head.image :]

    def _found(self) -> dict[int, Sequence[int]]:
        """The keys of every identity's records."""
        try:
            self._index = read_index(self._index_path, self._file.size)
            end = self._file.end((self._index.offsets[-2], self._file.size))
            if end < self._file.size:
                raise DamagedError(f"the last record that it names ends at byte {end} of {self._file.size}")
            return self._listed()
        except FileNotFoundError:
            log.info("There is no %s: walking through %s", shown(self._index_path), shown(self.place))
        except (DamagedError, OSError) as error:
            log.warning("%s is damaged (%s): walking through %s", *map(shown, (self._index_path, error, self.place)))
        try:
            self._index, by_ids = self._file.index()
            if by_ids:
                log.info("The samples of %s are named by the ids in its records", shown(self.place))
            else:
                log.warning(
                    "records of %s share an id: its samples are named by their places in the file, and may not be "
                    "those that are drawn with its index",
                    shown(self.place),
                )
            return self._listed()
        except (DamagedError, OSError) as error:
            raise RequestError(f"{shown(self.place)} is damaged ({error}): get the file again") from error

    def _listed(self) -> dict[int, Sequence[int]]:
        by_range = self._by_range()
        return self._by_label() if by_range is None else by_range

    def _by_range(self) -> dict[int, Sequence[int]] | None:
        """Identities from the ranges that record 0 leads to; None if there are none, or they are wrong."""
        keys = self._index.keys
        if not keys or keys[0] != 0:
            return None
        top = self._head(0)
        if not top.is_range or top.labels[1] > _EXACT:
            return None
        end = int(top.labels[1])
        if len(keys) < end or keys[end - 1] != end - 1:
            raise DamagedError(f"not all records up to {end - 1} are there")
        found: dict[int, Sequence[int]] = {}
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
        following = 1
        for first, last in sorted((own[0], own[-1]) for own in found.values()):
            if first != following:
                return None
            following = last + 1
        return found if following == int(top.labels[0]) else None

    def _by_label(self) -> dict[int, Sequence[int]]:
        """Identities from the labels of all records."""
        found: dict[int, array[int]] = {}
        nameless = 0
        for key in self._index.keys:
            head = self._head(key)
            if head.is_alone:
                continue
            if (label := head.identity) is None:
                nameless += 1
            else:
                found.setdefault(label, array("Q")).append(key)
        if nameless:
            log.warning("%d records of %s have no whole number as label, and are left out", nameless, shown(self.place))
        return dict(found)

    def _head(self, key: int) -> Head:
        """What stands before the image of a record."""
        return self._file.head(self._index.span(key))


def _name(label: int) -> str:
    return f"{label:07d}"


def _key(key: int) -> str:
    return f"{key:08d}"
