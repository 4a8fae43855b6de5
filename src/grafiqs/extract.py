"""One run, from options to a finished run folder: select, load, compute, write."""

from __future__ import annotations

import logging
import os
import shutil
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from grafiqs import devices
from grafiqs.backbones.catalogue import LAYERS
from grafiqs.backbones.checkpoint import Checkpoint, load_checkpoint
from grafiqs.backbones.weights import check_file
from grafiqs.errors import RequestError, StoppedError
from grafiqs.face import Faces
from grafiqs.formats.dataset import Dataset
from grafiqs.images.preprocessing import USUAL
from grafiqs.names import shown
from grafiqs.opencv import need_opencv, one_thread
from grafiqs.options import Options
from grafiqs.pipeline import ChangedImageError, images_per_second, outcomes
from grafiqs.preparation import Preparation
from grafiqs.probe import load_factory
from grafiqs.progress import duration, progress_bar
from grafiqs.reading import Reader
from grafiqs.run import manifest as manifests
from grafiqs.run.folder import RunFolder, open_run_folder
from grafiqs.run.manifest import METHOD, Manifest
from grafiqs.run.output import Output
from grafiqs.run.tables import FAILURES, SCORES
from grafiqs.seeds import set_seeds
from grafiqs.select import Subset, open_dataset, select_subset
from grafiqs.unaligned import are_plainly_unaligned

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """What a run came to: how many samples have scores, how many have none, and where it all lies."""

    output_dir: Path
    scored: int
    failed: int


@devices.kept_memory()
@devices.usual_settings()
def extract_gradients(options: Options) -> Summary | None:
    """Run the pipeline that `options` describe; a run that was stopped in the same folder goes on.

    Returns None after a dry run. Raises RequestError when the request is wrong, with nothing written, and
    StoppedError when the run cannot go on, with everything done so far kept.
    """
    device = devices.resolve(options.device, options.gpu)
    devices.check_precision(options.precision, device)
    if options.weights is not None or not options.is_factory:
        check_file(options.weights)
    faces = _faces(options)
    output = Output(options.output_dir, manifests.NAME)
    output.refuse_inside(options.image_path)
    output.refuse_foreign()
    dataset = open_dataset(options)
    subset = select_subset(options, dataset)
    set_seeds(options.random_seed)
    checkpoint = _checkpoint(options)
    log.info(
        "Backbone: %s from %s (SHA-256 %s)",
        *(shown(checkpoint.backbone), shown(checkpoint.path or "its own weights"), checkpoint.sha256),
    )
    log.info("Input: %s%s", checkpoint.preprocessing, "" if faces is None else f", aligned by {faces}")
    log.info("Statistics: %s", checkpoint.norms.said(options.norms))
    layers = _layers(options, checkpoint)
    reader = Reader(dataset, checkpoint.preprocessing.size, faces)
    locations = [sample.location for sample in subset.samples]
    if options.embeddings:
        log.info("Embeddings: %d numbers an image%s", checkpoint.embedding_size, ", mirrored added" * options.flip)
    if faces is None and are_plainly_unaligned(subset.samples, dataset, reader.size):
        log.warning(
            "warning: these images do not look like crops of %dx%d aligned to the ArcFace template, which the networks "
            "expect: scores of unaligned faces mean little. Photos are aligned by --align, or by 'grafiqs align'",
            *reader.size,
        )
    preparation = Preparation(checkpoint, device, options, layers, reader, locations, _kept_computation(options))
    manifest = _manifest(options, dataset, subset, checkpoint, layers, faces, preparation.computation)
    log.info("Computing on %s, %d images at once", device, preparation.computer.batch_size)
    if options.dry_run:
        _log_estimate(manifest, preparation, reader, options)
        return None
    with open_run_folder(options.output_dir, manifest, preparation.environment, options.overwrite) as run:
        return _run(run, preparation, reader, options)


def _checkpoint(options: Options) -> Checkpoint:
    """The network that `options` ask for, and the input that it is to be given."""
    if options.backbone is not None and options.is_factory:
        own = replace(USUAL, size=options.input_size or USUAL.size)
        preprocessing = own.changed(options.channel_order, options.mean, options.std)
        return load_factory(
            options.backbone, options.blocks, options.weights, preprocessing, options.layers, options.norms
        )
    checkpoint = load_checkpoint(check_file(options.weights), options.backbone)
    preprocessing = checkpoint.preprocessing.changed(options.channel_order, options.mean, options.std)
    if preprocessing != checkpoint.preprocessing:
        log.warning(
            "warning: %s is known to expect %s, and is given another input, as asked for",
            *(checkpoint.backbone, checkpoint.preprocessing),
        )
    return replace(checkpoint, preprocessing=preprocessing)


def _layers(options: Options, checkpoint: Checkpoint) -> tuple[str, ...]:
    """The layers of the run: those that were asked for, or all that have a gradient."""
    reached = checkpoint.norms.layers[options.norms]
    asked = options.layers or reached
    more = " (--norms all takes more of them)" if reached != checkpoint.norms.layers["all"] else ""
    without = ", ".join(layer for layer in options.layers or LAYERS if layer not in reached)
    if without and options.layers:
        raise RequestError(
            f"no BatchNorm2d that counts comes after {without} in {shown(checkpoint.backbone)}: there is no gradient; "
            f"give --layers {','.join(reached)}{more}"
        )
    if without:
        log.info("Layers: %s; no BatchNorm2d that counts comes after %s%s", ", ".join(asked), without, more)
    return asked


def _faces(options: Options) -> Faces | None:
    """What finds the faces, where pictures are to be aligned."""
    if options.align is None:
        return None
    need_opencv("--align")
    from grafiqs.detector import Detector  # loads OpenCV

    return Detector(options.align)


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
    layers: tuple[str, ...],
    faces: Faces | None,
    computation: dict[str, Any],
) -> Manifest:
    preprocessing = checkpoint.preprocessing
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
        weights="" if checkpoint.path is None else os.path.realpath(checkpoint.path),
        weights_sha256=checkpoint.sha256,
        backbone={
            "name": checkpoint.backbone,
            "blocks": list(checkpoint.network.blocks),
            "embedding_size": checkpoint.embedding_size,
            "norms": {"maps": checkpoint.norms.maps, "pixels": checkpoint.norms.pixels},
            "code_sha256": checkpoint.code_sha256,
        },
        layers={layer: list(checkpoint.shapes[layer]) for layer in layers},
        preprocessing={
            "size": list(preprocessing.size),
            "resize": "bilinear, antialiased, in uint8",
            "channel_order": preprocessing.channel_order,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "alignment": None if faces is None else faces.source(),
        },
        computation=computation,
        subset=subset,
        pairs=[list(pair) for pair in subset.pairs(dataset)],
        environments=[],
    )


def _run(run: RunFolder, preparation: Preparation, reader: Reader, options: Options) -> Summary:
    """Work off what is pending, then close the run folder."""
    total = len(run.manifest.subset.samples)
    pending = run.pending()
    if len(pending) < total:
        log.info("Resuming: %d of %d images are done already", total - len(pending), total)
    started = time.monotonic()
    try:
        with (
            nullcontext() if reader.faces is None else one_thread(),
            closing(outcomes(run, preparation.computer, reader, pending, preparation.first)) as done,
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
    except ChangedImageError as error:
        raise StoppedError(
            f"the image {error} is no longer the one that was scored. {_kept(run)}: bring that image back, and the "
            "same command resumes; or begin anew with --overwrite"
        ) from error
    except torch.OutOfMemoryError as error:
        raise StoppedError(
            f"{preparation.computer.device} is out of memory. {_kept(run)}: the same command with a --batch-size below "
            f"{preparation.computer.batch_size} resumes"
        ) from error
    except (RuntimeError, MemoryError) as error:  # a GPU that is gone, say
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


def _log_estimate(manifest: Manifest, preparation: Preparation, reader: Reader, options: Options) -> None:
    """What the run would come to, in gigabytes and in time."""
    samples = manifest.subset.samples
    compiles = preparation.computation["engine"] == "compiled"
    known = compiles and preparation.computer.was_compiled_before()
    if known:
        preparation.environment(range(len(samples)))
    locations = [sample.location for sample in samples[:1000]]
    with nullcontext() if reader.faces is None else one_thread():
        rate = images_per_second(preparation.computer, reader, locations, bool(manifest.dumps))
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
