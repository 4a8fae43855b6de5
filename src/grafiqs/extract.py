"""One run, from options to a finished run folder: select, load, compute, write."""

from __future__ import annotations

import logging
import os
import shutil
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from grafiqs import devices
from grafiqs.backbones.catalogue import Preprocessing
from grafiqs.backbones.checkpoint import Checkpoint, check_file, load_checkpoint
from grafiqs.errors import RequestError, StoppedError
from grafiqs.formats.dataset import Dataset
from grafiqs.names import shown
from grafiqs.options import Options
from grafiqs.pipeline import images_per_second, outcomes
from grafiqs.preparation import Preparation
from grafiqs.progress import duration, progress_bar
from grafiqs.run import manifest as manifests
from grafiqs.run.folder import RunFolder, open_run_folder, refuse_foreign
from grafiqs.run.manifest import METHOD, Manifest
from grafiqs.run.tables import FAILURES, SCORES
from grafiqs.seeds import set_seeds
from grafiqs.select import Subset, open_dataset, select_subset

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What a run came to: how many samples have scores, how many have none, and where it all lies."""

    output_dir: Path
    scored: int
    failed: int


@devices.kept_memory()
def extract_gradients(options: Options) -> Summary | None:
    """Run the pipeline that `options` describe; a run that was stopped in the same folder goes on.

    Returns None after a dry run. Raises RequestError when the request is wrong, with nothing written, and
    StoppedError when the run cannot go on, with everything done so far kept.
    """
    device = devices.resolve(options.device, options.gpu)
    devices.check_precision(options.precision, device)
    weights = check_file(options.weights)
    _check_output(options)
    dataset = open_dataset(options)
    subset = select_subset(options, dataset)
    set_seeds(options.random_seed)
    checkpoint = load_checkpoint(weights, options.backbone)
    log.info("Backbone: %s from %s (SHA-256 %s)", checkpoint.backbone, shown(weights), checkpoint.sha256)
    locations = [sample.location for sample in subset.samples]
    preprocessing = replace(checkpoint.preprocessing, channel_order=options.channel_order)
    log.info("Input: %s", preprocessing)
    preparation = Preparation(
        checkpoint.network, preprocessing, device, options, dataset, locations, _kept_computation(options)
    )
    manifest = _manifest(options, dataset, subset, checkpoint, preprocessing, preparation.computation)
    log.info("Computing on %s, %d images at once", device, preparation.computer.batch_size)
    if options.dry_run:
        _log_estimate(manifest, preparation, dataset, options)
        return None
    with open_run_folder(options.output_dir, manifest, preparation.environment, options.overwrite) as run:
        return _run(run, preparation, dataset, options)


def _check_output(options: Options) -> None:
    """Raise RequestError for an output folder that cannot be the run's, before the long work begins."""
    output, dataset = (Path(os.path.realpath(path)) for path in (options.output_dir, options.image_path))
    if output.is_relative_to(dataset):
        raise RequestError(
            f"the output folder {shown(options.output_dir)} lies inside the data set {shown(options.image_path)}, "
            "where its files would be taken for samples: give an --output-dir outside it"
        )
    refuse_foreign(options.output_dir)


def _kept_computation(options: Options) -> dict[str, Any]:
    """How the run in the output folder computes, where there is one that will be gone on with."""
    if options.overwrite or not manifests.is_run(options.output_dir):
        return {}
    return manifests.read(options.output_dir).computation


def _manifest(
    options: Options,
    dataset: Dataset,
    subset: Subset,
    checkpoint: Checkpoint,
    preprocessing: Preprocessing,
    computation: dict[str, Any],
) -> Manifest:
    return Manifest(
        method=METHOD,
        options=options.deciding(),
        seeds={
            "identity_selection": options.identity_seed,
            "sample_selection": options.random_seed,
            **dict.fromkeys(("random", "numpy", "torch", "torch_cuda"), options.random_seed),
        },
        data_set={
            "form": dataset.form,
            "place": os.path.realpath(options.image_path),
            "root": os.path.realpath(dataset.root),
            "path_prefix": dataset.root.as_posix(),
        },
        weights=os.path.realpath(checkpoint.path),
        weights_sha256=checkpoint.sha256,
        backbone={
            "name": checkpoint.backbone,
            "blocks": list(checkpoint.network.blocks),
            "embedding_size": checkpoint.embedding_size,
        },
        layers={layer: list(checkpoint.shapes[layer]) for layer in options.layers},
        preprocessing={
            "size": list(preprocessing.size),
            "resize": "bilinear, antialiased, in uint8",
            "channel_order": preprocessing.channel_order,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
        },
        computation=computation,
        subset=subset,
        pairs=[list(pair) for pair in subset.pairs(dataset)],
        environments=[],
    )


def _run(run: RunFolder, preparation: Preparation, dataset: Dataset, options: Options) -> Summary:
    """Work off what is pending, then close the run folder."""
    total = len(run.manifest.subset.samples)
    pending = run.pending()
    if len(pending) < total:
        log.info("Resuming: %d of %d images are done already", total - len(pending), total)
    started = time.monotonic()
    try:
        with (
            closing(outcomes(run, preparation.computer, dataset, pending)) as done,
            progress_bar(total, total - len(pending), options.quiet) as bar,
        ):
            for outcome in done:
                run.record(outcome)
                bar.update()
        counts = run.finish()
    except BrokenPipeError:  # of the progress bar, not of the run folder
        raise
    except OSError as error:
        raise StoppedError(
            f"cannot write to {shown(run.root)}: {error.strerror or error}. {_kept(run)}: "
            "mend that, and the same command goes on from there"
        ) from error
    except (RuntimeError, MemoryError) as error:  # a GPU out of memory, or gone
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise StoppedError(
            f"the computation failed ({reason}). {_kept(run)}: the same command goes on from there"
        ) from error
    except KeyboardInterrupt as stop:
        stop.args = (f"stopped. {_kept(run)}: the same command goes on from there",)
        raise
    if pending:
        seconds = time.monotonic() - started
        rate = len(pending) / seconds
        log.info("Processed %d images in %s (%.1f a second)", len(pending), duration(seconds), rate)
    log.info("%d of %d images have scores: %s", counts.scored, total, shown(run.root / SCORES))
    log.info("A lower score means higher quality.")
    if counts.failed:
        log.warning("%d images have no score; %s says why", counts.failed, shown(run.root / FAILURES))
    return Summary(run.root, counts.scored, counts.failed)


def _log_estimate(manifest: Manifest, preparation: Preparation, dataset: Dataset, options: Options) -> None:
    """What the run would come to, in gigabytes and in time."""
    samples = manifest.subset.samples
    compiles = preparation.computation["engine"] == "compiled"
    known = compiles and preparation.computer.was_compiled_before()
    if known:
        preparation.environment()
    rate = images_per_second(preparation.computer, dataset, [sample.location for sample in samples[:1000]])
    size = sum(manifest.file_sizes.values()) * len(samples)
    output = Path(os.path.realpath(options.output_dir))
    free = shutil.disk_usage(next(folder for folder in (output, *output.parents) if folder.exists())).free
    log.info(
        "Dry run: %d images of %d identities; %d gradient files, %.2f GB (%.1f GB are free)",
        *(len(samples), manifest.subset.identities, len(manifest.dumps) * len(samples), size / 1e9, free / 1e9),
    )
    log.info(
        "It would take about %s, at %.1f images a second where the disk keeps up.",
        *(duration(len(samples) / rate), rate),
    )
    if compiles and not known:
        log.info(
            "That is without compiling, which it would do first: a minute or two, and then less time for each image."
        )
    log.info("Nothing was written.")


def _kept(run: RunFolder) -> str:
    total = len(run.manifest.subset.samples)
    return f"{total - len(run.pending())} of {total} images are done and kept"
