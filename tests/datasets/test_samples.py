"""Samples in little memory are the samples that were given."""

from __future__ import annotations

import pickle
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafiqs.datasets.dataset import Sample
from grafiqs.datasets.samples import Samples

TEXT = st.text(alphabet="ab/.:0\u00e9\udcff\n\0", max_size=6)


@given(st.lists(st.builds(Sample, TEXT, TEXT, TEXT), max_size=20))
def test_any_samples_are_given_back(given_: list[Sample]) -> None:
    samples = Samples(given_)
    assert list(samples) == given_
    assert [samples[place] for place in range(-len(given_), len(given_))] == given_ * 2
    assert samples[1:-1:2] == tuple(given_[1:-1:2])
    assert samples == Samples(given_) == tuple(given_)
    assert hash(samples) == hash(Samples(given_))
    assert pickle.loads(pickle.dumps(samples)) == samples


@given(st.lists(st.sampled_from(["0.png", "0.jpg", "x/1.png", "noext"]), max_size=10), st.sampled_from(["", "ann"]))
def test_usual_locations_are_made_of_their_parts(paths: list[str], identity: str) -> None:
    made = [Sample(identity, path.rpartition(".")[0] or path, f"{identity}/{path}".lstrip("/")) for path in paths]
    assert list(Samples(made)) == made


def test_other_samples_are_others() -> None:
    assert Samples([Sample("a", "0", "a/0.png")]) != Samples([Sample("a", "0", "a/0.jpg")])
    assert Samples([Sample("a", "0", "a/0.png")]) != Samples()
    with pytest.raises(IndexError):
        Samples()[0]


def test_a_sample_takes_few_bytes() -> None:
    count = 20_000
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    samples = Samples(Sample(f"p{n // 50:05}", f"{n:07}", f"p{n // 50:05}/{n:07}.jpg") for n in range(count))
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(samples) == count
    assert taken / count < 50
