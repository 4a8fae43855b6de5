"""The folder of an alignment: crops in a tree that mirrors the data set, align.json, and the tables beside them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grafiqs.datasets.samples import columns_of
from grafiqs.disk import files, inside
from grafiqs.disk.names import shown
from grafiqs.disk.output import LOCK, Output
from grafiqs.disk.stated import compared, stated
from grafiqs.options.dataset import DataSetOptions
from grafiqs.options.field import completed
from grafiqs.run import journal as journals
from grafiqs.run import subset_table, sums, tables
from grafiqs.run.crops import Crops
from grafiqs.run.journal import Aligned, Failed, Journal
from grafiqs.run.manifest import subset_differences
from grafiqs.run.resumable import Resumable
from grafiqs.run.tables import FACES, FAILURES, IMAGE_SUMS, SUMS, Table, faces_table, sums_table
from grafiqs.select import Subset

log = logging.getLogger(__name__)

NAME = "align.json"
"""What was aligned, and by what."""

EVERY_FACE = "all_faces"
"""The option that takes every face of a photo, as align.json names it."""

FORMAT = 1
"""Version of that file."""

TABLES = (FACES.name, FAILURES.name, IMAGE_SUMS.name, SUMS)
"""The tables, in the order of the subset; the last, when it is there, says that the alignment is finished."""

OWN = {name + suffix for name in (NAME, LOCK, journals.NAME, *TABLES) for suffix in ("", inside.PART)}
"""Every file that stands beside the identities."""


@dataclass(frozen=True)
class Alignment:
    """One alignment, as align.json says it: every section is plain JSON, but for the subset."""

    options: dict[str, Any]
    faces: dict[str, Any]
    crop: dict[str, Any]
    data_set: dict[str, Any]
    environments: list[dict[str, Any]]
    subset: Subset

    @property
    def reading(self) -> dict[str, Any]:
        """The options that say how its data set was read."""
        return {name: value for name, value in self.options.items() if name != EVERY_FACE}

    def crops(self) -> Crops:
        """The names of its crops."""
        return Crops(self.subset.samples, self.options[EVERY_FACE])

    def differences(self, other: Alignment) -> list[str]:
        """What differs between this alignment and the `other` asked for, a line each."""
        sections = ("options", "faces", "crop")
        found = [line for name in sections for line in compared(name, getattr(self, name), getattr(other, name))]
        return found + subset_differences(self.subset, other.subset)

    def to_json(self) -> str:
        """The text of align.json."""
        sections = {name: value for name, value in vars(self).items() if name != "subset"}
        return json.dumps({"format": FORMAT, **sections, "subset": subset_table.listed(self.subset)}, indent=1) + "\n"


def unfinished(place: Path) -> str | None:
    """What is to be said of a data set if it is the folder of an alignment that has not come to its end."""
    if not (place / NAME).is_file() or (place / SUMS).exists():
        return None
    return (
        f"{shown(place)} is an alignment that is not finished ({NAME} is there, {SUMS} is not): those crops count that "
        "are there by now; the same 'grafiqs align' finishes it"
    )


def read(root: Path) -> Alignment:
    """The alignment that a folder holds. Raises RequestError when its align.json cannot be trusted."""
    return stated(root / NAME, FORMAT, _parsed, "OUT")


def _parsed(document: dict[str, Any]) -> Alignment:
    """The alignment that a document states. Raises ValueError, TypeError, KeyError, AttributeError otherwise."""
    options = document["options"]
    every = {EVERY_FACE: options.pop(EVERY_FACE, False)}  # earlier versions took one
    document["options"] = completed(DataSetOptions, options) | every
    found = Alignment(**{**document, "subset": subset_table.from_listed(document["subset"])})
    _check(found)
    return found


def _check(found: Alignment) -> None:
    """Raise ValueError, TypeError or KeyError for what an alignment cannot say."""
    if not all(isinstance(section, dict) for section in (found.options, found.faces, found.crop, found.data_set)):
        raise ValueError("its sections are not all there")
    if type(found.options[EVERY_FACE]) is not bool:
        raise ValueError("it does not say which faces were taken")
    place = found.data_set
    if DataSetOptions(image_path=Path(), **found.reading).reading().keys() != found.reading.keys():
        raise ValueError("it does not say how its data set was read")
    texts = [place["form"], place["place"], *([] if place["root"] is None else [place["root"]])]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("it does not say where its data set was")
    known = found.environments
    if not isinstance(known, list) or not known or not all(isinstance(each, dict) for each in known):
        raise ValueError("it names no environment")


@dataclass(frozen=True)
class Counts:
    """How many pictures of an alignment became crops, how many could not, and how many crops there are."""

    aligned: int
    failed: int
    crops: int


class AlignmentFolder(Resumable[Alignment]):
    """The folder of an alignment: `opened`, then begun, it takes the outcomes of the samples."""

    def __init__(self, output: Output, manifest: Alignment, overwrite: bool = False) -> None:
        self.crops = crops = manifest.crops()

        def fits(done: Aligned) -> bool:
            is_count = len(done.crops) == 1 or (bool(done.crops) and crops.every_face)
            return is_count and all(tables.is_face(crop.face) for crop in done.crops)

        self.journal = Journal(output.root, len(manifest.subset.samples), Aligned, fits)
        super().__init__(output, manifest, overwrite)

    def begin(self) -> None:
        """Begin, or resume. Raises RequestError if that cannot be."""
        self._begin(self.manifest)
        with self._writable():
            if not self.journal.is_loaded:
                self.journal.load()

    def finish(self) -> Counts:
        """Write the tables; the alignment is finished when this returns."""
        crops, written = self.crops, 0

        def outcomes() -> Iterator[Aligned | Failed]:
            nonlocal written
            for outcome in self.journal.outcomes():
                written += len(outcome.crops) if isinstance(outcome, Aligned) else 0
                yield outcome

        own = sums_table(
            SUMS,
            lambda sample, done: [(crop.sha256, crops.path(sample, number)) for number, crop in enumerate(done.crops)],
        )
        every: list[Table] = [faces_table(crops.of), FAILURES, IMAGE_SUMS]
        counts = tables.write(self.root, (NAME,), every, own, self.manifest.subset, outcomes())
        # Once more, a line a sample, in their order, however often each was tried; nothing is appended after.
        journals.write(self.root, self.journal.outcomes())
        return Counts(counts[Aligned], counts[Failed], written)

    def kept(self) -> str:
        """How many samples are done, in words."""
        total, pending = len(self.journal), len(self.journal.pending())
        return f"{total - pending} of {total} images are done and kept"

    def _close(self) -> None:
        self.journal.close()

    def _found(self) -> Alignment:
        return read(self.root)

    def _differences(self, there: Alignment) -> list[str]:
        return there.differences(self.manifest)

    def _document(self) -> Iterable[bytes]:
        yield self.manifest.to_json().encode()

    def _files(self, there: Alignment) -> list[str]:
        crops = there.crops()
        own = [path for sample in there.subset.samples for path in reversed(crops.found(self.root, sample))]
        return [*TABLES, journals.NAME, *own]

    def _resume(self, there: Alignment) -> None:
        [here] = self.manifest.environments
        if here not in there.environments:
            log.warning(
                "this alignment began with other versions (%s), which may find other faces", there.environments[-1]
            )
            there = replace(there, environments=[*there.environments, here])
        self.manifest = there
        self.journal.load()
        for outcome in self.journal.outcomes():
            sample = there.subset.samples[outcome.index]
            if isinstance(outcome, Aligned) and any(
                inside.size(self.root, self.crops.path(sample, number)) != crop.size
                for number, crop in enumerate(outcome.crops)
            ):
                self.journal.forget(outcome.index)


def problems(root: Path, manifest: Alignment) -> Iterator[str]:
    """What is wrong with the files of a finished alignment, in words."""
    crops = manifest.crops()
    cut, failed = ({columns for columns, _ in table.read(root)} for table in (FACES, FAILURES))
    expected = {NAME, *TABLES} - {SUMS}
    for sample in manifest.subset.samples:
        columns = columns_of(sample)
        if (columns in cut) == (columns in failed):
            how = "both" if columns in cut else "neither"
            yield f"{shown(sample.location)} is in {how} of {FACES.name} and {FAILURES.name}"
        number = 0
        while columns_of(crops.of(sample, number)) in cut:
            expected.add(crops.path(sample, number))
            number += 1
            if not crops.every_face:
                break
    stated = {path: checksum for checksum, path in sums.read(root / SUMS)}
    for path in sorted(expected - stated.keys()):
        yield f"{shown(path)} has no checksum in {SUMS}"
    for path, checksum in stated.items():
        if path not in expected:
            yield f"{shown(path)} has a checksum in {SUMS}, and is not of this alignment"
            continue
        try:
            if files.sha256(root / path) != checksum:
                yield f"{shown(path)} does not have its checksum: its bytes were changed"
        except OSError as error:
            yield f"{shown(path)}: {error.strerror}"
    yield from files.strangers(root, expected | OWN)
