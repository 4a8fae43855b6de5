"""Samples as the network's pixels, read ahead of their turn: on threads, or on processes if threads cannot keep up."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from grafiqs.datasets.dataset import Readable
from grafiqs.errors import StoppedError, UnreadableSampleError
from grafiqs.faces.face import Face, Faces
from grafiqs.images.decoding import Picture, picture
from grafiqs.images.preprocessing import USUAL
from grafiqs.images.remarks import Remark, remark_on, unaligned
from grafiqs.images.tensors import resized
from grafiqs.workers import processors
from grafiqs.workers.ahead import mapped
from grafiqs.workers.processes import Processes, stopping

_CHUNK = 32
"""Samples that a process reads in one go."""

THREADS = min(16, max(2, processors.usable() // 2))
"""Threads that read, and that write, beside the computation."""


@dataclass(frozen=True)
class Read:
    """A sample that was read: RGB pixels (3, height, width), SHA-256 of the encoded bytes, the face it was cut by.

    `size` is what the picture had, height and width, and `remark` what is to be said of it.
    """

    pixels: NDArray[np.uint8]
    sha256: str
    size: tuple[int, int]
    remark: Remark
    face: Face | None = None


class Source(Protocol):
    """What images come from, by their locations: threads may ask at once."""

    @property
    def faces(self) -> Faces | None:
        """What finds the faces that pictures are cut to, if any does."""

    def __call__(self, location: str) -> Read | UnreadableSampleError:
        """One image; or why it cannot be read."""


@dataclass(frozen=True)
class Reader:
    """From a sample of a data set to the pixels that a network of this input size is given.

    With `faces`, every picture is cut to the aligned crop of its face; without, it is resized as it is.
    """

    dataset: Readable
    size: tuple[int, int] = USUAL.size
    faces: Faces | None = None

    def __call__(self, location: str) -> Read | UnreadableSampleError:
        """Read and decode one sample; or say why that cannot be."""
        try:
            return read(self.dataset.read(location), self.size, self.faces, location)
        except UnreadableSampleError as error:
            return error

    def failure(self, location: str) -> str | None:
        """Why a sample cannot be read, or None."""
        read = self(location)
        return str(read) if isinstance(read, UnreadableSampleError) else None

    def __reduce__(self) -> tuple[type[Reader], tuple[Readable, tuple[int, int], Faces | None]]:
        return Reader, (self.dataset.reading(), self.size, self.faces)


def read(data: bytes, size: tuple[int, int], faces: Faces | None, location: str) -> Read:
    """An encoded image as a network of this input size is given it. Raises UnreadableSampleError when it cannot be."""
    return seen(picture(data), hashlib.sha256(data).hexdigest(), size, faces, location)


def seen(whole: Picture, sha256: str, size: tuple[int, int], faces: Faces | None, location: str) -> Read:
    """A picture as a network of this input size is given it: cut to its face by `faces`, and resized.

    Raises UnreadableSampleError when there is no face.
    """
    pixels, face = whole.pixels, None
    height, width, _ = pixels.shape
    if faces is not None:
        from grafiqs.faces.cut import cut_out  # loads OpenCV, which others need not have

        with unaligned(whole):
            face = faces.face(location, pixels)
            pixels = cut_out(pixels, face, size)
    return Read(resized(pixels, size).numpy(), sha256, (height, width), remark_on(whole, face), face)


def processes_for(device: torch.device, count: int) -> int:
    """How many processes should read `count` samples for `device`; 0 if threads do.

    Python's threads decode 1,500 to 3,000 images a second, however many cores there are: enough for every CPU. A GPU
    takes more, and processes earn the seconds that they need to start after some thousand images.
    """
    cores = processors.usable()
    return min(16, cores - 2) if device.type == "cuda" and cores > 4 and count >= 5000 else 0


def read_ahead(
    reader: Source, locations: Iterable[str], ahead: int, processes: int = 0
) -> Generator[Read | UnreadableSampleError]:
    """Read every sample, in order, about `ahead` samples before their turn.

    Raises StoppedError when a reading process dies.
    """
    if not processes:
        threads = ThreadPoolExecutor(THREADS)
        try:
            yield from mapped(threads, reader, locations, ahead)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)  # what was to be read ahead is no longer wanted
        return
    try:
        with Processes(processes, reader, _alone) as pool:
            for chunk in pool.mapped(_read, _chunks(locations), ahead // _CHUNK + 2 * processes):
                yield from chunk
    except BrokenProcessPool as error:
        raise StoppedError(
            "a process that reads images has died. If grafiqs is called from a script, the call must stand under "
            'if __name__ == "__main__"; the same command resumes'
        ) from error


def _chunks(locations: Iterable[str]) -> Iterator[list[str]]:
    locations = iter(locations)
    while chunk := list(islice(locations, _CHUNK)):
        yield chunk


def _alone(reader: Source) -> None:
    """Read on one core: there is a process for each."""
    torch.set_num_threads(1)
    if reader.faces is not None:
        import cv2

        cv2.setNumThreads(1)


def _read(reader: Source, locations: list[str]) -> list[Read | UnreadableSampleError]:
    return [reader(location) for location in locations if not stopping()]
