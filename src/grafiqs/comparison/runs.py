"""The runs to be compared: which folders they are, their scores, and which samples and networks they share."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.calibration.reference import Reference
from grafiqs.datasets.dataset import Sample
from grafiqs.disk.names import in_order, key, shown
from grafiqs.disk.output import Output
from grafiqs.errors import RequestError
from grafiqs.run import finished, sums
from grafiqs.run.manifest import Manifest, is_run
from grafiqs.run.results import Run, open_run
from grafiqs.run.tables import IMAGE_SUMS

LARGEST = 1e100
"""The size of scores that no network gives; what is computed of smaller ones stays finite."""

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Compared:
    """A run as it is compared. `samples` (N,) and `people` (N,) number all samples of its subset and their identities.

    The same number means the same name in every run. `scored` (n,) are the places in them of those that have scores,
    `images` (n,) the SHA-256 of their images, and `scores` and `qualities` (n,) by name.
    """

    name: str
    about: dict[str, Any]
    network: str
    settings: dict[str, str]
    samples: Integers
    people: Integers
    scored: Integers
    images: NDArray[np.bytes_]
    scores: dict[str, NDArray[np.float64]]
    qualities: dict[str, NDArray[np.float64]]
    """They rank as the scores do, and are on one scale whatever the network."""


def folders(given: Mapping[str, Path]) -> tuple[dict[str, Path], list[str]]:
    """The run folders that are given by name, those in a folder of them instead of it; and a line for each such one.

    The runs of one folder alone are called as they are there; those of several have its name before.
    Raises RequestError when a folder is there twice.
    """
    found: dict[str, Path] = {}
    said: list[str] = []
    for name, folder in given.items():
        within = () if is_run(folder) else _folders_in(folder)
        inside = tuple(one for one in within if is_run(folder / one))
        if inside:
            others = len(within) - len(inside)
            beside = f"; other folders there, which are no runs: {others}" if others else ""
            said.append(f"{shown(folder)}: {len(inside)} run{'s' * (len(inside) > 1)}, {_listed(inside)}{beside}")
        own = {one if len(given) == 1 else f"{name}/{one}": folder / one for one in inside}
        found |= own or {name: folder}
    places: dict[str, str] = {}
    for name, folder in found.items():
        same = places.setdefault(os.path.realpath(folder), name)
        if same != name:
            raise RequestError(f"{shown(same)} and {shown(name)} are one folder, {shown(folder)}: give it once")
    return found, said


def _folders_in(folder: Path) -> tuple[str, ...]:
    try:
        with os.scandir(folder) as entries:
            return in_order(entry.name for entry in entries if entry.is_dir())
    except OSError:
        return ()  # opening it as a run will say what is wrong


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(shown, names if len(names) <= 3 else (names[0], "...", names[-1])))


def read(given: Mapping[str, Path], references: Mapping[Path, Reference], output: Path | None = None) -> list[Compared]:
    """Read the runs, one after the other, so that no more than their numbers are kept.

    If there are `references`, by their files, each run has qualities by the one that holds for it, in the place of its
    own. Raises RequestError for what is not a finished run, one that is damaged, without scores, or that no reference
    holds for, and when `output` lies in the data set of one.
    """
    samples: dict[str, int] = {}
    people: dict[str, int] = {}
    found = []
    for name, folder in given.items():
        run = open_run(folder)
        if output is not None:
            Output(output, "").refuse_inside(Path(run.manifest.data_set["place"]))
        reference = _reference_for(name, run, references) if references else run.reference
        found.append(_compared(name, run, reference, samples, people))
    return found


def _reference_for(name: str, run: Run, references: Mapping[Path, Reference]) -> Reference:
    """The first reference that holds for a run. Raises RequestError when none does."""
    asked = run.manifest.holds_for()
    differences = {path: reference.differences(asked) for path, reference in references.items()}
    for path, reference in references.items():
        if not differences[path]:
            reference.refuse_other(asked, path)  # warns of another precision
            return reference
    lines = [f"  - {shown(path)}: {line}" for path, own in differences.items() for line in own]
    raise RequestError(
        f"no --reference holds for the run {shown(name)}: make one by 'grafiqs calibrate' from a run like it, or leave "
        "that run out. What differs:\n" + "\n".join(lines)
    )


def _compared(
    name: str, run: Run, reference: Reference | None, samples: dict[str, int], people: dict[str, int]
) -> Compared:
    if not len(run.scores):
        raise RequestError(f"no sample of the run in {shown(run.folder)} has a score: there is nothing to compare")
    try:
        images = np.array([checksum for checksum, _ in sums.read(run.folder / IMAGE_SUMS.name)], "S64")
        scores = {score: np.array(run.scores[score], np.float64) for score in run.manifest.scores}
        if len(images) != len(run.scores):
            raise ValueError(f"{IMAGE_SUMS.name} does not have the images of its scores")
        if not all(np.abs(values).max() < LARGEST for values in scores.values()):  # nor of those that are no numbers
            raise ValueError("it has scores that no network gives")
    except (OSError, ValueError) as error:
        raise finished.damaged(run.folder, error) from error
    listed = run.manifest.subset.samples
    return Compared(
        name=name,
        about=_about(run, reference),
        network=_network(run.manifest),
        settings=dict(_settings(run.manifest, reference)),
        samples=np.array(list(_numbers(listed, samples)), np.int64),
        people=np.array([people.setdefault(key(one.identity), len(people)) for one in listed], np.int64),
        scored=np.array([place for place, one in enumerate(listed) if one.location not in run.failures], np.int64),
        images=images,
        scores=scores,
        qualities=_qualities(scores, reference),
    )


def _qualities(
    scores: Mapping[str, NDArray[np.float64]], reference: Reference | None
) -> dict[str, NDArray[np.float64]]:
    """The qualities of all samples, by the names of their columns."""
    if reference is None:
        return {}
    columns = [values.tolist() for values in scores.values()]
    rows = [reference.qualities(dict(zip(scores, row, strict=True))) for row in zip(*columns, strict=True)]
    return {name: np.array([row[name] for row in rows], np.float64) for name in rows[0]}


def _numbers(listed: Iterable[Sample], known: dict[str, int]) -> Iterator[int]:
    """The numbers of samples by name, as the subset's SHA-256 has it; `known` takes those that are new."""
    own: set[int] = set()
    for sample in listed:
        number = known.setdefault(f"{key(sample.identity)}\0{key(sample.name)}", len(known))
        if number in own:  # two names of one run that differ in their Unicode form alone
            number = known.setdefault(f"{sample.identity}\0{sample.name}\0", len(known))
        own.add(number)
        yield number


def _about(run: Run, reference: Reference | None) -> dict[str, Any]:
    """What the manifest says of a run, and by what it has qualities, as JSON values."""
    manifest = run.manifest
    seeds = manifest.seeds
    drawn = manifest.options["random_identity_selection"]
    return {
        "folder": str(run.folder),
        "identity_seed": seeds["identity_selection"] if drawn else None,
        "sample_seed": None if manifest.options["samples_per_identity"] is None else seeds["sample_selection"],
        "identities": manifest.subset.identities,
        "samples": len(manifest.subset.samples),
        "failed": len(run.failures),
        "subset_sha256": manifest.subset.sha256,
        "data_set": manifest.data_set["place"],
        "weights_sha256": manifest.weights_sha256,
        "backbone": manifest.backbone["name"],
        "norms": manifest.options["norms"],
        "preprocessing": manifest.preprocessing,
        "computation": manifest.computation,
        "reference": None if reference is None else reference.sha256,
    }


def _network(manifest: Manifest) -> str:
    """What puts scores on one scale: the network, the norms that its loss sums over, and the size of the input."""
    loss, size = manifest.method.get("loss"), manifest.preprocessing.get("size")
    parts = [manifest.weights_sha256, manifest.backbone, manifest.options["norms"], loss, size]
    return json.dumps(parts, sort_keys=True)


def _settings(manifest: Manifest, reference: Reference | None) -> Iterator[tuple[str, str]]:
    """What changes scores or qualities, or what they are of, on one scale: its name, and its value in words."""
    yield "reference", "none" if reference is None else reference.sha256[:8]
    yield "data set", manifest.data_set["place"]
    yield "precision", str(manifest.computation["precision"])
    for name, value in manifest.preprocessing.items():
        yield name.replace("_", " "), "none" if value is None else json.dumps(value, sort_keys=True).strip('"')
