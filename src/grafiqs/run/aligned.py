"""The folder of an alignment: crops in a tree that mirrors the data set, align.json, and the tables beside them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from grafiqs.errors import RequestError
from grafiqs.face import BOX, POINTS
from grafiqs.formats.dataset import Sample
from grafiqs.names import shown
from grafiqs.run import files, tables
from grafiqs.run import journal as journals
from grafiqs.run.journal import Aligned, Failed
from grafiqs.run.manifest import documented_subset
from grafiqs.run.output import LOCK
from grafiqs.select import Subset
from grafiqs.utf8 import need_utf8

NAME = "align.json"
"""What was aligned, and by what."""

FORMAT = 1
"""Version of that file."""

TABLES = (tables.FACES, tables.FAILURES, tables.IMAGE_SUMS, tables.SUMS)
"""The tables, in the order of the subset; the last, when it is there, says that the alignment came to its end."""

OWN = {name + suffix for name in (NAME, LOCK, journals.NAME, *TABLES) for suffix in ("", files.PART)}
"""Every file that stands beside the identities."""


def path_of(sample: Sample) -> str:
    """POSIX path of a sample's crop, relative to the folder of all."""
    return f"{sample.identity}/{sample.name}.png" if sample.identity else f"{sample.name}.png"


def is_alignment(folder: Path) -> bool:
    """Whether a folder has the align.json of an alignment. Raises RequestError when that cannot be seen."""
    return files.exists(folder / NAME)


def read(root: Path) -> tuple[dict[str, Any], Subset]:
    """align.json, and its samples. Raises RequestError when it cannot be trusted."""
    need_utf8()
    path = root / NAME
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != FORMAT:
            raise ValueError(f"it has another format than {FORMAT}, which this version of grafiqs reads")
        return document, documented_subset(document["subset"])
    except OSError as error:
        raise RequestError(f"cannot read {shown(path)}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise RequestError(
            f"{shown(path)} is damaged ({shown(error)}): give another OUT, or remove that folder by hand"
        ) from error


def write_tables(root: Path, subset: Subset, outcomes: Iterable[Aligned | Failed]) -> Counter[type[Aligned | Failed]]:
    """Write align.csv, failures.csv and the checksums of pictures, crops and tables."""
    counts: Counter[type[Aligned | Failed]] = Counter()
    with ExitStack() as stack:
        sums = stack.enter_context(files.whole(root / tables.SUMS))
        with ExitStack() as others:
            faces, failures, image_sums = (
                others.enter_context(files.whole(root / name)) for name in TABLES if name != tables.SUMS
            )
            faces.write(tables.face_header())
            failures.write(tables.csv_row(*tables.SAMPLE, "reason"))
            for outcome in outcomes:
                counts[type(outcome)] += 1
                sample = subset.samples[outcome.index]
                if isinstance(outcome, Failed):
                    failures.write(tables.csv_row(*tables.columns_of(sample), outcome.reason))
                else:
                    faces.write(tables.face_row(sample, outcome.face))
                    image_sums.write(tables.sum_row(outcome.image_sha256, sample.location))
                    sums.write(tables.sum_row(outcome.crop_sha256, path_of(sample)))
        for name in sorted((NAME, *TABLES)):
            if name != tables.SUMS:
                sums.write(tables.sum_row(files.sha256(root / name), name))
    return counts


def problems(root: Path, subset: Subset) -> Iterator[str]:
    """What is wrong with the files of an alignment that came to its end, in words."""
    cut, failed = (
        {tuple(row[:3]): row for row in _rows(root / name, columns)}
        for name, columns in ((tables.FACES, (*BOX, *POINTS)), (tables.FAILURES, ("reason",)))
    )
    expected = {NAME, *TABLES} - {tables.SUMS}
    for sample in subset.samples:
        columns = tables.columns_of(sample)
        if (columns in cut) == (columns in failed):
            how = "both" if columns in cut else "neither"
            yield f"{shown(sample.location)} is in {how} of {tables.FACES} and {tables.FAILURES}"
        if columns in cut:
            expected.add(path_of(sample))
    stated = {path: checksum for checksum, path in tables.read_sums(root / tables.SUMS)}
    for path in sorted(expected - stated.keys()):
        yield f"{shown(path)} has no checksum in {tables.SUMS}"
    for path, checksum in stated.items():
        if path not in expected:
            yield f"{shown(path)} has a checksum in {tables.SUMS}, and is not of this alignment"
            continue
        try:
            if files.sha256(root / path) != checksum:
                yield f"{shown(path)} does not have its checksum: its bytes were changed"
        except OSError as error:
            yield f"{shown(path)}: {error.strerror}"
    yield from files.strangers(root, expected | OWN)


def _rows(path: Path, columns: tuple[str, ...]) -> list[list[str]]:
    with ExitStack() as stack:
        return list(tables.rows(stack, path, columns))
