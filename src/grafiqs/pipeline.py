"""read | gradients | write, overlapped: from the samples of a run to their outcomes."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from grafiqs import devices, images
from grafiqs.ahead import mapped
from grafiqs.backbones.checkpoint import Checkpoint
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.formats.dataset import Dataset
from grafiqs.gradients import gradient_scores, image_gradients
from grafiqs.run.folder import RunFolder, UnwritableNameError
from grafiqs.run.journal import Failed, Outcome, Scored
from grafiqs.run.manifest import Manifest
from grafiqs.template import SIZE


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
            self(torch.zeros((self.batch_size, 3, SIZE, SIZE), dtype=torch.uint8))
        except (RuntimeError, MemoryError) as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise RequestError(
                f"{self._device} cannot compute {self.batch_size} images at once ({reason}): "
                "give a smaller --batch-size, or another --device"
            ) from error


@dataclass(frozen=True)
class _Computed:
    """What one image came to, before its files are written."""

    index: int
    image_sha256: str
    gradients: dict[str, NDArray[np.float32]]
    scores: list[float]


def outcomes(run: RunFolder, computer: Computer, dataset: Dataset, pending: Sequence[int]) -> Generator[Outcome]:
    """The outcomes of the pending samples of a run over `dataset`, in order, their files written.

    Batches are cut from the whole subset and have one size (the last is padded), so that an image meets the
    same neighbours in the same places wherever a run was stopped: its bytes are the same.
    """
    samples = run.manifest.subset.samples
    size = computer.batch_size
    batches = [range(start, min(start + size, len(samples))) for start in sorted({i - i % size for i in pending})]
    threads = min(16, max(2, (os.cpu_count() or 2) // 2))
    with ThreadPoolExecutor(threads) as readers, ThreadPoolExecutor(threads) as writers:
        indices = (index for batch in batches for index in batch)
        read = mapped(readers, lambda index: _read(dataset, samples[index].location), indices, 2 * size)
        computed = _computed(read, computer, batches, set(pending))
        yield from mapped(writers, partial(_write, run), computed, size)


def _read(dataset: Dataset, location: str) -> tuple[Tensor, str] | UnreadableSampleError:
    """The image of a sample, and the SHA-256 of its encoded bytes."""
    try:
        data = dataset.read(location)
        return images.read(data), hashlib.sha256(data).hexdigest()
    except UnreadableSampleError as error:
        return error


def _computed(
    read: Iterator[tuple[Tensor, str] | UnreadableSampleError],
    computer: Computer,
    batches: Iterable[range],
    pending: set[int],
) -> Iterator[_Computed | Failed]:
    """Compute batch by batch; an image that could not be read leaves its place in the batch empty."""
    for batch in batches:
        found = list(zip(batch, islice(read, len(batch)), strict=True))
        readable = []
        for index, image in found:
            if not isinstance(image, UnreadableSampleError):
                readable.append((index, image))
            elif index in pending:
                yield Failed(index, str(image))
        if not readable:
            continue
        pixels = torch.zeros((computer.batch_size, 3, SIZE, SIZE), dtype=torch.uint8)
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


def images_per_second(computer: Computer, dataset: Dataset, locations: Sequence[str]) -> float:
    """How fast these images are read and batches are computed on this machine, measured for two seconds.

    The batches are empty ones: their content does not change the time.
    """
    computer.warm_up()
    started = time.monotonic()
    count = 0
    while count < 2 * computer.batch_size or time.monotonic() - started < 2:
        for number in range(count, count + computer.batch_size):
            _read(dataset, locations[number % len(locations)])
        computer.warm_up()
        count += computer.batch_size
    return count / (time.monotonic() - started)
