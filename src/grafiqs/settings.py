"""Settings of libraries, changed for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Value = TypeVar("Value")


@contextmanager
def held(tell: Callable[[], Value], put: Callable[[Value], object], value: Value) -> Iterator[None]:
    """Inside the block, a setting has this value; after it, the one that it had before."""
    before = tell()
    put(value)
    try:
        yield
    finally:
        put(before)
