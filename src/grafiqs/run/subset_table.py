"""subset.csv.gz: the samples of a run in its order, and what its manifest states of them.

The table is what `grafiqs select` writes, compressed. Runs of earlier versions list their samples in manifest.json
itself, and so does align.json: `listed` and `from_listed` are for those.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from grafiqs.datasets.dataset import MAX_PATH, Sample
from grafiqs.datasets.samples import COLUMNS, Samples
from grafiqs.disk import files, inside
from grafiqs.disk.names import shown
from grafiqs.select import Subset

NAME = "subset.csv.gz"

_LEVEL = 6
_LONGEST = 4 * 8 * MAX_PATH
"""No line of a table is longer, in bytes: three quoted texts, the longest a path."""


def statement(subset: Subset) -> dict[str, Any]:
    """A subset as JSON values, but for its samples: how many, their hash, and that of the table that lists them."""
    return {**_counts(subset), "table_sha256": subset.csv_sha256}


def write(folder: Path, subset: Subset) -> None:
    """Write the table of a subset; its bytes do not depend on the time, or on the folder."""
    with (
        inside.whole(folder, NAME) as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=file, mtime=0) as table,
    ):
        pieces = bytearray()
        for piece in subset.csv():
            pieces += piece
            if len(pieces) > 2**20:
                table.write(pieces)
                pieces.clear()
        table.write(pieces)


def is_written(folder: Path, subset: Subset) -> bool:
    """Whether the table of a subset lies in a folder, whole."""
    try:
        with files.opened(folder / NAME) as file, gzip.GzipFile(fileobj=file) as table:
            return all(table.read(len(piece)) == piece for piece in subset.csv()) and not table.read(1)
    except (OSError, EOFError, zlib.error):
        return False


def need_statement(stated: dict[str, Any]) -> None:
    """Raise ValueError, TypeError, KeyError or AttributeError when a manifest states no subset."""
    _empty(stated)
    _count(stated["count"])
    for name in ("sha256", "table_sha256"):
        if not isinstance(stated[name], str):
            raise TypeError(f"{stated[name]!r} is not a hash")


def read(folder: Path, stated: dict[str, Any]) -> Subset:
    """The subset that a manifest states, with the samples of its table.

    Raises ValueError when the table is not the one that is stated, and OSError when it cannot be read.
    """
    subset = replace(_empty(stated), samples=Samples(_samples(folder, stated)))
    if subset.sha256 != stated["sha256"]:
        raise ValueError("it does not have the hash that is stated")
    return subset


def is_stated(subset: Subset, stated: dict[str, Any]) -> bool:
    """Whether a subset is the very one that a manifest states, to the last path."""
    return len(subset.samples) == stated["count"] and statement(subset) == stated


def _samples(folder: Path, stated: dict[str, Any]) -> Iterator[Sample]:
    count, digest = _count(stated["count"]), hashlib.sha256()

    def lines(table: gzip.GzipFile) -> Iterator[str]:
        while line := table.readline(_LONGEST):
            digest.update(line)
            yield line.decode("utf-8", "surrogateescape")

    try:
        with files.opened(folder / NAME) as file, gzip.GzipFile(fileobj=file) as table:
            rows = csv.reader(lines(table), strict=True)
            if tuple(next(rows, ())) != COLUMNS:
                raise ValueError(f"it has other columns than {', '.join(COLUMNS)}")
            for row in rows:
                if len(row) != len(COLUMNS):
                    raise ValueError(f"it has a row of {len(row)} columns")
                identity, name, location = row
                count -= 1
                if count < 0:
                    break
                yield Sample(identity and _inside(identity), _inside(name), _inside(location))
    except (csv.Error, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"it is damaged: {error}") from error
    if count or digest.hexdigest() != stated["table_sha256"]:
        raise ValueError("it is not the table that is stated: it was changed")


# -- listed in a document itself ---------------------------------------------------------------------------


def listed(subset: Subset) -> dict[str, Any]:
    """A subset as JSON values, with its hash and its list of samples."""
    samples: dict[str, dict[str, str]] = {}
    for sample in subset.samples:
        samples.setdefault(sample.identity, {})[sample.name] = sample.location
    return {**_counts(subset), "samples": samples}


def from_listed(document: dict[str, Any]) -> Subset:
    """The subset that such values state. Raises ValueError, TypeError, KeyError, AttributeError otherwise."""
    samples = Samples(
        Sample(identity and _inside(identity), _inside(name), _inside(location))
        for identity, locations in document["samples"].items()
        for name, location in locations.items()
    )
    subset = replace(_empty(document), samples=samples)
    if subset.sha256 != document["sha256"] or len(samples) != document["count"]:
        raise ValueError("its list of samples does not have the hash it states")
    return subset


def _counts(subset: Subset) -> dict[str, Any]:
    return {
        "sha256": subset.sha256,
        "identities": subset.identities,
        "chosen": subset.chosen,
        "available": subset.available,
        "insufficient": dict(subset.insufficient),
        "count": len(subset.samples),
    }


def _empty(document: dict[str, Any]) -> Subset:
    """What a document says of a subset, without its samples."""
    insufficient = tuple((identity, _count(count)) for identity, count in document["insufficient"].items())
    counts = {name: _count(document[name]) for name in ("identities", "chosen", "available")}
    return Subset(Samples(), insufficient=insufficient, **counts)


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError(f"{value!r} is not a count")
    return value


def _inside(path: str) -> str:
    """The path, if it stays inside the folder it is relative to."""
    parts = set(path.split("/"))
    if parts <= {"", "."} or path.startswith("/") or ".." in parts or "\0" in path:
        raise ValueError(f"the path {shown(path)} leads out of its folder")
    return path
