"""What libtiff says of a picture while Pillow decodes with it: heard here, and kept from the terminal.

Where data are damaged, libtiff writes so to standard error and decodes on if it can, and Pillow takes what came out.
It has one handler of errors for the whole process: ours hears those of a thread that listens, and leaves all others to
the handler that was there before.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from PIL import _imaging

_OF_TAGS = ("TIFFFetchNormalTag", "TIFFSetField", "_TIFFVSetField")
"""The functions of libtiff that complain of a tag, and do without it: that does not spoil the picture."""

_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
"""A handler is given the name of the function, a text, and the values that belong into the text."""


class _Listening(threading.local):
    found: list[str] | None = None
    """The first function that met with damage, or none yet; None while the thread does not listen."""


_this_thread = _Listening()

_before: list[Any] = []
"""The handler that was there before ours."""


@contextmanager
def damage() -> Iterator[list[str]]:
    """The first function of libtiff that meets with damage inside the block, on this thread, or none."""
    _listen()
    _this_thread.found = found = list[str]()
    try:
        yield found
    finally:
        _this_thread.found = None


def _hear(function: bytes | None, text: bytes, values: int) -> None:
    """Our handler."""
    if _this_thread.found is None:
        for handler in _before:
            handler(function, text, values)
    elif (name := (function or b"libtiff").decode("ascii", "replace")) not in _OF_TAGS and not _this_thread.found:
        _this_thread.found.append(name)


_ours = _Handler(_hear)


@cache
def _listen() -> None:
    """Put our handler in the place of the one that is there: once, if Pillow's libtiff can be reached at all."""
    with suppress(AttributeError, OSError):
        # A library's symbols are looked for in those that it was linked with, too.
        replace = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        replace.argtypes, replace.restype = [_Handler], ctypes.c_void_p
        before = replace(_ours)
        if before not in (None, ctypes.cast(_ours, ctypes.c_void_p).value):  # ours, when two threads come at once
            _before.append(_Handler(before))
