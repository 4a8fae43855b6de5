"""A table of pairs: lines "path path 1", CSV, or LFW's pairs.txt."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from grafiqs.datasets.readings import plain
from grafiqs.disk import files
from grafiqs.disk.delimited import TableError, TextTable
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError

_SPLITS = (",", ";", "\t", " ")
_FIRST = ("a", "first", "path1", "file1", "image1", "img1", "sample1", "id1", "name1", "p1")
_SECOND = ("b", "second", "path2", "file2", "image2", "img2", "sample2", "id2", "name2", "p2")
_GENUINE = ("genuine", "same", "issame", "is_same", "label", "match", "target", "actual_issame")
_SIMILARITY = ("similarity", "score", "sim", "cosine", "similarity_score")
"""What tables of pairs call their columns."""

_TRUE = ("1", "true", "genuine", "same", "match", "mated", "positive", "pos", "yes", "1.0")
_FALSE = (
    "0",
    "false",
    "impostor",
    "imposter",
    "different",
    "diff",
    "non-match",
    "nonmated",
    "negative",
    "neg",
    "no",
    "-1",
    "0.0",
    "-1.0",
)


@dataclass
class PairTable:
    """The pairs of a table: two numbers of `names` each; genuine and similarity are empty if it does not have them."""

    form: str = ""
    names: dict[str, int] = field(default_factory=dict)
    first: list[int] = field(default_factory=list)
    second: list[int] = field(default_factory=list)
    genuine: list[bool] = field(default_factory=list)
    similarity: list[float] = field(default_factory=list)

    def add(self, first: str, second: str) -> None:
        """Add the names of a pair."""
        names = self.names
        self.first.append(names.setdefault(first, len(names)))
        self.second.append(names.setdefault(second, len(names)))


def read_table(path: Path, identified: bool) -> PairTable:
    """Read a table of pairs; if identities are known (`identified`), it need not say what is genuine.

    Raises RequestError when it is none.
    """
    try:
        table = TextTable(lambda: files.opened(path))
        return _lfw(table) or _read(table, identified)
    except (TableError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RequestError(f"cannot read the pairs {shown(path)}: {reason}") from error


def _lfw(table: TextTable) -> PairTable | None:
    """The pairs of LFW's pairs.txt, with the line of its counts or without; None if it is another table."""
    split = max("\t ", key=lambda split: sum(len(cells) for _, cells in islice(table.rows(split), 3)))
    rows = [(line, [cell.strip() for cell in cells]) for line, cells in islice(table.rows(split), 4)]
    counts = [int(cell) for cell in rows[0][1] if re.fullmatch(r"\d+", cell)] if rows else []
    has_counts = bool(rows) and 1 <= len(counts) == len(rows[0][1]) <= 2
    body = rows[1:] if has_counts else rows
    if not body or not all(_is_lfw(cells) for _, cells in body[: 1 if has_counts else 4]):
        return None
    found = PairTable(form="LFW's list")
    for line, cells in islice(table.rows(split), 1 if has_counts else 0, None):
        own = [cell.strip() for cell in cells]
        if not _is_lfw(own):
            raise TableError(f"line {line} is not a pair of LFW: name, number, number, or name, number, name, number")
        name, number, *rest = own
        other = rest[0] if len(rest) == 2 else name
        found.add(f"{name}/{name}_{int(number):04d}", f"{other}/{other}_{int(rest[-1]):04d}")
        found.genuine.append(len(rest) == 1)
    wanted = 2 * math.prod(counts)
    if has_counts and len(found.first) != wanted:
        raise TableError(
            f"line 1 says {' x '.join(map(str, counts))} genuine pairs and as many others, {wanted:,}, and it holds "
            f"{len(found.first):,}: is it whole?"
        )
    return found


def _is_lfw(cells: list[str]) -> bool:
    return (
        len(cells) in (3, 4)
        and cells[1].isdecimal()
        and cells[-1].isdecimal()
        and not cells[0].isdecimal()
        and (len(cells) == 3 or not cells[2].isdecimal())
    )


def _read(table: TextTable, identified: bool) -> PairTable:
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
    found, width, truths = PairTable(), len(head), dict.fromkeys((*_TRUE, *_FALSE), False) | dict.fromkeys(_TRUE, True)
    for line, cells in rows:
        if len(cells) != width:
            raise TableError(f"line {line} has {len(cells)} columns instead of {width}")
        found.add(cells[first], cells[second])
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
