"""One run, from options to a finished run folder: choose, read, compute, write."""

from __future__ import annotations

import logging
import time
from contextlib import closing, nullcontext
from dataclasses import replace

import torch

from grafiqs.calibration.reference import Reference
from grafiqs.cluster.driver import extract_on_cluster
from grafiqs.compute import devices
from grafiqs.compute.preparation import Ready, Task, build, prove, to_be_looked_at
from grafiqs.compute.tools import tools
from grafiqs.errors import StoppedError, first_line
from grafiqs.estimate import log_estimate
from grafiqs.faces.opencv import one_thread
from grafiqs.images.remarks import Remarks
from grafiqs.options.compute import MAX_BATCH
from grafiqs.options.extract import Options
from grafiqs.pipeline import ChangedImageError, outcomes
from grafiqs.planning import Planned, given_reference, plan
from grafiqs.progress import duration, progress_bar
from grafiqs.run import manifest as manifests
from grafiqs.run.aligned import unfinished
from grafiqs.run.folder import RunFolder, output_of
from grafiqs.run.journal import Failed, Scored
from grafiqs.run.parquet import need_pyarrow
from grafiqs.run.summary import Summary
from grafiqs.select import open_dataset, select_subset

log = logging.getLogger(__name__)


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
    if options.engine == "ray":
        return extract_on_cluster(options, extract_gradients)
    if options.store == "shards":
        need_pyarrow("--store shards")
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
        there = manifests.read(options.output_dir, subset) if resumes else None
        kept = None if there is None else there.computation
        planned = plan(options, device, faces, dataset, subset, kept, reference)
        if there is not None and options.shard_size in (None, there.shard_size):
            planned = replace(planned, manifest=replace(planned.manifest, shard_size=there.shard_size))
        if options.dry_run:
            log_estimate(planned.manifest, planned.task, planned.ready, options.output_dir)
            return None
        found = _extracted(options, planned, reference)
        if isinstance(found, Summary):
            return found
        options = found


def _extracted(options: Options, planned: Planned, reference: Reference | None) -> Summary | Options:
    """Write gradients, scores, and what proves them; if it is to be planned anew, the options by which it is."""
    ready, again = planned.ready, replace(options, overwrite=False)  # what was there is gone
    with RunFolder(options.output_dir, planned.manifest, options.overwrite, part=options.share).opened() as run:
        _say_which(run, options, ready.computer.batch_size)
        run.need_room()
        with run.working():
            run.settle()
        task = replace(planned.task, shards=run.manifest.shards)
        pending = run.pending()
        if len(pending):
            look = to_be_looked_at(task, ready, pending[:MAX_BATCH].tolist())
            ready, environment = prove(task, build(task, ready, look), look)
            if not run.begin(environment):
                return again
        work_off(run, task, ready, options.quiet)
        with run.working():
            done = run.finish(reference) or run.done()
            if run.is_reopened:  # by a part when all others have ended: nobody else may come
                return replace(again, part="1/1") if run.has_reopened_others else again
    summary = Summary(run.root, done[Scored], done[Failed], run.counts is not None)
    if run.share:
        for level, line in summary.said(run.manifest):
            log.log(level, "%s", line)
    return summary


def _say_which(run: RunFolder, options: Options, batch_size: int) -> None:
    """Say which part of the run this is, and how large its shards are if they are not as was asked for."""
    shards = run.manifest.shards
    if options.shard_size not in (None, shards.size):
        log.info(
            "Shards of %d images: --shard-size %d in whole batches of %d", shards.size, options.shard_size, batch_size
        )
    if run.part is not None and run.counts is None:
        log.info(
            "Part %d of %d: %d of %d shards, %d images%s",
            *(*run.part, len(run.share), len(shards), run.total()),
            "" if run.share else f"; {len(shards)} parts are enough",
        )


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
        seconds, before = time.monotonic() - started, 0 if ready.first is None else len(ready.first.reads)
        rate = f" ({(computed - before) / seconds:.1f} a second)" if computed > before else ""
        log.info("Processed %d images in %s%s", computed, duration(seconds), rate)
    for warning in remarks.warnings():
        log.warning("warning: %s", warning)
