"""What is known of the comparisons: their similarities, the qualities of their samples, and whose they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.backbones.catalogue import DIRECTIONS, EMBEDDING_NORM
from grafiqs.disk.names import encoded, in_order, key
from grafiqs.errors import RequestError
from grafiqs.evaluation.pairs import Pairs
from grafiqs.evaluation.scores import Method, Samples

RANDOM = "random"
"""The baseline of no order at all."""


def baselines(samples: Samples, seed: int) -> Iterator[Method]:
    """What costs nothing: the length of the embedding, unless it is among the scores, and an order drawn by `seed`."""
    if samples.embeddings is not None:
        with np.errstate(invalid="ignore"):
            norms = np.linalg.norm(samples.embeddings.astype(np.float64), axis=1)
        known = [method for method in samples.methods if method.name.endswith(EMBEDDING_NORM)]
        if not any(_are_alike(method.scores, norms) for method in known):
            taken = any(method.name == EMBEDDING_NORM for method in known)
            yield Method(f"embeddings/{EMBEDDING_NORM}" if taken else EMBEDDING_NORM, norms, DIRECTIONS[EMBEDDING_NORM])
    names = samples.names.below(range(len(samples.names)))
    digests = b"".join(hashlib.sha256(encoded(key(f"random\0{seed}\0{name}"))).digest() for name in names)
    drawn = np.frombuffer(digests, ">u8").reshape(len(names), -1)[:, 0]
    yield Method(RANDOM, drawn / 2.0**64, "higher")


def _are_alike(scores: NDArray[np.float64], norms: NDArray[np.float64]) -> bool:
    """Whether scores are these norms, as far as both are known."""
    count = min(len(scores), len(norms))
    both = ~np.isnan(scores[:count]) & ~np.isnan(norms[:count])
    return bool(np.allclose(scores[:count][both], norms[:count][both], rtol=1e-5, atol=0))


def similarities(pairs: Pairs, samples: Samples) -> tuple[NDArray[np.float64], str]:
    """The similarity of each comparison, NaN if it cannot be made; and what it is.

    Raises RequestError when there is nothing to compare by.
    """
    if pairs.similarity is not None:
        return pairs.similarity, "as the pairs state them"
    if samples.embeddings is None:
        raise RequestError(
            "there are no similarities: give --pairs with a column similarity, --embeddings, or a run made with "
            "--embeddings as the first SCORES"
        )
    return _cosine(samples.embeddings, pairs.places), f"cosine of the embeddings of {samples.whose}"


def pair_qualities(method: Method, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """The worse score of the two samples of each comparison, higher for better ones; NaN if one has none."""
    own = method.scores if method.direction == "higher" else -method.scores
    worse: NDArray[np.float64] = _padded(own, places)[places].min(axis=1)
    return worse


def _padded(values: NDArray[Any], places: NDArray[np.int64]) -> NDArray[Any]:
    """Values of samples, with NaN for those beyond."""
    missing = max(0, int(places.max(initial=-1)) + 1 - len(values))
    return np.concatenate([values, np.full((missing, *values.shape[1:]), np.nan, values.dtype)])


def doubts(pairs: Pairs, samples: Samples) -> Iterator[str]:
    """What looks wrong among the comparisons, a line each."""
    places = pairs.places
    itself = int((places[:, 0] == places[:, 1]).sum())
    if itself:
        yield f"pairs of a sample with itself: {itself:,}"
    both = places.min(axis=1) * (places.max(initial=0) + 1) + places.max(axis=1)
    again = len(places) - len(np.unique(both))
    if again:
        yield f"pairs that are listed more than once, and count each time: {again:,} too many"
    if len(set(samples.identities.values())) > 1:
        whose = _identities(samples, len(samples.names))[places]
        known = (whose >= 0).all(axis=1)
        against = int(((whose[:, 0] == whose[:, 1]) != pairs.genuine)[known].sum())
        if against:
            yield f"pairs whose label contradicts the identities of the samples: {against:,}; the label counts"


def _identities(samples: Samples, count: int) -> NDArray[np.int64]:
    """The number of the identity of each sample, in the order of their names; -1 if it is not known."""
    numbers = {identity: number for number, identity in enumerate(sorted(set(samples.identities.values())))}
    whose = np.full(count, -1, np.int64)
    for place, identity in samples.identities.items():
        whose[place] = numbers[identity]
    return whose


def _cosine(embeddings: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cosine of the embeddings of every comparison; NaN if one of them is missing, or nothing but zeros."""
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = embeddings.astype(np.float64)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    unit = _padded(unit, places)
    found = np.empty(len(places))
    for start in range(0, len(places), 65_536):
        first, second = unit[places[start : start + 65_536].T]
        found[start : start + 65_536] = np.einsum("ij,ij->i", first, second)
    return found


def people(places: NDArray[np.int64], genuine: NDArray[np.bool_], samples: Samples) -> tuple[NDArray[np.int64], str]:
    """The number of the identity of each sample compared, and where it is known from.

    Without names, samples that are compared as genuine are of one identity.
    """
    if len(set(samples.identities.values())) > 1:
        whose = _identities(samples, len(samples.names))[places]
        if (whose >= 0).all():
            return whose, "as they are named"
    names = samples.names.paths
    ranks = dict(zip(in_order(names), range(len(names)), strict=True))
    parent = np.arange(len(names))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = int(parent[place])
        return place

    for first, second in places[genuine]:
        parent[root(int(first))] = root(int(second))
    roots = np.array([root(place) for place in range(len(names))])
    first_of = np.full(len(names), len(names))
    np.minimum.at(first_of, roots, [ranks[name] for name in names])  # whatever order they came in
    return first_of[roots][places], "as genuine pairs connect samples"
