"""Processes that work beside this one, each with its own copy of one value."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing.connection import Connection
from tempfile import TemporaryFile
from typing import Any, Generic, TypeVar

from grafiqs.workers.ahead import mapped

A = TypeVar("A")
B = TypeVar("B")
V = TypeVar("V")


class Processes(ProcessPoolExecutor, Generic[V]):
    """At most `count` processes, begun as there is work; `begin` is called in each with its copy of `value`, once.

    They are deaf to Ctrl-C, which this process hears for them, and end with it, however it ends. Leaving the block
    tells them to stop, drops the work that has not begun, and waits until they have ended. A script uses them under
    `if __name__ == "__main__"`. What is asked of a process that has died raises BrokenProcessPool.
    """

    def __init__(self, count: int, value: V, begin: Callable[[V], object]) -> None:
        context = multiprocessing.get_context("spawn")  # a copy of a process with threads or a GPU in it may hang
        stop, self._stop = context.Pipe(duplex=False)
        super().__init__(count, context, _begin, (stop, _shared((begin, value))))

    def mapped(self, work: Callable[[V, A], B], items: Iterable[A], ahead: int) -> Generator[B]:
        """`work(value, item)` for all items, in order, with at most `ahead` items begun early."""
        return mapped(self, partial(_worked, work), items, ahead)

    def submit(self, work: Callable[..., B], /, *arguments: Any, **named: Any) -> Future[B]:
        """Begin a process, if that is needed, which blocks for good the signals that this thread blocks then."""
        found = signal.pthread_sigmask(signal.SIG_BLOCK, ())  # by itself: what blocks a signal may raise one, too
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            return super().submit(work, *arguments, **named)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, found)

    def __exit__(self, *_: object) -> None:
        self._stop.send_bytes(b"stop")  # nobody takes it out: all see it, and no lock is held that a kill could leave
        self.shutdown(cancel_futures=True)


def _shared(value: object) -> Connection:
    """A value, pickled, in a file without a name, which every process reads for itself.

    The pool itself would write it to one process after the other, and wait each time until that has imported what it
    is made of. Only connections can be given to a process that begins.
    """
    with os.fdopen(os.memfd_create("value"), "wb") if hasattr(os, "memfd_create") else TemporaryFile() as file:
        pickle.dump(value, file)
        file.flush()
        return Connection(os.dup(file.fileno()), writable=False)


# -- in such a process -------------------------------------------------------------------------------------

_value: Any = None
"""The copy of this process."""

_told: Connection | None = None
"""Where this process is told to stop."""


def stopping() -> bool:
    """Whether this is a process whose work nobody waits for any more: it should end what it is at."""
    return _told is not None and _told.poll()


def _begin(told: Connection, shared: Connection) -> None:
    global _value, _told
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with mmap.mmap(shared.fileno(), 0, access=mmap.ACCESS_READ) as pickled:  # all processes have one place in the file
        begin, _value = pickle.loads(pickled)  # noqa: S301 - by the process that began this one
    begin(_value)
    _told = told


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _worked(work: Callable[[V, A], B], item: A) -> B:
    return work(_value, item)
