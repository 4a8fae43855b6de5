"""Samples as the network's pixels, read ahead of their turn: on threads, or on processes where they cannot keep up."""

from __future__ import annotations

import hashlib
import mmap
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from grafiqs import images, processors
from grafiqs.ahead import mapped
from grafiqs.backbones.catalogue import USUAL
from grafiqs.errors import StoppedError, UnreadableSampleError
from grafiqs.formats.dataset import Readable

if TYPE_CHECKING:
    from grafiqs.alignment import Face, Faces

T = TypeVar("T")

_CHUNK = 32
"""Samples that a process reads in one go."""

THREADS = min(16, max(2, processors.usable() // 2))
"""Threads that read, and that write, beside the computation."""


@dataclass(frozen=True)
class Read:
    """A sample that was read: RGB pixels (3, height, width), SHA-256 of the encoded bytes, the face it was cut by.

    `size` is what the picture had, height and width.
    """

    pixels: NDArray[np.uint8]
    sha256: str
    size: tuple[int, int]
    face: Face | None = None


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
            data = self.dataset.read(location)
            picture = images.decode(data)
            height, width, _ = picture.shape
            face = None
            if self.faces is not None:
                from grafiqs.alignment import cut_out  # loads OpenCV, which others need not have

                face = self.faces.face(location, picture)
                picture = cut_out(picture, face, self.size)
            return Read(
                images.resized(picture, self.size).numpy(), hashlib.sha256(data).hexdigest(), (height, width), face
            )
        except UnreadableSampleError as error:
            return error

    def __reduce__(self) -> tuple[type[Reader], tuple[Readable, tuple[int, int], Faces | None]]:
        return Reader, (self.dataset.reading(), self.size, self.faces)


def processes_for(device: torch.device, count: int) -> int:
    """How many processes should read `count` samples for `device`; 0 where threads do.

    Python's threads decode 1,500 to 3,000 images a second, however many cores there are: enough for every CPU. A GPU
    takes more, and processes earn the seconds that they need to start after some thousand images.
    """
    cores = processors.usable()
    return min(16, cores - 2) if device.type == "cuda" and cores > 4 and count >= 5000 else 0


def read_ahead(
    reader: Reader, locations: Iterable[str], ahead: int, processes: int = 0
) -> Generator[Read | UnreadableSampleError]:
    """Read every sample, in order, at least `ahead` samples before their turn.

    Raises StoppedError when a reading process dies.
    """
    pool: Executor
    if processes:
        spawn = multiprocessing.get_context("spawn")  # a copy of a process with threads and a GPU in it cannot work
        pool = _Processes(processes, spawn, initializer=_start, initargs=(_shared(reader),))
        work, size, ahead = _read_here, _CHUNK, ahead // _CHUNK + 2 * processes
    else:
        pool, size = ThreadPoolExecutor(THREADS), 1

        def work(locations: list[str]) -> list[Read | UnreadableSampleError]:
            return [reader(location) for location in locations]

    try:
        for chunk in mapped(pool, work, _chunks(locations, size), ahead):
            yield from chunk
    except BrokenProcessPool as error:
        raise StoppedError(
            "a process that reads images has died. Where grafiqs is called from a script, the call must stand under "
            'if __name__ == "__main__"; the same command goes on from there'
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # what was to be read ahead is no longer wanted


class _Processes(ProcessPoolExecutor):
    """Processes that are deaf to Ctrl-C, which is for this one to hear, from their first moment on.

    They begin when work is given, deaf to what this process is deaf to then, and stay so.
    """

    def submit(self, work: Callable[..., T], /, *arguments: Any, **named: Any) -> Future[T]:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            return super().submit(work, *arguments, **named)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _shared(reader: Reader) -> Connection:
    """The reader, pickled, in a file without a name, which every process reads for itself.

    The pool itself would write it to one process after the other, and wait each time until that has imported PyTorch.
    Only connections can be given to a process that begins.
    """
    with os.fdopen(os.memfd_create("reader"), "wb") if hasattr(os, "memfd_create") else TemporaryFile() as file:
        pickle.dump(reader, file)
        file.flush()
        return Connection(os.dup(file.fileno()), writable=False)


def _chunks(locations: Iterable[str], size: int) -> Iterator[list[str]]:
    locations = iter(locations)
    while chunk := list(islice(locations, size)):
        yield chunk


# -- in a reading process ----------------------------------------------------------------------------------

_here: list[Reader] = []
"""The reader of this process."""


def _start(shared: Connection) -> None:
    """Make this process read: quietly, on one core, and no longer than the process that began it lives."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    with mmap.mmap(shared.fileno(), 0, access=mmap.ACCESS_READ) as pickled:  # all processes have one place in the file
        reader: Reader = pickle.loads(pickled)  # noqa: S301 - by the process that began this one
    if reader.faces is not None:
        import cv2

        cv2.setNumThreads(1)
    _here[:] = [reader]


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _read_here(locations: list[str]) -> list[Read | UnreadableSampleError]:
    return [_here[0](location) for location in locations]
