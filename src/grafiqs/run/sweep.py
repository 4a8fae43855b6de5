"""The folder of a sweep: a run folder for each subset, sweep.json, and when all are finished sweep.csv."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grafiqs.disk import files, inside
from grafiqs.disk.csv_row import csv_row
from grafiqs.disk.names import shown
from grafiqs.disk.output import LOCK, Output
from grafiqs.disk.stated import compared, stated
from grafiqs.errors import RequestError
from grafiqs.options.extract import DECIDING, Options
from grafiqs.options.field import completed
from grafiqs.options.sweep import VARYING
from grafiqs.run import manifest as manifests
from grafiqs.run.contents import files_of
from grafiqs.run.folder import RunFolder
from grafiqs.run.folder import output_of as run_output
from grafiqs.run.manifest import COMPARED, Manifest, binding
from grafiqs.run.resumable import Resumable

NAME = "sweep.json"
"""Which runs, and what they share."""

TABLE = "sweep.csv"
"""A row a run; it is there when all are finished."""

POOL = ".computing"
"""A run of the images that are being computed, each once; it is there until they are in the run folders."""

FORMAT = 1
"""Version of sweep.json."""

_SHARED = tuple(section for section in COMPARED if section != "seeds")
_COLUMNS = ("run", "identity_selection_seed", "random_seed", "skip_identities", "subset_sha256")
_COUNTS = ("identities", "samples", "scored", "failed")


@dataclass(frozen=True)
class Sweep:
    """One sweep, as sweep.json says it: plain JSON values.

    `shared` holds the sections of the manifests in which its runs agree. `runs` holds what is each run's own, by the
    name of its folder: seeds, and the SHA-256 of its subset. `same_in_any_order` says whether the images of the first
    batch had the same results, to the bit, in other places of it; null where that was not seen.
    """

    shared: dict[str, Any]
    runs: dict[str, dict[str, Any]]
    same_in_any_order: bool | None = None

    @classmethod
    def of(cls, runs: dict[str, Manifest]) -> Sweep:
        """The sweep of these runs."""
        first = next(iter(runs.values()))
        shared = {section: getattr(first, section) for section in _SHARED}
        shared["options"] = {name: value for name, value in first.options.items() if name not in VARYING}
        return cls(shared, {name: _own(run) for name, run in runs.items()})

    def contradictions(self, name: str, run: Manifest) -> list[str]:
        """What the manifest of a run says otherwise than the sweep, a line each."""
        found, words = Sweep.of({name: run}), (f"in {NAME}", f"in {manifests.NAME}")
        sections = [(key, binding(self.shared[key]), binding(found.shared[key])) for key in _SHARED]
        sections.append(("run", self.runs[name], found.runs[name]))
        return [line for section in sections for line in compared(*section, words)]

    def differences(self, other: Sweep) -> list[str]:
        """What differs between this sweep and the `other` asked for, a line each; further runs do not count."""
        found: list[str] = []
        for section in _SHARED:
            found += compared(section, *(binding(sweep.shared[section]) for sweep in (self, other)))
        for name, own in self.runs.items():
            if name not in other.runs:
                found.append(f"the run {name} is in the folder, and not asked for")
            else:
                found += compared(name, own, other.runs[name])
        return found


def _own(run: Manifest) -> dict[str, Any]:
    return {**{name: run.options[name] for name in VARYING}, "subset_sha256": run.subset.sha256}


def counts_of(run: Manifest, scored: int, failed: int) -> dict[str, int]:
    """What sweep.csv says of a run, so many of whose samples have scores, or failed."""
    subset = run.subset
    return {"identities": subset.identities, "samples": len(subset.samples), "scored": scored, "failed": failed}


def table(sweep: Sweep, counts: dict[str, dict[str, int]]) -> Iterator[bytes]:
    """The rows of sweep.csv, from the counts of each run."""
    yield csv_row(*_COLUMNS, *_COUNTS)
    for name, own in sweep.runs.items():
        drawn = sweep.shared["options"]["random_identity_selection"]
        seeds = {**own, "identity_selection_seed": own["identity_selection_seed"] if drawn else ""}
        yield csv_row(name, *(seeds[key] for key in _COLUMNS[1:]), *(counts[name][key] for key in _COUNTS))


def again(folder: Path) -> str:
    """How one run of a sweep is made again, in messages: --overwrite would remove them all."""
    return f"rm -r {shown(folder)}: the same command makes it again"


def output_of(folder: Path) -> Output:
    """The folder of a sweep, whatever it holds."""
    return Output(folder, NAME, work="sweep", before=frozenset((POOL, TABLE + inside.PART)))


def read(folder: Path) -> Sweep:
    """The sweep that a folder holds. Raises RequestError when its sweep.json cannot be trusted."""
    return stated(folder / NAME, FORMAT, _parsed, "--output-dir")


def _parsed(document: dict[str, Any]) -> Sweep:
    document["shared"].setdefault("reference", {})  # earlier versions knew none
    found = Sweep(**document)
    _check(found)
    return found


def _check(found: Sweep) -> None:
    """Raise ValueError, TypeError, KeyError or AttributeError for what a sweep cannot say."""
    if found.shared.keys() != set(_SHARED) or not found.runs:
        raise ValueError("its sections are not all there")
    if not isinstance(found.shared["computation"], dict):
        raise ValueError("it does not say how it was computed")
    manifests.check_computation(found.shared["computation"])
    later = completed(Options, found.shared["options"])
    found.shared["options"] = {name: value for name, value in later.items() if name not in VARYING}
    if found.shared["options"].keys() != DECIDING - {*VARYING}:
        raise ValueError("its options are not those of a run")
    for name, own in found.runs.items():
        if not re.fullmatch(r"[a-z0-9-]+(_[a-z0-9-]+)*", name) or own.keys() != {*VARYING, "subset_sha256"}:
            raise ValueError(f"{shown(repr(name))} is not a run of a sweep")


class SweepFolder(Resumable[Sweep]):
    """The folder of a sweep: `opened`, then begun, its run folders can be filled."""

    def __init__(self, root: Path, sweep: Sweep, overwrite: bool = False) -> None:
        super().__init__(output_of(root), sweep, overwrite)
        self.finished = 0
        """How many of its runs are known to be finished."""

    def need_folders(self) -> None:
        """Raise RequestError when something else than a run lies in the place of one; nothing was touched yet."""
        there = {} if self.removed is None else self.removed.runs
        for name in {POOL: None, **self.manifest.runs, **there}:
            folder = self.root / name
            if folder.is_symlink():
                raise RequestError(
                    f"{shown(folder)} is a link, which is not followed there: remove it, or give another --output-dir"
                )
            if name in there:
                self._need_removable(name)
            elif not manifests.is_run(folder):
                run_output(folder).refuse_foreign()

    def is_kept(self, name: str) -> bool:
        """Whether there is a run of this name, which stays."""
        return not self._overwrite and manifests.is_run(self.root / name)

    def begin(self, same_in_any_order: bool | None) -> None:
        """Begin, or resume; a sweep that is to be overwritten is removed first."""
        known = self.manifest.same_in_any_order if same_in_any_order is None else same_in_any_order
        if self.removed is None:
            with self._writable():
                inside.remove(self.root, TABLE)
        self._begin(replace(self.manifest, same_in_any_order=known))

    def has_links(self) -> bool:
        """Whether a gradient file can lie in several of its run folders."""
        with self._writable():
            return inside.has_links(self.root, NAME + inside.PART, TABLE + inside.PART)

    def freed(self) -> int:
        """The bytes on the disk that are free once what is there is overwritten: a file of several runs counts once."""
        sizes: dict[tuple[int, int], int] = {}
        for path in [] if self.removed is None else self._files(self.removed):
            with suppress(OSError):
                found = (self.root / path).lstat()
                sizes[found.st_dev, found.st_ino] = found.st_size
        return sum(sizes.values())

    def finish(self, counts: dict[str, dict[str, int]]) -> None:
        """Write the table, from the counts of each run; the sweep is finished when this returns."""
        with inside.whole(self.root, TABLE) as file:
            file.writelines(table(self.manifest, counts))

    def kept(self) -> str:
        """How many runs are finished, in words."""
        return f"{self.finished} of {len(self.manifest.runs)} runs are finished, and what is computed is kept"

    def _found(self) -> Sweep:
        return read(self.root)

    def _differences(self, there: Sweep) -> list[str]:
        return there.differences(self.manifest)

    def _document(self) -> Iterable[bytes]:
        yield json.dumps({"format": FORMAT, **vars(self.manifest)}, indent=1).encode() + b"\n"

    def _files(self, there: Sweep) -> list[str]:
        found = [TABLE]
        for name in there.runs:
            if manifests.is_run(self.root / name):
                own = files_of(self.root / name, manifests.read(self.root / name))
                found += [f"{name}/{path}" for path in (*own, manifests.NAME, LOCK)]
        return found

    def _remove(self, there: Sweep) -> None:
        """Run by run, the manifest of each last: what is stopped on the way, the same command goes on with."""
        self.need_folders()
        inside.need_removable(self.root, TABLE)
        inside.remove(self.root, TABLE)
        for name in there.runs:
            folder = self.root / name
            if manifests.is_run(folder):
                with RunFolder(folder, manifests.read(folder), overwrite=True).opened() as run:
                    run.discard()
            inside.remove(self.root, f"{name}/{LOCK}")
            inside.remove_empty(folder)

    def _need_removable(self, name: str) -> None:
        """Raise RequestError when a run that is to be removed is in use, or something else lies in its folder."""
        folder, own = self.root / name, {LOCK, manifests.NAME}
        if manifests.is_run(folder):
            with RunFolder(folder, manifests.read(folder), overwrite=True).opened() as run:
                with self._writable():
                    run.need_removable(run.manifest)
                own |= {each for path in files_of(run.root, run.manifest) for each in (path, path + inside.PART)}
        for stranger in files.strangers(folder, {*own, manifests.NAME + inside.PART}):
            raise RequestError(
                f"{shown(folder)}: {stranger}, and --overwrite removes nothing else: move it elsewhere, or give "
                "another --output-dir (nothing there was touched)"
            )

    def _resume(self, there: Sweep) -> None:
        self.manifest = replace(self.manifest, shared=there.shared, same_in_any_order=there.same_in_any_order)
