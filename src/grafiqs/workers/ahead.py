"""Work done ahead of its turn, on threads or processes, with its results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor
from itertools import islice
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def mapped(pool: Executor, work: Callable[[A], B], items: Iterable[A], ahead: int) -> Generator[B]:
    """`map(work, items)` in `pool`, in order, with at most `ahead` items begun early."""
    items = iter(items)
    begun = deque(pool.submit(work, item) for item in islice(items, ahead))
    while begun:
        yield begun.popleft().result()
        begun.extend(pool.submit(work, item) for item in islice(items, 1))
