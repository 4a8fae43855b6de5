"""The samples of a run cut into numbered shards of one size: what is claimed, done and stored as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass

LARGEST = 1024
"""As many samples are in a shard of a large run: minutes of work, and a file of some gigabytes for all gradients."""

_LEAST = 64
"""A run has about so many shards until they have LARGEST samples, and no shard fewer samples, if it is not the last."""


def usual_size(count: int, batch_size: int) -> int:
    """The size of the shards of so many samples, unless one is asked for: whole batches.

    >>> usual_size(100, 8), usual_size(12_000, 8), usual_size(10_000_000, 96), usual_size(100, 128), usual_size(100, 48)
    (64, 184, 960, 128, 96)
    """
    wanted = min(LARGEST, max(_LEAST, count // _LEAST))
    return max(wanted // batch_size, -(-_LEAST // batch_size)) * batch_size


@dataclass(frozen=True)
class Shards:
    """`count` samples in shards of `size`; the last may have fewer.

    >>> shards = Shards(2500, 1024)
    >>> len(shards), shards.samples(2), shards.of(1024)
    (3, range(2048, 2500), 1)
    """

    count: int
    size: int

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def samples(self, number: int) -> range:
        """The indices of the samples of a shard."""
        return range(number * self.size, min((number + 1) * self.size, self.count))

    def of(self, index: int) -> int:
        """The shard that a sample is in."""
        return index // self.size

    def batches(self, number: int, size: int) -> Iterator[range]:
        """The batches of a shard, of one size but for the last: no batch reaches into another shard.

        >>> list(Shards(20, 10).batches(1, 4))
        [range(10, 14), range(14, 18), range(18, 20)]
        """
        every = self.samples(number)
        return (every[start : start + size] for start in range(0, len(every), size))

    def batch_of(self, index: int, size: int) -> range:
        """The batch that a sample is in.

        >>> Shards(20, 10).batch_of(15, 4)
        range(14, 18)
        """
        every = self.samples(self.of(index))
        start = (index - every.start) // size * size
        return every[start : start + size]

    def share(self, part: int, parts: int) -> range:
        """The shards of one of so many parts, counted from 1: every `parts`-th.

        >>> Shards(10, 1).share(2, 4)
        range(1, 10, 4)
        """
        return range(part - 1, len(self), parts)


def one_shard(samples: Sized) -> Shards:
    """These samples, uncut.

    >>> len(one_shard("abc")), len(one_shard([]))
    (1, 0)
    """
    return Shards(len(samples), max(1, len(samples)))
