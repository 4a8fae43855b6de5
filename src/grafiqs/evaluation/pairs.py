"""Which samples are compared, and whether they are of one identity: from a table of pairs, or all that there are."""

from __future__ import annotations

import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from grafiqs.datasets.readings import plain
from grafiqs.datasets.verification import VerificationSet
from grafiqs.disk import files
from grafiqs.disk.delimited import TableError, TextTable
from grafiqs.disk.names import encoded, extension, key, shown
from grafiqs.errors import RequestError
from grafiqs.evaluation.names import Names

_SPLITS = (",", ";", "\t", " ")
_FIRST = ("a", "first", "path1", "file1", "image1", "img1", "sample1", "id1", "name1", "p1")
_SECOND = ("b", "second", "path2", "file2", "image2", "img2", "sample2", "id2", "name2", "p2")
_GENUINE = ("genuine", "same", "issame", "is_same", "label", "match", "target", "actual_issame")
_SIMILARITY = ("similarity", "score", "sim", "cosine", "similarity_score")
"""What tables of pairs call their columns."""

_TRUE, _FALSE = ("1", "true", "genuine", "same", "1.0"), ("0", "false", "impostor", "different", "-1", "0.0")


@dataclass(frozen=True)
class Pairs:
    """Comparisons by place of the two samples (N, 2), -1 for one that is not known; similarity if it is given."""

    places: NDArray[np.int64]
    genuine: NDArray[np.bool_]
    similarity: NDArray[np.float64] | None
    said: str


def read_pairs(path: Path, names: Names, identities: Sequence[str] | None) -> Pairs:
    """The comparisons of a table, or of insightface's .bin.

    A table has lines "path path 1", or columns with names (a, b, genuine, and perhaps similarity), or is LFW's
    pairs.txt. Without a column that says what is genuine, identities do, where they are known.
    Raises RequestError when it cannot be read, or names no sample that is known.
    """
    if extension(path.name) == "bin":
        return of_dataset([(*pair[:2], pair[2]) for pair in VerificationSet(path).pairs], names, shown(path.name))
    try:
        table = TextTable(lambda: files.opened(path))
        lfw = _lfw(table)
        found = lfw or _read(table, identities is not None)
    except (TableError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RequestError(f"cannot read the pairs {shown(path)}: {reason}") from error
    before = names.before(found.first, shown(path))
    known = {name: names.place(name, before) for name in dict.fromkeys(chain(found.first, found.second))}
    memory = {name: -1 if place is None else place for name, place in known.items()}
    count = len(found.first)
    places = np.empty((count, 2), np.int64)
    for column, own in enumerate((found.first, found.second)):
        places[:, column] = np.fromiter(map(memory.__getitem__, own), np.int64, count)
    if found.genuine:
        genuine = np.array(found.genuine)
    else:
        assert identities is not None  # noqa: S101 - else a table without it is refused
        whose = np.array([*identities, ""], object)
        genuine = (whose[places[:, 0]] == whose[places[:, 1]]) & (places >= 0).all(axis=1)
    alike = np.array(found.similarity, np.float64) if found.similarity else None
    form = "LFW's pairs" if lfw else "pairs"
    said = f"{shown(path.name)}: {count:,} {form}, {int(genuine.sum()):,} genuine"
    if alike is not None:
        said += ", with similarities"
    return Pairs(places, genuine, alike, said)


def of_dataset(pairs: Sequence[tuple[str, str, bool]], names: Names, what: str) -> Pairs:
    """The comparisons that a data set wants made. Raises RequestError when no sample of them has a score."""
    names.before([first for first, _, _ in pairs], what)
    places = [[-1 if (place := names.place(name)) is None else place for name in pair[:2]] for pair in pairs]
    genuine = np.array([same for _, _, same in pairs], bool)
    said = f"{what}: {len(pairs):,} pairs, {int(genuine.sum()):,} genuine"
    return Pairs(np.array(places, np.int64).reshape(-1, 2), genuine, None, said)


def every_pair(names: Names, identities: Sequence[str], seed: int, made: NDArray[np.bool_]) -> Pairs:
    """All genuine comparisons there are among the samples that can be compared (`made`), and as many impostors.

    The draw by `seed` is by keyed hash, so that it depends on names and seed alone: samples stand in a ring, in the
    order of sha256("impostor", seed, identity, path); each is compared with the next, then with the one after, and so
    on, as far as it takes. So fewer impostors are the first of more.
    Raises RequestError when no identity has two samples, or there is one identity.
    """
    own: defaultdict[str, list[int]] = defaultdict(list)
    known = np.flatnonzero(made).tolist()
    for place in known:
        own[identities[place]].append(place)
    genuine = [np.stack(np.triu_indices(len(places), 1), axis=1) for places in own.values()]
    pairs = np.concatenate([np.array(places)[pair] for places, pair in zip(own.values(), genuine, strict=True)])
    if not len(pairs):
        raise RequestError("no identity has two samples with scores, so that nothing is genuine: give --pairs")
    if len(own) < 2:
        raise RequestError("there is one identity, so that nothing is an impostor: give --pairs")
    ring = _ring([names.paths[place] for place in known], [identities[place] for place in known], seed, len(pairs))
    impostors = np.array(known)[ring]
    places = np.concatenate([pairs, impostors]).astype(np.int64)
    said = f"all {len(pairs):,} genuine pairs, and {len(impostors):,} impostors drawn by seed {seed}"
    if len(known) < len(names):
        said += f"; {len(names) - len(known):,} samples without an embedding are not compared"
    return Pairs(places, np.arange(len(places)) < len(pairs), None, said)


def _ring(paths: Sequence[str], identities: Sequence[str], seed: int, count: int) -> NDArray[np.int64]:
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


@dataclass
class _Table:
    """The columns of a table of pairs; genuine and similarity are empty if it does not have them."""

    first: list[str] = field(default_factory=list)
    second: list[str] = field(default_factory=list)
    genuine: list[bool] = field(default_factory=list)
    similarity: list[float] = field(default_factory=list)


def _lfw(table: TextTable) -> _Table | None:
    """The pairs of LFW's pairs.txt: names and numbers; None if it is another table."""
    split = max("\t ", key=lambda split: sum(len(cells) for _, cells in islice(table.rows(split), 3)))
    rows = table.rows(split)
    _, first = next(rows, (0, []))
    if not 1 <= len(first) <= 2 or not all(re.fullmatch(r"\d+", cell.strip()) for cell in first):
        return None
    found = _Table()
    for line, cells in rows:
        name, number, *rest = (cell.strip() for cell in (*cells, ""))
        rest = rest[:-1]
        if len(rest) not in (1, 2) or not number.isdecimal() or not rest[-1].isdecimal():
            raise TableError(f"line {line} is not a pair of LFW: name, number, number, or name, number, name, number")
        other = rest[0] if len(rest) == 2 else name
        found.first.append(f"{name}/{name}_{int(number):04d}")
        found.second.append(f"{other}/{other}_{int(rest[-1]):04d}")
        found.genuine.append(len(rest) == 1)
    return found if found.first else None


def _read(table: TextTable, identified: bool) -> _Table:
    """The pairs of any other table."""
    split = max(_SPLITS, key=lambda split: len(next(table.rows(split), (0, []))[1]))
    rows = table.rows(split)
    line, head = next(rows, (0, []))
    names = [plain(cell) for cell in head]
    known = (_FIRST, _SECOND, _GENUINE, _SIMILARITY)
    first, second, genuine, similarity = (
        next((names.index(name) for name in some if name in names), None) for some in known
    )
    if first is None or second is None:
        if len(head) not in (3, 4) or _truth(head[2]) is None:
            raise TableError(
                f"line {line} is neither a pair, such as 'ann/0.jpg ann/1.jpg 1', nor names of columns, such as "
                "a,b,genuine,similarity"
                if head
                else "it is empty"
            )
        first, second, genuine, similarity = 0, 1, 2, 3 if len(head) == 4 else None
        rows = table.rows(split)
    elif genuine is None and not identified:
        raise TableError(f"it has no column that says which pairs are genuine ({', '.join(_GENUINE)})")
    found, width, truths = _Table(), len(head), dict.fromkeys((*_TRUE, *_FALSE), False) | dict.fromkeys(_TRUE, True)
    for line, cells in rows:
        if len(cells) != width:
            raise TableError(f"line {line} has {len(cells)} columns instead of {width}")
        found.first.append(cells[first])
        found.second.append(cells[second])
        if genuine is not None:
            same = truths.get(cells[genuine])
            if same is None:
                same = _truth(cells[genuine])
            if same is None:
                wrong = shown(repr(cells[genuine]))
                raise TableError(f"line {line} says {wrong} where 1 (genuine) or 0 belongs")
            found.genuine.append(same)
        if similarity is not None:
            found.similarity.append(_similarity(cells[similarity], line))
    if not found.first:
        raise TableError("it has no pair")
    return found


def _similarity(text: str, line: int) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise TableError(f"line {line} has no number for the similarity: {shown(repr(text))}") from error
    if math.isnan(number):
        raise TableError(f"line {line} has a similarity that is not a number")
    return number


def _truth(text: str) -> bool | None:
    word = text.strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None
