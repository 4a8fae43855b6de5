"""What a run of a sweep takes from others: outcomes that are still true, and the gradients that belong to them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grafiqs.datasets.dataset import Readable, Sample
from grafiqs.errors import UnreadableSampleError
from grafiqs.progress import progress_bar
from grafiqs.run import manifest as manifests
from grafiqs.run.contents import outcomes_of
from grafiqs.run.folder import RunFolder
from grafiqs.run.journal import Outcome, Scored
from grafiqs.run.manifest import Manifest
from grafiqs.run.store import Store


@dataclass(frozen=True)
class Shared:
    """Which samples can be taken from which run, and which cannot, although a run holds them."""

    where: dict[Sample, str]
    changed: frozenset[Sample]
    """Their images are not those that were scored, or cannot be read."""
    damaged: frozenset[Sample]
    """Their gradient files are not those that were written."""


def shared(
    root: Path,
    of: Mapping[str, Manifest],
    held: Mapping[str, AbstractSet[Sample]],
    wanted: AbstractSet[Sample],
    dataset: Readable,
    quiet: bool,
) -> Shared:
    """Look for the samples that are `wanted` among those that each run has `held`, by name; each is read and checked.

    Nobody reads an image again that is taken from another run, so what was changed since would be passed on.
    """
    where: dict[Sample, str] = {}
    failing: dict[Sample, bool] = {}
    with progress_bar(len(wanted & set().union(*held.values())), 0, quiet) as bar:
        for name, samples in held.items():
            theirs, those = of[name].subset.samples, (samples & wanted) - where.keys()
            store = of[name].store(root / name)
            for outcome in outcomes_of(root / name, of[name]) if those else ():
                sample = theirs[outcome.index]
                if sample not in those or not isinstance(outcome, Scored):
                    continue
                if not _is_of(dataset, sample, outcome.image_sha256):
                    failing[sample] = True
                elif not _has(store, outcome):
                    failing.setdefault(sample, False)
                else:
                    where[sample] = name
                    bar.update()
    left = {sample: changed for sample, changed in failing.items() if sample not in where}
    return Shared(where, *(frozenset(sample for sample in left if left[sample] is kind) for kind in (True, False)))


def _is_of(dataset: Readable, sample: Sample, sha256: str) -> bool:
    """Whether the image of a sample can be read, and is the one with this checksum."""
    try:
        return hashlib.sha256(dataset.read(sample.location)).hexdigest() == sha256
    except UnreadableSampleError:
        return False


def _has(store: Store, scored: Scored) -> bool:
    """Whether the gradient files of a sample are those that were written."""
    try:
        for layer, checksum in zip(store.shapes, scored.files_sha256, strict=True):
            store.verified(layer, scored.index, checksum)
    except UnreadableSampleError:
        return False
    return True


class Source:
    """Where the gradients and outcomes of samples are: in a run folder, or in the run `pool`, just computed, if any."""

    def __init__(
        self, root: Path, of: Mapping[str, Manifest], where: Mapping[Sample, str], pool: RunFolder | None
    ) -> None:
        self._root = root
        self._of = of
        self._pool = pool
        samples = () if pool is None else pool.manifest.subset.samples
        self._places = {sample: index for index, sample in enumerate(samples)}
        self._where = {**dict.fromkeys(samples, "" if pool is None else pool.root.name), **where}

    def environments(self, wanted: Iterable[Sample]) -> list[dict[str, Any]]:
        """The environments in which these samples were computed."""
        found: list[dict[str, Any]] = []
        for name in dict.fromkeys(self._where[sample] for sample in wanted):
            there = manifests.read(self._root / name)
            found += [each for each in there.environments if each not in found]
        return found

    def outcomes(self, wanted: Mapping[Sample, int]) -> Iterator[tuple[Path, Outcome]]:
        """The folder and the outcome of each of these samples, under the index that is wanted."""
        by: dict[str, list[Sample]] = {}
        for sample in wanted:
            by.setdefault(self._where[sample], []).append(sample)
        for name, samples in by.items():
            for sample, outcome in self._those(name, samples):
                yield self._root / name, replace(outcome, index=wanted[sample])

    def _those(self, name: str, samples: Sequence[Sample]) -> Iterator[tuple[Sample, Outcome]]:
        if self._pool is not None and name == self._pool.root.name:
            ordered = sorted(samples, key=self._places.__getitem__)
            places = [self._places[sample] for sample in ordered]
            yield from zip(ordered, self._pool.journals.outcomes(places), strict=True)
            return
        theirs, those = self._of[name].subset.samples, set(samples)
        for outcome in outcomes_of(self._root / name, self._of[name]):
            if theirs[outcome.index] in those:
                yield theirs[outcome.index], outcome
