"""The pipeline: scan, select, then read | gradients | write, overlapped, into a run folder."""

from __future__ import annotations

import logging
import math
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from grafiqs import devices, images
from grafiqs.backbones.checkpoint import Checkpoint, check_file, load_checkpoint
from grafiqs.errors import RequestError, StoppedError
from grafiqs.gradients import gradient_scores, image_gradients
from grafiqs.images import UnreadableImageError
from grafiqs.names import shown
from grafiqs.options import Options
from grafiqs.run.folder import RunFolder, UnwritableNameError, open_run_folder, refuse_foreign
from grafiqs.run.journal import Failed, Outcome, Scored
from grafiqs.run.manifest import METHOD, Manifest
from grafiqs.run.tables import FAILURES, SCORES
from grafiqs.seeds import set_seeds
from grafiqs.select import Subset, select_subset

log = logging.getLogger(__name__)

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Summary:
    """What a run came to: how many samples have scores, how many have none, and where it all lies."""

    output_dir: Path
    scored: int
    failed: int


def extract_gradients(options: Options) -> Summary | None:
    """Run the pipeline that `options` describe; a run that was stopped in the same folder goes on.

    Returns None after a dry run. Raises RequestError when the request is wrong, with nothing written, and
    StoppedError when the run cannot go on, with everything done so far kept.
    """
    device = devices.resolve(options.device, options.gpu)
    weights = check_file(options.weights)
    _check_output(options)
    subset = select_subset(options)
    set_seeds(options.random_seed)
    checkpoint = load_checkpoint(weights, options.backbone)
    manifest = _manifest(options, subset, checkpoint, device)
    computer = Computer(checkpoint, manifest, device)
    log.info("Backbone: %s from %s (SHA-256 %s)", checkpoint.backbone, shown(weights), checkpoint.sha256)
    log.info(
        "Computing on %s, %d images at once; colour order %s",
        *(device, computer.batch_size, options.channel_order.upper()),
    )
    with devices.exact_arithmetic():
        if options.dry_run:
            _log_estimate(manifest, computer, options)
            return None
        computer.warm_up()
        with open_run_folder(options.output_dir, manifest, options.overwrite) as run:
            return _run(run, computer, options)


def _check_output(options: Options) -> None:
    """Raise RequestError for an output folder that cannot be the run's, before the long work begins."""
    output, dataset = (Path(os.path.realpath(path)) for path in (options.output_dir, options.image_path))
    if output.is_relative_to(dataset):
        raise RequestError(
            f"the output folder {shown(options.output_dir)} lies inside the data set {shown(options.image_path)}, "
            "where its files would be taken for samples: give an --output-dir outside it"
        )
    refuse_foreign(options.output_dir)


def _manifest(options: Options, subset: Subset, checkpoint: Checkpoint, device: torch.device) -> Manifest:
    return Manifest(
        method=METHOD,
        options=options.deciding(),
        seeds={
            "identity_selection": options.identity_seed,
            "sample_selection": options.random_seed,
            **dict.fromkeys(("random", "numpy", "torch", "torch_cuda"), options.random_seed),
        },
        weights=options.weights.as_posix() if options.weights else "",
        weights_sha256=checkpoint.sha256,
        backbone={
            "name": checkpoint.backbone,
            "widths": list(checkpoint.widths),
            "embedding_size": checkpoint.embedding_size,
        },
        layers={layer: list(checkpoint.shapes[layer]) for layer in options.layers},
        preprocessing={
            "size": [images.SIZE, images.SIZE],
            "resize": "bilinear, antialiased, in uint8",
            "channel_order": options.channel_order,
            "mean": images.MEAN,
            "std": images.STD,
        },
        computation={
            "engine": "eager",
            "precision": "float32",
            "device": device.type,
            "batch_size": options.batch_size or devices.BATCH_SIZE[device.type],
        },
        subset=subset,
        environments=[devices.environment(device)],
    )


class Computer:
    """The network on its device, and how images become gradients there."""

    def __init__(self, checkpoint: Checkpoint, manifest: Manifest, device: torch.device) -> None:
        self._network = devices.placed(checkpoint.network, device)
        self._memory_format = devices.memory_format(device)
        self._layers = tuple(manifest.layers)
        self._channel_order = str(manifest.preprocessing["channel_order"])
        self._device = device
        self.batch_size = int(manifest.computation["batch_size"])

    def __call__(self, batch: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """uint8 images (B, 3, 112, 112) -> gradients {layer: (B, C, H, W)}, scores (B, layers) float64, on the CPU."""
        x = images.normalise(batch.to(self._device), self._channel_order)
        found = image_gradients(self._network, x.contiguous(memory_format=self._memory_format), self._layers)
        table = torch.stack([gradient_scores(gradient) for gradient in found.values()], dim=1)
        return {layer: gradient.cpu() for layer, gradient in found.items()}, table.cpu()

    def warm_up(self) -> None:
        """Compute one batch of nothing, so that a device that cannot do it says so before anything is written."""
        try:
            self(torch.zeros((self.batch_size, 3, images.SIZE, images.SIZE), dtype=torch.uint8))
        except (RuntimeError, MemoryError) as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise RequestError(
                f"{self._device} cannot compute {self.batch_size} images at once ({reason}): "
                "give a smaller --batch-size, or another --device"
            ) from error


def _run(run: RunFolder, computer: Computer, options: Options) -> Summary:
    """Work off what is pending, then close the run folder."""
    total = len(run.manifest.subset.samples)
    pending = run.pending()
    if len(pending) < total:
        log.info("Resuming: %d of %d images are done already", total - len(pending), total)
    started = time.monotonic()
    try:
        with (
            closing(_outcomes(run, computer, options.image_path, pending)) as outcomes,
            _progress(total, len(pending), options.quiet) as bar,
        ):
            for outcome in outcomes:
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
    except KeyboardInterrupt as stop:
        stop.args = (f"stopped. {_kept(run)}: the same command goes on from there",)
        raise
    if pending:
        seconds = time.monotonic() - started
        rate = len(pending) / seconds
        log.info("Processed %d images in %s (%.1f a second)", len(pending), _duration(seconds), rate)
    log.info("%d of %d images have scores: %s", counts.scored, total, shown(run.root / SCORES))
    log.info("A lower score means higher quality.")
    if counts.failed:
        log.warning("%d images have no score; %s says why", counts.failed, shown(run.root / FAILURES))
    return Summary(run.root, counts.scored, counts.failed)


@dataclass(frozen=True)
class _Computed:
    """What one image came to, before its files are written."""

    index: int
    image_sha256: str
    gradients: dict[str, NDArray[np.float32]]
    scores: list[float]


def _outcomes(run: RunFolder, computer: Computer, root: Path, pending: Sequence[int]) -> Generator[Outcome]:
    """The outcomes of the pending samples, in order, their files written: read | gradients | write.

    Batches are cut from the whole subset and have one size (the last is padded), so that an image meets the
    same neighbours in the same places wherever a run was stopped: its bytes are the same.
    """
    samples = run.manifest.subset.samples
    size = computer.batch_size
    batches = [range(start, min(start + size, len(samples))) for start in sorted({i - i % size for i in pending})]
    threads = max(2, (os.cpu_count() or 2) // 2)
    with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(threads) as writers:
        indices = (index for batch in batches for index in batch)
        read = _ahead(readers, lambda index: _read(root / samples[index].location), indices, 2 * size)
        computed = _computed(read, computer, batches, set(pending))
        yield from _ahead(writers, partial(_write, run), computed, size)


def _ahead(pool: ThreadPoolExecutor, work: Callable[[A], B], items: Iterable[A], ahead: int) -> Iterator[B]:
    """`map(work, items)` on the threads of `pool`, in order, with at most `ahead` items begun early."""
    items = iter(items)
    begun = deque(pool.submit(work, item) for item in islice(items, ahead))
    while begun:
        result = begun.popleft().result()
        begun.extend(pool.submit(work, item) for item in islice(items, 1))
        yield result


def _read(path: Path) -> tuple[Tensor, str] | UnreadableImageError:
    try:
        return images.read(path)
    except UnreadableImageError as error:
        return error


def _computed(
    read: Iterator[tuple[Tensor, str] | UnreadableImageError],
    computer: Computer,
    batches: Iterable[range],
    pending: set[int],
) -> Iterator[_Computed | Failed]:
    """Compute batch by batch; an image that could not be read leaves its place in the batch empty."""
    for batch in batches:
        found = list(zip(batch, islice(read, len(batch)), strict=True))
        readable = []
        for index, image in found:
            if not isinstance(image, UnreadableImageError):
                readable.append((index, image))
            elif index in pending:
                yield Failed(index, str(image))
        if not readable:
            continue
        pixels = torch.zeros((computer.batch_size, 3, images.SIZE, images.SIZE), dtype=torch.uint8)
        for index, (tensor, _) in readable:
            pixels[index - batch.start] = tensor
        found_gradients, found_scores = computer(pixels)
        for index, (_, checksum) in readable:
            if index in pending:
                place = index - batch.start
                own = {layer: gradient[place].numpy() for layer, gradient in found_gradients.items()}
                yield _Computed(index, checksum, own, found_scores[place].tolist())


def _write(run: RunFolder, computed: _Computed | Failed) -> Outcome:
    """Write the gradient files of one image, on a writer thread."""
    if isinstance(computed, Failed):
        return computed
    index = computed.index
    for layer, score in zip(run.manifest.layers, computed.scores, strict=True):
        if not math.isfinite(score):
            return Failed(index, f"its gradient at {layer} is not finite")
    dumped: dict[str, NDArray[Any]] = {}
    for layer in run.manifest.dumps:
        with np.errstate(over="ignore"):
            dumped[layer] = computed.gradients[layer].astype(run.manifest.dtype)
        if not np.isfinite(dumped[layer]).all():
            return Failed(index, f"its gradient at {layer} is too large for {run.manifest.dtype}")
    try:
        checksums = run.write(run.manifest.subset.samples[index], dumped)
    except UnwritableNameError as error:
        return Failed(index, str(error))
    return Scored(index, computed.image_sha256, computed.scores, checksums)


def _log_estimate(manifest: Manifest, computer: Computer, options: Options) -> None:
    """What the run would come to; the time is measured on the subset's first images."""
    samples = manifest.subset.samples
    computer.warm_up()
    started = time.monotonic()
    batches = 0
    while batches < 2 or time.monotonic() - started < 2:
        first = batches * computer.batch_size % len(samples)
        for sample in samples[first : first + computer.batch_size]:
            _read(options.image_path / sample.location)
        computer.warm_up()
        batches += 1
    rate = batches * computer.batch_size / (time.monotonic() - started)
    size = sum(manifest.file_sizes.values()) * len(samples)
    output = Path(os.path.realpath(options.output_dir))
    free = shutil.disk_usage(next(folder for folder in (output, *output.parents) if folder.exists())).free
    log.info(
        "Dry run: %d images of %d identities; %d gradient files, %.2f GB (%.1f GB are free)",
        *(len(samples), manifest.subset.identities, len(manifest.dumps) * len(samples), size / 1e9, free / 1e9),
    )
    log.info(
        "It would take about %s, at %.1f images a second. Nothing was written.", _duration(len(samples) / rate), rate
    )


def _progress(total: int, pending: int, quiet: bool) -> tqdm[Any]:
    """The progress bar on standard error; where that is no terminal, a line every half minute."""
    return tqdm(
        total=total,
        initial=total - pending,
        unit=" images",
        disable=quiet or not pending,
        mininterval=0.2 if sys.stderr.isatty() else 30,
        dynamic_ncols=True,
    )


def _kept(run: RunFolder) -> str:
    total = len(run.manifest.subset.samples)
    return f"{total - len(run.pending())} of {total} images are done and kept"


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
