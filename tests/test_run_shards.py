"""The samples of a run cut into shards."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafiqs.shards import LARGEST, Shards, one_shard, usual_size

SHARDS = st.builds(Shards, st.integers(0, 3000), st.integers(1, 200))


@given(SHARDS)
def test_every_sample_is_in_one_shard(shards: Shards) -> None:
    every = [list(shards.samples(number)) for number in range(len(shards))]
    assert [index for shard in every for index in shard] == list(range(shards.count))
    assert all(len(shard) == shards.size for shard in every[:-1])
    assert all(0 < len(shard) <= shards.size for shard in every)
    assert all(shards.of(index) == number for number, shard in enumerate(every) for index in shard)


@given(SHARDS, st.integers(1, 60))
def test_batches_are_cut_from_whole_shards(shards: Shards, size: int) -> None:
    for number in range(len(shards)):
        batches = list(shards.batches(number, size))
        assert [index for batch in batches for index in batch] == list(shards.samples(number))
        assert all(len(batch) == size for batch in batches[:-1])
        assert all(0 < len(batch) <= size for batch in batches)
        assert all(shards.batch_of(index, size) == batch for batch in batches for index in batch)


@given(SHARDS, st.integers(1, 70))
def test_every_shard_is_in_one_part(shards: Shards, parts: int) -> None:
    shares = [list(shards.share(part, parts)) for part in range(1, parts + 1)]
    assert sorted(number for share in shares for number in share) == list(range(len(shards)))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.integers(0, 50_000_000), st.integers(1, 1024))
def test_the_usual_size_is_of_whole_batches_and_within_bounds(count: int, batch_size: int) -> None:
    size = usual_size(count, batch_size)
    assert size % batch_size == 0
    assert size <= max(LARGEST, batch_size)
    assert size > 64 - batch_size
    assert len(Shards(count, size)) <= max(2 * 64, 2 * count // LARGEST) + 1


@pytest.mark.parametrize(
    ("count", "batch_size", "size"),
    [(0, 4, 64), (1, 4, 64), (20, 4, 64), (5000, 10, 70), (65_536, 8, 1024), (42_000_000, 8, 1024), (20, 1024, 1024)],
)
def test_the_usual_size(count: int, batch_size: int, size: int) -> None:
    """These bind: a run that is resumed has the same shards, and what `--part` does depends on them."""
    assert usual_size(count, batch_size) == size


def test_uncut_samples_are_one_shard() -> None:
    shards = one_shard(range(5000))
    assert [shards.samples(number) for number in range(len(shards))] == [range(5000)]
    assert len(one_shard([])) == 0
