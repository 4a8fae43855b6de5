"""Whole files or none: everything in a run folder is written under `.part` and then renamed."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

PART = ".part"


@contextmanager
def whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which appears under its name only when the block ends well."""
    part = path.with_name(path.name + PART)
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def npy(array: NDArray[Any]) -> memoryview:
    """The bytes of `array` as a .npy file, little-endian and C-ordered."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")))
    return buffer.getbuffer()


def npy_size(shape: tuple[int, ...], dtype: str) -> int:
    """The size in bytes of the .npy file of such an array."""
    return npy(np.empty((0, *shape[1:]), dtype)).nbytes + int(np.prod(shape)) * np.dtype(dtype).itemsize


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
