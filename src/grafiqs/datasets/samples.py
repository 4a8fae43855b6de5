"""Many samples in little memory: their names as bytes, one behind the other."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from grafiqs.datasets.dataset import Sample

COLUMNS = ("identity", "sample", "path")
"""The columns that identify a sample, in every table."""

_WHOLE = 0
"""The ending that stands for a location which is not made of identity, name and an ending: it is kept whole."""

_MOST = 2**16
"""As many endings can be told apart."""


def columns_of(sample: Sample) -> tuple[str, str, str]:
    """What identifies a sample, in every table."""
    return sample.identity, sample.name, sample.location


class Samples(Sequence[Sample]):
    """Samples in order, each made anew when it is asked for; some 30 bytes and its name are kept of it.

    >>> samples = Samples([Sample("ann", "0", "ann/0.png"), Sample("bob", "1", "elsewhere/1.png")])
    >>> len(samples), samples[1].location, samples[-2]
    (2, 'elsewhere/1.png', Sample(identity='ann', name='0', location='ann/0.png'))
    """

    def __init__(self, samples: Iterable[Sample] = ()) -> None:
        self._identities: list[str] = []
        self._endings: list[str] = [""]
        self._whose = array("I")
        self._ending = array("H")
        self._ends = array("Q")
        text = bytearray()
        numbers: dict[str, int] = {}
        endings: dict[str, int] = {}
        for sample in samples:
            identity, name, location = sample.identity, sample.name, sample.location
            number = numbers.setdefault(identity, len(numbers))
            if number == len(self._identities):
                self._identities.append(identity)
            start = f"{identity}/{name}" if identity else name
            ending = _WHOLE
            if location.startswith(start):
                rest = location[len(start) :]
                if rest in endings or len(endings) + 1 < _MOST:
                    ending = endings.setdefault(rest, len(endings) + 1)
                    if ending == len(self._endings):
                        self._endings.append(rest)
            self._whose.append(number)
            self._ending.append(ending)
            text += (name if ending else f"{len(name)}:{name}{location}").encode("utf-8", "surrogatepass")
            self._ends.append(len(text))
        self._text = bytes(text)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> Sample: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Sample, ...]: ...

    def __getitem__(self, place: int | slice) -> Sample | tuple[Sample, ...]:
        if isinstance(place, slice):
            return tuple(map(self._sample, range(*place.indices(len(self)))))
        if not -len(self) <= place < len(self):
            raise IndexError(f"there are {len(self)} samples, and none at {place}")
        return self._sample(place % len(self))

    def __iter__(self) -> Iterator[Sample]:
        return map(self._sample, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Samples):
            return len(self) == len(other) and all(map(Sample.__eq__, self, other))
        return tuple(self) == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash((self._text, len(self)))

    def __repr__(self) -> str:
        return f"Samples({list(self[:3])!r}{', ...' * (len(self) > 3)})"

    def _sample(self, place: int) -> Sample:
        start = self._ends[place - 1] if place else 0
        name = self._text[start : self._ends[place]].decode("utf-8", "surrogatepass")
        identity = self._identities[self._whose[place]]
        ending = self._ending[place]
        if ending == _WHOLE:
            length, _, both = name.partition(":")
            return Sample(identity, both[: int(length)], both[int(length) :])
        location = f"{identity}/{name}" if identity else name
        return Sample(identity, name, location + self._endings[ending])


class Locations(Sequence[str]):
    """The locations of samples, each made when it is asked for.

    >>> Locations(Samples([Sample("ann", "0", "ann/0.png")]))[0]
    'ann/0.png'
    """

    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [sample.location for sample in self._samples[place]]
        return self._samples[place].location
