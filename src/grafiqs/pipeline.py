"""read | gradients | write, overlapped: from the samples of a run to their outcomes."""

from __future__ import annotations

import base64
import math
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from grafiqs.ahead import mapped
from grafiqs.computer import Computed, Computer
from grafiqs.errors import UnreadableSampleError
from grafiqs.reading import THREADS, Read, Reader, processes_for, read_ahead
from grafiqs.run.folder import RunFolder, UnwritableNameError
from grafiqs.run.journal import Failed, Outcome, Scored


@dataclass(frozen=True)
class _Image:
    """What one image came to, before its files are written."""

    index: int
    read: Read
    gradients: dict[str, NDArray[np.float32]]
    scores: list[float]
    embedding: NDArray[np.float32] | None


def outcomes(run: RunFolder, computer: Computer, reader: Reader, pending: Sequence[int]) -> Generator[Outcome]:
    """The outcomes of the pending samples of a run, in order, their files written.

    Batches are cut from the whole subset and have one size (the last is padded), so that an image meets the
    same neighbours in the same places wherever a run was stopped: its bytes are the same.
    """
    samples = run.manifest.subset.samples
    size = computer.batch_size
    batches = [range(start, min(start + size, len(samples))) for start in sorted({i - i % size for i in pending})]
    locations = (samples[index].location for batch in batches for index in batch)
    processes = processes_for(computer.device, len(pending))
    with closing(read_ahead(reader, locations, 2 * size, processes)) as reads:
        computed = _computed(reads, computer, batches, set(pending), gradients=bool(run.manifest.dumps))
        if not run.manifest.dumps:  # nothing to write, and nothing to wait for
            yield from map(partial(_written, run), computed)
            return
        with ThreadPoolExecutor(THREADS) as writers:
            yield from mapped(writers, partial(_written, run), computed, size)


def _computed(
    reads: Iterator[Read | UnreadableSampleError],
    computer: Computer,
    batches: Iterable[range],
    pending: set[int],
    gradients: bool,
) -> Iterator[_Image | Failed]:
    """Compute batch by batch; an image that could not be read leaves its place in the batch empty."""
    under_way: deque[tuple[int, dict[int, Read], Computed]] = deque()
    for batch in batches:
        pixels = computer.blank()
        known: dict[int, Read] = {}
        failed: list[Failed] = []
        for index, image in zip(batch, islice(reads, len(batch)), strict=True):
            if isinstance(image, UnreadableSampleError):
                failed += [Failed(index, str(image))] if index in pending else []
            else:
                pixels[index - batch.start] = torch.from_numpy(image.pixels)
                known[index] = image
        if known:
            under_way.append((batch.start, known, computer(pixels, gradients)))
        while len(under_way) > (computer.in_flight if known else 0):
            yield from _arrived(*under_way.popleft(), pending)
        yield from failed
    while under_way:
        yield from _arrived(*under_way.popleft(), pending)


def _arrived(start: int, known: dict[int, Read], computed: Computed, pending: set[int]) -> Iterator[_Image]:
    """The pending images of a batch that was computed."""
    computed.wait()
    scores = computed.scores.tolist()
    for index, read in known.items():
        if index in pending:
            place = index - start
            own = {layer: gradient[place].numpy() for layer, gradient in computed.gradients.items()}
            embedding = None if computed.embeddings is None else computed.embeddings[place].numpy()
            yield _Image(index, read, own, scores[place], embedding)


def _written(run: RunFolder, image: _Image | Failed) -> Outcome:
    """Write the gradient files of one image; may run on any thread."""
    if isinstance(image, Failed):
        return image
    for layer, score in zip(run.manifest.layers, image.scores, strict=True):
        if not math.isfinite(score):
            return Failed(image.index, f"its gradient at {layer} is not finite")
    if image.embedding is not None and not np.isfinite(image.embedding).all():
        return Failed(image.index, "its embedding is not finite")
    dumped: dict[str, NDArray[Any]] = image.gradients
    if run.manifest.dtype != "float32":
        with np.errstate(over="ignore"):
            dumped = {layer: gradient.astype(run.manifest.dtype) for layer, gradient in dumped.items()}
        for layer, gradient in dumped.items():
            if not np.isfinite(gradient).all():
                return Failed(image.index, f"its gradient at {layer} is too large for {run.manifest.dtype}")
    try:
        checksums = run.write(run.manifest.subset.samples[image.index], dumped)
    except UnwritableNameError as error:
        return Failed(image.index, str(error))
    return Scored(
        image.index,
        image.read.sha256,
        image.scores,
        checksums,
        [] if image.read.face is None else image.read.face.row(),
        "" if image.embedding is None else base64.b64encode(image.embedding.astype("<f4").tobytes()).decode(),
    )


def images_per_second(computer: Computer, reader: Reader, locations: Sequence[str]) -> float:
    """How fast these images are read and batches are computed on this machine, measured for two seconds.

    The batches are empty ones: their content does not change the time.
    """
    computer.warm_up()
    started = time.monotonic()
    count = 0
    while count < 2 * computer.batch_size or time.monotonic() - started < 2:
        for number in range(count, count + computer.batch_size):
            reader(locations[number % len(locations)])
        computer.warm_up()
        count += computer.batch_size
    return count / (time.monotonic() - started)
