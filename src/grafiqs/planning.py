"""What a run is to be before its first batch: how its samples are read and computed, and what its manifest says."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from grafiqs.calibration.reference import Reference, read_reference
from grafiqs.compute.network import load_network, scores_of
from grafiqs.compute.preparation import Ready, Task, choose
from grafiqs.compute.seeds import set_seeds
from grafiqs.datasets.dataset import Dataset
from grafiqs.datasets.samples import Locations
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.faces.face import Faces
from grafiqs.faces.opencv import one_thread
from grafiqs.images.futile import refuse_futile
from grafiqs.images.reading import Reader
from grafiqs.images.unaligned import are_plainly_unaligned
from grafiqs.options.extract import MAX_SHARD, Options
from grafiqs.run import sections
from grafiqs.run.manifest import METHOD, Manifest
from grafiqs.run.sections import directions
from grafiqs.select import Subset
from grafiqs.shards import Shards, one_shard, usual_size

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Planned:
    """A run before its first batch: what it is to be, and what computes it."""

    task: Task
    ready: Ready
    manifest: Manifest


def plan(
    options: Options,
    device: torch.device,
    faces: Faces | None,
    dataset: Dataset,
    subset: Subset,
    kept: dict[str, Any] | None,
    reference: Reference | None,
) -> Planned:
    """How the samples of a subset are read and computed; nothing is written.

    `kept` is the computation that a run began with if it is resumed. Raises RequestError when that is not possible,
    and when the reference is one of other scores.
    """
    set_seeds(options.random_seed)

    # Read: from a sample to the pixels that the network is given.
    checkpoint = load_network(options)
    log.info("Input: %s%s", checkpoint.input(), "" if faces is None else f", aligned by {faces}")
    reader = Reader(dataset, checkpoint.preprocessing.size, faces)
    locations = Locations(subset.samples)
    if not options.keep_going and kept is None:  # what is resumed began well once
        with nullcontext() if faces is None else one_thread():
            refuse_futile(reader.failure, locations)

    # Compute: from pixels to gradients and scores.
    scores = scores_of(options, checkpoint)
    if options.embeddings:
        log.info("Embeddings: %d numbers an image%s", checkpoint.embedding_size, ", mirrored added" * options.flip)
    _warn_of_photos(subset, reader, dataset)
    task = Task(checkpoint, device, scores, reader, locations, one_shard(locations), options)
    ready = choose(task, kept or {})
    task = replace(task, shards=Shards(len(locations), _shard_size(options, len(locations), ready)))
    log.info("Computing on %s, %d images at once", device, ready.computer.batch_size)
    return Planned(task, ready, _manifest(options, dataset, subset, task, ready, reference))


def given_reference(options: Options) -> Reference | None:
    """The reference that options name; logs what it is.

    Raises RequestError when it cannot be read, or lies in what --overwrite removes.
    """
    if options.reference is None:
        return None
    place = Path(os.path.realpath(options.reference))
    if options.overwrite and place.is_relative_to(os.path.realpath(options.output_dir)):
        raise RequestError(
            f"the reference {shown(options.reference)} lies in {shown(options.output_dir)}, which --overwrite removes: "
            "copy it elsewhere first"
        )
    found = read_reference(options.reference)
    log.info("Reference: %s", found.said())
    return found


def _warn_of_photos(subset: Subset, reader: Reader, dataset: Dataset) -> None:
    """Warn when the images are plainly not aligned crops, and are not aligned on the way."""
    if reader.faces is None and are_plainly_unaligned(subset.samples, dataset, reader.size):
        log.warning(
            "warning: these images do not look like crops of %dx%d aligned to the ArcFace template, which the networks "
            "expect: scores of unaligned faces mean little. Photos are aligned by --align, or by 'grafiqs align'",
            *reader.size,
        )


def _manifest(
    options: Options, dataset: Dataset, subset: Subset, task: Task, ready: Ready, reference: Reference | None
) -> Manifest:
    checkpoint = task.checkpoint
    manifest = Manifest(
        method=METHOD,
        **_chosen(options, dataset, subset),
        data_set={
            "form": dataset.form,
            "place": os.path.realpath(options.image_path),
            "root": os.path.realpath(dataset.root),
            "path_prefix": dataset.root.as_posix(),
        },
        weights="" if checkpoint.path is None else os.path.realpath(checkpoint.path),
        weights_sha256=checkpoint.sha256,
        backbone=checkpoint.source(),
        layers={name: list(checkpoint.shapes.get(name, ())) for name in task.scores},
        directions=directions(task.scores, options.embeddings),
        preprocessing=task.preprocessing(),
        computation=ready.plan,
        reference={},
        gradients=sections.gradients(options.deciding(), task.scores),
        export={},
        environments=[],
        shard_size=task.shards.size,
    )
    if reference is None or options.reference is None:
        return manifest
    reference.need_holding(manifest.holds_for(), manifest.scores, options.reference)
    source = reference.source(manifest.scores)
    return replace(manifest, reference=source, directions=directions(task.scores, options.embeddings, source))


def _shard_size(options: Options, count: int, ready: Ready) -> int:
    """The size of the shards of a run that begins now: what was asked for, in whole batches."""
    batch = ready.computer.batch_size
    if options.shard_size is None:
        return usual_size(count, batch)
    return min(MAX_SHARD, -(-options.shard_size // batch) * batch)


def _chosen(options: Options, dataset: Dataset, subset: Subset) -> dict[str, Any]:
    """The sections of a manifest that say which subset."""
    return {
        "options": options.deciding(),
        "seeds": {
            "identity_selection": options.identity_seed,
            "sample_selection": options.random_seed,
            **dict.fromkeys(("random", "numpy", "torch", "torch_cuda"), options.random_seed),
        },
        "subset": subset,
        "pairs": [list(pair) for pair in subset.pairs(dataset)],
    }


def of_subset(manifest: Manifest, options: Options, dataset: Dataset, subset: Subset) -> Manifest:
    """The manifest of a run that differs from another one in its subset alone, as its `options` choose it."""
    return replace(manifest, **_chosen(options, dataset, subset))
