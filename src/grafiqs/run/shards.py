"""The samples of a run cut into numbered shards of one size: what is claimed, done and stored as a whole."""

from __future__ import annotations

from dataclasses import dataclass

USUAL = 1024
"""About as many samples are in a shard: minutes of work, and a file of some gigabytes if all gradients are kept."""


def usual_size(batch_size: int) -> int:
    """The size of shards unless one is asked for: the largest multiple of a batch up to USUAL.

    >>> usual_size(8), usual_size(96), usual_size(1000)
    (1024, 960, 1000)
    """
    return max(1, USUAL // batch_size) * batch_size


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

    def share(self, part: int, parts: int) -> range:
        """The shards of one of so many parts, counted from 1: every `parts`-th.

        >>> Shards(10, 1).share(2, 4)
        range(1, 10, 4)
        """
        return range(part - 1, len(self), parts)
