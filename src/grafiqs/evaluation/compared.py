"""What is known of the comparisons: their similarities, the qualities of their samples, and whose they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from grafiqs.backbones.catalogue import DIRECTIONS, EMBEDDING_NORM
from grafiqs.disk.names import encoded, key
from grafiqs.errors import RequestError
from grafiqs.evaluation.pairs import Pairs
from grafiqs.evaluation.scores import Method, Samples

RANDOM = "random"
"""The baseline of no order at all."""


def baselines(samples: Samples, seed: int) -> Iterator[Method]:
    """What costs nothing: the length of the embedding, unless it is among the scores, and an order drawn by `seed`."""
    if samples.embeddings is not None and not any(method.name.endswith(EMBEDDING_NORM) for method in samples.methods):
        with np.errstate(invalid="ignore"):
            norms = np.linalg.norm(samples.embeddings.astype(np.float64), axis=1)
        yield Method(EMBEDDING_NORM, norms, DIRECTIONS[EMBEDDING_NORM])
    digests = b"".join(hashlib.sha256(encoded(key(f"random\0{seed}\0{path}"))).digest() for path in samples.names.paths)
    drawn = np.frombuffer(digests, ">u8").reshape(len(samples.names), -1)[:, 0]
    yield Method(RANDOM, drawn / 2.0**64, "higher")


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
    return _cosine(samples.embeddings, pairs.places), "cosine of the embeddings of the first SCORES"


def pair_qualities(method: Method, places: NDArray[np.int64]) -> NDArray[np.float64]:
    """The worse score of the two samples of each comparison, higher for better ones; NaN if one has none."""
    own = method.scores if method.direction == "higher" else -method.scores
    own = np.append(own, np.nan)  # at -1, of a sample that is not known
    worse: NDArray[np.float64] = own[places].min(axis=1)
    return worse


def doubts(pairs: Pairs, identities: Sequence[str] | None) -> Iterator[str]:
    """What looks wrong among the comparisons, a line each."""
    known = pairs.places[(pairs.places >= 0).all(axis=1)]
    itself = int((known[:, 0] == known[:, 1]).sum())
    if itself:
        yield f"{itself:,} comparisons are of a sample with itself"
    both = known.min(axis=1) * (known.max(initial=0) + 1) + known.max(axis=1)
    again = len(known) - len(np.unique(both))
    if again:
        yield f"{again:,} comparisons are there before, and count again"
    if identities is None or len(set(identities)) < 2:
        return
    _, whose = np.unique(np.array(identities, object).astype(str), return_inverse=True)
    same = whose[known[:, 0]] == whose[known[:, 1]]
    against = int((same != pairs.genuine[(pairs.places >= 0).all(axis=1)]).sum())
    if against:
        yield f"{against:,} comparisons are genuine or not against what the identities of the first SCORES say"


def _cosine(embeddings: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cosine of the embeddings of every comparison; NaN if one of them is missing, or nothing but zeros."""
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = embeddings.astype(np.float64)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    unit = np.concatenate([unit, np.full((1, unit.shape[1]), np.nan)])
    found = np.empty(len(places))
    for start in range(0, len(places), 65_536):
        first, second = unit[places[start : start + 65_536].T]
        found[start : start + 65_536] = np.einsum("ij,ij->i", first, second)
    return found


def people(places: NDArray[np.int64], genuine: NDArray[np.bool_], samples: Samples) -> tuple[NDArray[np.int64], str]:
    """The number of the identity of each sample compared, and where it is known from.

    Without names, samples that are compared as genuine are of one identity.
    """
    if samples.identities is not None and len(set(samples.identities)) > 1:
        _, whose = np.unique(np.array([*samples.identities, "\0"], object).astype(str), return_inverse=True)
        return whose[places], "as the data set names them"
    parent = np.arange(len(samples.names) + 1)

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = int(parent[place])
        return place

    for first, second in places[genuine]:
        parent[root(int(first))] = root(int(second))
    whose = np.array([root(place) for place in range(len(parent))])
    return whose[places], "as genuine comparisons connect samples"
