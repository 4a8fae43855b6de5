"""What a page says of a run, as JSON values: its card, its numbers, what failed, who was dropped."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.backbones.catalogue import QUALITIES, QUALITY
from grafiqs.options.extract import Options
from grafiqs.options.field import flag, plain, written
from grafiqs.run.manifest import Manifest
from grafiqs.run.results import Run

_DIGITS = 6
"""Significant digits of a score on the page."""


def content(name: str, run: Run, rows: Sequence[int]) -> dict[str, Any]:
    """What the page says of a run, of those of its `rows` that it shows."""
    manifest, table = run.manifest, run.scores
    shown = table[np.asarray(rows, np.int64)]
    identities = sorted(set(table["identity"].tolist()))
    number = {identity: place for place, identity in enumerate(identities)}
    scores = {score: _column(shown[score]) for score in manifest.scores}
    qualities = {score: shown[QUALITIES[score]].tolist() for score in manifest.scores if QUALITIES[score] in _names(run)}
    return {
        "name": name,
        "card": [list(row) for row in _card(run)],
        "command": command(manifest),
        "better": manifest.better,
        "scores": list(scores),
        "directions": {score: manifest.directions[score] for score in scores},
        "layer": run.reference.layer if run.reference is not None else None,
        "identities": identities,
        "identity": [number[identity] for identity in shown["identity"].tolist()],
        "path": shown["path"].tolist(),
        "values": scores,
        "qualities": qualities,
        "distributions": {score: _distribution(table[score]) for score in scores},
        "people": _people(table, list(scores)),
        "total": len(table),
        "failures": [[path, reason] for path, reason in run.failures.items()],
        "dropped": [[identity, count] for identity, count in manifest.subset.insufficient],
        "wanted": manifest.options["samples_per_identity"],
    }


def command(manifest: Manifest) -> str:
    """The command that makes the run again, where its data set and weights lie as they did."""
    asked = {
        "image_path": manifest.data_set["place"],
        "weights": manifest.weights or None,
        "precision": manifest.computation["precision"],
        "batch_size": manifest.computation["batch_size"],
        **{name: value for name, value in manifest.options.items() if name != "identity_selection_seed"},
    }
    if manifest.options["random_identity_selection"]:
        asked["identity_selection_seed"] = manifest.seeds["identity_selection"]
    words = ["grafiqs", "extract"]
    for field in fields(Options):
        value = asked.get(field.name, plain(field.default))
        if field.name in asked and value != plain(field.default):
            words += [_flag(field.name, value)] if isinstance(value, bool) else [flag(field.name), written(value)]
    return shlex.join(words)


def _flag(name: str, value: bool) -> str:
    return flag(name) if value else "--no-" + flag(name).removeprefix("--")


def _names(run: Run) -> tuple[str, ...]:
    return run.scores.dtype.names or ()


def _column(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in values.tolist()]


def _card(run: Run) -> Iterator[tuple[str, str]]:
    """What a paper must say of the run."""
    manifest = run.manifest
    subset, seeds = manifest.subset, manifest.seeds
    yield "Images", f"{len(subset.samples):,} of {subset.identities:,} identities; {len(run.scores):,} have scores"
    yield "Subset SHA-256", subset.sha256
    drawn = manifest.options["random_identity_selection"]
    yield "Identities", f"drawn with seed {seeds['identity_selection']}" if drawn else "the first by name, or all"
    taken = manifest.options["samples_per_identity"]
    yield "Samples", f"{taken} of each, drawn with seed {seeds['sample_selection']}" if taken else "all of each"
    yield "Data set", manifest.data_set["place"]
    yield "Backbone", f"{manifest.backbone['name']}, {manifest.weights}"
    yield "Weights SHA-256", manifest.weights_sha256
    given = manifest.preprocessing
    size = "x".join(map(str, given["size"]))
    mean, std = (" ".join(f"{value:g}" for value in given[name]) for name in ("mean", "std"))
    yield "Input", f"{size} {str(given['channel_order']).upper()}, mean {mean}, std {std}"
    alignment = given["alignment"]
    yield "Alignment", "none: images count as aligned crops" if alignment is None else str(alignment["detector"])
    yield "Statistics", f"--norms {manifest.options['norms']}"
    computed = manifest.computation
    yield "Computed", f"{computed['engine']} in {computed['precision']}, on {computed['device']}"
    yield "Direction", manifest.better
    if run.reference is not None:
        yield "Reference", run.reference.said()


def _distribution(values: NDArray[np.float64]) -> dict[str, Any]:
    """A histogram of all scores, whichever are shown: counts between `low` and `high`, those beyond at the ends."""
    low, high = (float(each) for each in np.quantile(values, (0.0, 0.99))) if len(values) else (0.0, 1.0)
    high = high if high > low else low + 1.0
    counts, _ = np.histogram(np.clip(values, low, high), bins=40, range=(low, high))
    return {"low": low, "high": high, "counts": counts.tolist()}


def _people(table: NDArray[Any], scores: list[str]) -> list[list[Any]]:
    """A row an identity: its name, how many samples, and mean and standard deviation of each score."""
    names, whose = np.unique(table["identity"].astype(str), return_inverse=True)
    counts = np.bincount(whose, minlength=len(names))
    columns: list[list[float]] = []
    for score in scores:
        mean = np.bincount(whose, table[score], len(names)) / np.maximum(counts, 1)
        square = np.bincount(whose, (table[score] - mean[whose]) ** 2, len(names)) / np.maximum(counts - 1, 1)
        columns += [_column(mean), _column(np.sqrt(square))]
    return [[name, int(count), *row] for name, count, *row in zip(names.tolist(), counts, *columns, strict=True)]


def main_score(run: Run) -> str:
    """The score by which faces are sorted at first: the reference's layer, or the first."""
    layer = run.reference.layer if run.reference is not None else None
    return layer if layer in run.manifest.scores else run.manifest.scores[0]


def main_quality(run: Run) -> str | None:
    """The column of the quality that counts, if there is one."""
    return QUALITY if QUALITY in _names(run) else None
