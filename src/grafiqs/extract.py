"""One run, from options to a finished run folder: choose, read, compute, write."""

from __future__ import annotations

import logging
import os
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from grafiqs.calibration.reference import Reference, read_reference
from grafiqs.compute import devices
from grafiqs.compute.network import load_network, scores_of
from grafiqs.compute.preparation import Ready, Task, build, choose, prove, to_be_looked_at
from grafiqs.compute.seeds import set_seeds
from grafiqs.compute.tools import tools
from grafiqs.datasets.dataset import Dataset
from grafiqs.datasets.samples import Locations
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError, StoppedError, first_line
from grafiqs.estimate import log_estimate
from grafiqs.faces.face import Faces
from grafiqs.faces.opencv import one_thread
from grafiqs.images.futile import refuse_futile
from grafiqs.images.reading import Reader
from grafiqs.images.remarks import Remarks
from grafiqs.images.unaligned import are_plainly_unaligned
from grafiqs.options.compute import MAX_BATCH
from grafiqs.options.extract import MAX_SHARD, Options
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
from grafiqs.shards import Shards, one_shard, usual_size

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """The result of a run: how many samples have scores, how many have none, and where it all lies."""

    output_dir: Path
    scored: int
    failed: int
    is_finished: bool = field(default=True, repr=False)
    """False if others still have to do their parts of the run: then these are the samples of this part."""


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

    while True:
        resumes = not options.overwrite and output.is_used()
        kept = manifests.read(options.output_dir, subset).computation if resumes else None
        planned = plan(options, device, faces, dataset, subset, kept, reference)
        if options.dry_run:
            log_estimate(planned.manifest, planned.task, planned.ready, options.output_dir)
            return None
        summary = _extracted(options, planned, reference)
        if summary is not None:
            return summary


def _extracted(options: Options, planned: Planned, reference: Reference | None) -> Summary | None:
    """Write gradients, scores, and what proves them; None if it is to be planned anew, as another part has begun it."""
    ready = planned.ready
    with RunFolder(options.output_dir, planned.manifest, options.overwrite, part=options.share).opened() as run:
        _say_which(run)
        run.need_room()
        task = replace(planned.task, shards=run.manifest.shards)
        pending = run.pending()
        if len(pending):
            look = to_be_looked_at(task, ready, pending[:MAX_BATCH].tolist())
            ready, environment = prove(task, build(task, ready, look), look)
            if not run.begin(environment):
                return None
        work_off(run, task, ready, options.quiet)
        with run.working():
            counts = run.finish(reference)
            done = counts or run.done()
    if counts is None:
        log.info("This part is done, and others have work left: 'grafiqs status %s' says which", shown(run.root))
    else:
        total = len(run.manifest.subset.samples)
        log.info("%d of %d images have scores: %s", counts[Scored], total, shown(run.root / SCORES))
        log.info("%s", run.manifest.better)
        if counts[Failed]:
            log.warning("%d images have no score; %s says why", counts[Failed], shown(run.root / FAILURES.name))
    return Summary(run.root, done[Scored], done[Failed], counts is not None)


def _say_which(run: RunFolder) -> None:
    """Say which part of the run this is."""
    if run.part is not None and run.counts is None:
        shards = run.manifest.shards
        log.info(
            "Part %d of %d: %d of %d shards, %d images%s",
            *(*run.part, len(run.share), len(shards), run.total()),
            "" if run.share else f"; there are no more shards: --shard-size below {shards.size} gives more",
        )


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


def work_off(run: RunFolder, task: Task, ready: Ready, quiet: bool) -> None:
    """Compute and write what a run lacks, of the share that this process is to do."""
    total, pending, remarks = run.total(), len(run.pending()), Remarks()
    if pending < total:
        log.info("Resuming: %d of %d images are done already", total - pending, total)
    computed, first = 0, ready.first
    started = time.monotonic()
    try:
        with (
            run.working(),
            nullcontext() if task.reader.faces is None else one_thread(),
            progress_bar(total, total - pending, quiet) as bar,
        ):
            while pending:
                with closing(outcomes(run, ready.computer, task.reader, first, remarks)) as done:
                    for outcome in done:
                        run.record(outcome)
                        computed += 1
                        bar.update()
                if not run.wait():
                    break
                first = None
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
    if computed:
        seconds = time.monotonic() - started
        log.info("Processed %d images in %s (%.1f a second)", computed, duration(seconds), computed / seconds)
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
        gradients=manifests.gradients(options.deciding(), task.scores),
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
