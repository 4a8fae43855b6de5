"""Which samples are compared, and whether they are of one identity: from a table of pairs, or all that there are."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grafiqs.datasets.verification import VerificationSet
from grafiqs.disk.names import encoded, extension, key, shown
from grafiqs.errors import RequestError
from grafiqs.evaluation.pair_table import read_table
from grafiqs.evaluation.scores import Samples
from grafiqs.run import sums
from grafiqs.run.tables import IMAGE_SUMS

_MOST = 50_000_000
"""Comparisons beyond which memory is no longer that of an ordinary machine."""


@dataclass(frozen=True)
class Pairs:
    """Comparisons: the places of the two samples (N, 2), whether they are genuine, and similarity if it is given."""

    places: NDArray[np.int64]
    genuine: NDArray[np.bool_]
    similarity: NDArray[np.float64] | None
    said: str


def read_pairs(path: Path, samples: Samples) -> Pairs:
    """The comparisons of a table, or of insightface's .bin.

    Without a column that says what is genuine, identities do, where they are known.
    Raises RequestError when it cannot be read, names no sample that is known, or contradicts itself.
    """
    if extension(path.name) == "bin":
        return _of_bin(path, samples)
    table = read_table(path, identified=bool(samples.identities))
    count, before = len(table.first), len(samples.names)
    places = samples.names.places(list(table.names), shown(path))[np.stack([table.first, table.second], axis=1)]
    if table.genuine:
        genuine = np.array(table.genuine)
    else:
        genuine = np.array([_same(samples, one, other, path) for one, other in places.tolist()])
    alike = np.array(table.similarity, np.float64) if table.similarity else None
    said = (
        f"{count:,} pairs of {shown(path.name)}{f' ({table.form})' * bool(table.form)}, {int(genuine.sum()):,} genuine"
    )
    if len(samples.names) > before:
        said += f"; {len(samples.names) - before:,} of its names are of no sample with a score"
    _refuse_contradictions(places, genuine, samples, path)
    return Pairs(places, genuine, alike, said + ", with similarities" * (alike is not None))


def _same(samples: Samples, first: int, second: int, path: Path) -> bool:
    one, other = samples.identity(first), samples.identity(second)
    if one is None or other is None:
        unknown = samples.names.paths[first if one is None else second]
        raise RequestError(
            f"{shown(path)} does not say which pairs are genuine, and the identity of {shown(unknown)} is not known: "
            "give it a column genuine, 1 or 0"
        )
    return one == other


def _refuse_contradictions(places: NDArray[np.int64], genuine: NDArray[np.bool_], samples: Samples, path: Path) -> None:
    size = len(samples.names)
    pair = places.min(axis=1) * size + places.max(axis=1)
    against = np.intersect1d(pair[genuine], pair[~genuine])
    if len(against):
        first, second = divmod(int(against[0]), size)
        raise RequestError(
            f"{shown(path)} says of {len(against):,} pairs that they are genuine, and that they are not, such as "
            f"{shown(samples.names.paths[first])} and {shown(samples.names.paths[second])}"
        )


def _of_bin(path: Path, samples: Samples) -> Pairs:
    """The pairs in insightface's .bin, whose samples are numbered: a run states of which images."""
    verification = VerificationSet(path)
    pairs = of_dataset([(*pair[:2], pair[2]) for pair in verification.pairs], samples, shown(path.name))
    if samples.run is None:
        raise RequestError(
            f"the images in {shown(path)} have numbers for names, and scores of a table may be of other ones: give its "
            "run as the first SCORES, or the pairs as a table"
        )
    stated = {location: checksum for checksum, location in sums.read(samples.run.folder / IMAGE_SUMS.name)}
    others = [
        location
        for pair in verification.pairs
        for location in pair[:2]
        if location in stated and hashlib.sha256(verification.read(location)).hexdigest() != stated[location]
    ]
    if others:
        raise RequestError(
            f"{len(set(others)):,} images in {shown(path)} are not those that were scored, such as number {others[0]}: "
            "it is another set"
        )
    return pairs


def of_dataset(pairs: Sequence[tuple[str, str, bool]], samples: Samples, what: str) -> Pairs:
    """The comparisons that a data set wants made. Raises RequestError when no sample of them is known."""
    names = [name for pair in pairs for name in pair[:2]]
    places = samples.names.places(names, what).reshape(-1, 2)
    genuine = np.array([same for _, _, same in pairs], bool)
    return Pairs(places, genuine, None, f"{len(pairs):,} pairs of {what}, {int(genuine.sum()):,} genuine")


def every_pair(samples: Samples, seed: int) -> Pairs:
    """All genuine comparisons among the samples with an identity and an embedding, and as many impostors.

    The draw by `seed` is by keyed hash, so that it depends on names and seed alone: samples stand in a ring, in the
    order of sha256("impostor", seed, identity, path), each is compared with the next, then with the
    one after, and so on, as far as it takes. So fewer impostors are the first of more. The path is without extension
    and without the folders that stand before all of them.
    Raises RequestError when no identity has two samples, or there is one identity.
    """
    made = np.zeros(len(samples.names), bool)
    made[list(samples.identities)] = True
    if samples.embeddings is not None:
        made[len(samples.embeddings) :] = False
        made[: len(samples.embeddings)] &= ~np.isnan(samples.embeddings).any(axis=1)
    known = np.flatnonzero(made)
    identities = [samples.identities[place] for place in known.tolist()]
    own: defaultdict[str, list[int]] = defaultdict(list)
    for place, identity in zip(known.tolist(), identities, strict=True):
        own[identity].append(place)
    count = sum(len(places) * (len(places) - 1) // 2 for places in own.values())
    if not count:
        raise RequestError("no identity has two samples with scores, so that nothing is genuine: give --pairs")
    if len(own) < 2:
        raise RequestError("there is one identity, so that nothing is an impostor: give --pairs")
    if count > _MOST:
        raise RequestError(f"there are {count:,} genuine pairs, more than fit into memory: give some in --pairs")
    genuine = [np.array(places)[np.stack(np.triu_indices(len(places), 1), axis=1)] for places in own.values()]
    ring = impostor_ring(samples.names.below(known.tolist()), identities, seed, count)
    places = np.concatenate([*genuine, known[ring]]).astype(np.int64)
    said = f"all {count:,} genuine pairs, and {len(ring):,} impostors drawn by seed {seed}"
    if len(known) < len(samples.names):
        said += f"; {len(samples.names) - len(known):,} samples without an embedding, or identity, are not compared"
    return Pairs(places, np.arange(len(places)) < count, None, said)


def impostor_ring(paths: Sequence[str], identities: Sequence[str], seed: int, count: int) -> NDArray[np.int64]:
    """The first `count` impostors (N, 2) of the ring of `every_pair`, by the places of their samples."""

    def ranked(place: int) -> bytes:
        return hashlib.sha256(encoded(key(f"impostor\0{seed}\0{identities[place]}\0{paths[place]}"))).digest()

    ring = np.array(sorted(range(len(paths)), key=ranked), np.int64)
    _, whose = np.unique(np.array(identities, object).astype(str), return_inverse=True)
    found: list[NDArray[np.int64]] = []
    have = 0
    for distance in range(1, len(ring) // 2 + 1):
        pairs = np.stack([ring, np.roll(ring, -distance)], axis=1)
        if 2 * distance == len(ring):
            pairs = pairs[:distance]  # the other half is the same the other way round
        found.append(pairs[whose[pairs[:, 0]] != whose[pairs[:, 1]]])
        have += len(found[-1])
        if have >= count:
            break
    return np.concatenate(found)[:count]
