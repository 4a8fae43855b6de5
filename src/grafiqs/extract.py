"""One run, from options to a finished run folder: choose, read, compute, write."""

from __future__ import annotations

import logging
import os
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from grafiqs.calibration.reference import Reference, read_reference
from grafiqs.compute import devices
from grafiqs.compute.network import load_network, scores_of
from grafiqs.compute.preparation import Ready, Task, build, choose, prove
from grafiqs.compute.seeds import set_seeds
from grafiqs.compute.tools import tools
from grafiqs.datasets.dataset import Dataset
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError, StoppedError, first_line
from grafiqs.estimate import log_estimate
from grafiqs.faces.face import Faces
from grafiqs.faces.opencv import one_thread
from grafiqs.images.futile import refuse_futile
from grafiqs.images.reading import Reader
from grafiqs.images.remarks import Remarks
from grafiqs.images.unaligned import are_plainly_unaligned
from grafiqs.options.extract import Options
from grafiqs.pipeline import ChangedImageError, outcomes
from grafiqs.progress import duration, progress_bar
from grafiqs.run import manifest as manifests
from grafiqs.run.aligned import unfinished
from grafiqs.run.finished import SCORES
from grafiqs.run.folder import RunFolder, output_of
from grafiqs.run.journal import Failed, Scored
from grafiqs.run.manifest import METHOD, Manifest, directions
from grafiqs.run.tables import FAILURES
from grafiqs.select import Subset, open_dataset, select_subset

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """The result of a run: how many samples have scores, how many have none, and where it all lies."""

    output_dir: Path
    scored: int
    failed: int


@dataclass(frozen=True)
class Planned:
    """A run before its first batch: what it is to be, and what computes it."""

    task: Task
    ready: Ready
    manifest: Manifest


@devices.kept_memory()
@devices.usual_settings()
def extract_gradients(options: Options) -> Summary | None:
    """Run the pipeline that `options` describe; a run that was stopped in the same folder is resumed.

    Returns None after a dry run. Raises RequestError when the request is wrong, with nothing written, and
    StoppedError when the run cannot go on, with everything done so far kept.

    >>> options = Options(image_path="faces", weights="weights.pth", samples_per_identity=2, quiet=True)
    >>> extract_gradients(options)
    Summary(output_dir=PosixPath('grafiqs_output'), scored=8, failed=0)
    """
    device, faces = tools(options)
    reference = given_reference(options)
    output = output_of(options.output_dir)
    output.refuse_inside(options.image_path)
    output.refuse_foreign()

    # Choose: which samples, in which order.
    dataset = open_dataset(options)
    if (line := unfinished(options.image_path)) is not None:
        log.warning("warning: %s", line)
    subset = select_subset(options, dataset)

    resumes = not options.overwrite and output.is_used()
    kept = manifests.read(options.output_dir).computation if resumes else None
    planned = plan(options, device, faces, dataset, subset, kept, reference)
    task, ready, manifest = planned.task, planned.ready, planned.manifest
    if options.dry_run:
        log_estimate(manifest, task, ready, options.output_dir)
        return None

    # Write: gradients, scores, and what proves them.
    with RunFolder(options.output_dir, manifest, options.overwrite).opened() as run:
        pending = run.journal.pending()
        run.need_room()
        if pending:
            ready, environment = prove(task, build(task, ready, pending), pending)
            run.begin(environment)
        work_off(run, task, ready, pending, options.quiet)
        with run.working():
            counts = run.finish(reference)
    log.info("%d of %d images have scores: %s", counts[Scored], len(subset.samples), shown(run.root / SCORES))
    log.info("%s", manifest.better)
    if counts[Failed]:
        log.warning("%d images have no score; %s says why", counts[Failed], shown(run.root / FAILURES.name))
    return Summary(run.root, counts[Scored], counts[Failed])


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
    locations = [sample.location for sample in subset.samples]
    if not options.keep_going and kept is None:  # what is resumed began well once
        with nullcontext() if faces is None else one_thread():
            refuse_futile(reader.failure, locations)

    # Compute: from pixels to gradients and scores.
    scores = scores_of(options, checkpoint)
    if options.embeddings:
        log.info("Embeddings: %d numbers an image%s", checkpoint.embedding_size, ", mirrored added" * options.flip)
    _warn_of_photos(subset, reader, dataset)
    task = Task(checkpoint, device, scores, reader, locations, options)
    ready = choose(task, kept or {})
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


def work_off(run: RunFolder, task: Task, ready: Ready, pending: list[int], quiet: bool) -> None:
    """Compute and write what is pending."""
    total, remarks = len(task.locations), Remarks()
    if len(pending) < total:
        log.info("Resuming: %d of %d images are done already", total - len(pending), total)
    started = time.monotonic()
    try:
        with (
            run.working(),
            nullcontext() if task.reader.faces is None else one_thread(),
            closing(outcomes(run, ready.computer, task.reader, pending, ready.first, remarks)) as done,
            progress_bar(total, total - len(pending), quiet) as bar,
        ):
            for outcome in done:
                run.record(outcome)
                bar.update()
    except ChangedImageError as error:
        raise StoppedError(
            f"the image {error} is no longer the one that was scored. {run.kept()}: bring that image back, and the "
            "same command resumes; or start over with --overwrite"
        ) from error
    except torch.OutOfMemoryError as error:
        size = ready.computer.batch_size
        smaller = f"with a --batch-size below {size} resumes" if size > 1 else "resumes once others have left it some"
        raise StoppedError(f"{task.device} is out of memory. {run.kept()}: the same command {smaller}") from error
    except (RuntimeError, MemoryError) as error:  # a GPU that is gone, say
        if isinstance(error, StoppedError):
            raise
        raise StoppedError(
            f"the computation failed ({first_line(error)}). {run.kept()}: the same command resumes"
        ) from error
    if pending:
        seconds = time.monotonic() - started
        rate = len(pending) / seconds
        log.info("Processed %d images in %s (%.1f a second)", len(pending), duration(seconds), rate)
    for warning in remarks.warnings():
        log.warning("warning: %s", warning)


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
        environments=[],
    )
    if reference is None or options.reference is None:
        return manifest
    reference.need_holding(manifest.holds_for(), manifest.scores, options.reference)
    source = reference.source(manifest.scores)
    return replace(manifest, reference=source, directions=directions(task.scores, options.embeddings, source))


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
