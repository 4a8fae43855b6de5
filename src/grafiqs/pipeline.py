"""read | gradients | write, overlapped: from the samples of a run to their outcomes."""

from __future__ import annotations

import base64
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, tee
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from grafiqs.backbones.catalogue import LAYERS
from grafiqs.compute.computer import Computed, Computer
from grafiqs.compute.preparation import Batch
from grafiqs.disk import inside
from grafiqs.disk.names import shown
from grafiqs.errors import UnreadableSampleError
from grafiqs.images.reading import THREADS, Read, Source, processes_for, read_ahead
from grafiqs.images.remarks import Remarks, UnalignedError
from grafiqs.run.folder import RunFolder
from grafiqs.run.journal import Failed, Outcome, Scored
from grafiqs.workers.ahead import mapped


@dataclass(frozen=True)
class Measured:
    """The results of one image, before its files are written."""

    index: int
    read: Read
    gradients: dict[str, NDArray[np.float32]]
    scores: list[float]
    embedding: NDArray[np.float32] | None

    def flaw(self, names: Iterable[str]) -> str:
        """Why the results cannot be used, if they cannot; `names` are those of the scores."""
        for name, score in zip(names, self.scores, strict=True):
            if not math.isfinite(score):
                return f"its {f'gradient at {name}' if name in LAYERS else name} is not finite"
        if self.embedding is not None and not np.isfinite(self.embedding).all():
            return "its embedding is not finite"
        return ""


class ChangedImageError(Exception):
    """An image is no longer the one that was scored; the message is its location."""


def outcomes(
    run: RunFolder,
    computer: Computer,
    reader: Source,
    first: Batch | None = None,
    remarks: Remarks | None = None,
) -> Generator[Outcome]:
    """The outcomes of what a run lacks, their files written: batch by batch, failures among the others.

    Shards are claimed as their turn comes. `first` is one of the batches, computed already; `remarks` takes what is to
    be said of the images. Raises ChangedImageError when an image that fills a batch beside pending ones, and was scored
    before, is another one now.

    Batches are cut from whole shards and have one size (the last of a shard is padded), so that an image meets the
    same neighbours in the same places wherever a run was stopped, and whoever computes it: its bytes are the same.
    """
    samples, shards, size = run.manifest.subset.samples, run.manifest.shards, computer.batch_size

    def planned() -> Iterator[range]:
        for number in run.claimed():
            yield from (batch for batch in shards.batches(number, size) if any(map(run.is_pending, batch)))

    def is_read(batch: range) -> bool:
        return first is not None and first.start == batch.start

    def remarked(index: int, image: Read | UnreadableSampleError) -> Read | UnreadableSampleError:
        if remarks is not None and run.is_pending(index):
            _remark(remarks, samples[index].location, image)
        return image

    batches, to_read, of_reads = tee(planned(), 3)  # they are all asked by this thread
    locations = (samples[index].location for batch in to_read if not is_read(batch) for index in batch)
    indices = (index for batch in of_reads if not is_read(batch) for index in batch)
    processes = processes_for(computer.device, len(run.pending()))
    with closing(read_ahead(reader, locations, 2 * size, processes)) as reads:
        if first is not None:
            first = replace(first, reads={index: remarked(index, image) for index, image in first.reads.items()})
        computed = computed_batches(
            map(remarked, indices, reads),
            computer,
            batches,
            bool(run.manifest.dumps),
            run.is_pending,
            first,
            partial(_check_unchanged, run),
        )
        if not run.manifest.dumps:  # nothing to write, and nothing to wait for
            yield from map(partial(_written, run), computed)
            return
        with ThreadPoolExecutor(THREADS) as writers:
            yield from mapped(writers, partial(_written, run), computed, size)


def computed_batches(
    reads: Iterator[Read | UnreadableSampleError],
    computer: Computer,
    batches: Iterable[range],
    gradients: bool,
    is_pending: Callable[[int], bool] = lambda _index: True,
    first: Batch | None = None,
    unchanged: Callable[[int, Read | UnreadableSampleError], None] = lambda _index, _image: None,
) -> Iterator[Measured | Failed]:
    """Compute batch by batch; an image that could not be read leaves its place in the batch empty.

    Those that are not pending are read for their places in a batch alone, and shown to `unchanged`.
    """
    under_way: deque[tuple[int, dict[int, Read], Computed]] = deque()
    for batch in batches:
        ready = first if first is not None and first.start == batch.start else None
        pixels = computer.blank()
        known: dict[int, Read] = {}
        failed: list[Failed] = []
        read = zip(batch, islice(reads, len(batch)), strict=True) if ready is None else ready.reads.items()
        for index, image in read:
            if not is_pending(index):
                unchanged(index, image)
            if isinstance(image, UnreadableSampleError):
                failed += [Failed(index, str(image))] if is_pending(index) else []
            else:
                known[index] = image
                pixels[index - batch.start] = torch.from_numpy(image.pixels)
        if known:
            computed = computer(pixels, gradients) if ready is None else ready.computed
            if not gradients:
                computed = replace(computed, gradients={})
            under_way.append((batch.start, known, computed))
        while len(under_way) > (computer.in_flight if known else 0):
            yield from _arrived(*under_way.popleft(), is_pending)
        yield from failed
    while under_way:
        yield from _arrived(*under_way.popleft(), is_pending)


def _remark(remarks: Remarks, location: str, image: Read | UnreadableSampleError) -> None:
    """Count what is to be said of an image that could be decoded, whether it could be aligned or not."""
    if isinstance(image, Read):
        remarks.add(location, image.remark, has_face=image.face is not None)
    elif isinstance(image, UnalignedError):
        remarks.add(location, image.remark)


def _check_unchanged(run: RunFolder, index: int, image: Read | UnreadableSampleError) -> None:
    """Raise ChangedImageError if an image is no longer the one that was scored before."""
    if isinstance(image, UnreadableSampleError) or image.sha256 != run.image_sha256(index):
        raise ChangedImageError(shown(run.manifest.subset.samples[index].location))


def _arrived(
    start: int, known: dict[int, Read], computed: Computed, is_pending: Callable[[int], bool]
) -> Iterator[Measured]:
    """The pending images of a batch that was computed."""
    computed.wait()
    scores = computed.scores.tolist()
    for index, read in known.items():
        if is_pending(index):
            place = index - start
            own = {layer: gradient[place].numpy() for layer, gradient in computed.gradients.items()}
            embedding = None if computed.embeddings is None else computed.embeddings[place].numpy()
            yield Measured(index, read, own, scores[place], embedding)


def _written(run: RunFolder, image: Measured | Failed) -> Outcome:
    """Write the gradient files of one image; may run on any thread."""
    if isinstance(image, Failed):
        return image
    if why := image.flaw(run.manifest.layers):
        return Failed(image.index, why)
    dumped: dict[str, NDArray[Any]] = image.gradients
    if run.manifest.dtype != "float32":
        with np.errstate(over="ignore"):
            dumped = {layer: gradient.astype(run.manifest.dtype) for layer, gradient in dumped.items()}
        for layer, gradient in dumped.items():
            if not np.isfinite(gradient).all():
                return Failed(image.index, f"its gradient at {layer} is too large for {run.manifest.dtype}")
    try:
        run.hold(image.index)
        checksums = run.store.write(image.index, dumped)
    except OSError as error:
        if error.errno in inside.NAME_ERRORS:
            return Failed(image.index, f"its gradient cannot be written: {error.strerror}")
        raise
    return Scored(
        image.index,
        image.read.sha256,
        image.scores,
        checksums,
        [] if image.read.face is None else image.read.face.row(),
        "" if image.embedding is None else base64.b64encode(image.embedding.astype("<f4").tobytes()).decode(),
    )
