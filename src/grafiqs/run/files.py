"""Whole files or none: everything in a run folder is written under `.part` and then renamed."""

from __future__ import annotations

import errno
import hashlib
import io
import math
import os
import stat
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


def npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """What stands before the data in the .npy file of such an array, little-endian and C-ordered."""
    file = io.BytesIO()
    description = {"descr": np.dtype(dtype).newbyteorder("<").str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)
    return file.getvalue()


def npy(array: NDArray[Any]) -> bytes:
    """The bytes of `array` as a .npy file."""
    return npy_header(array.shape, array.dtype.name) + array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def npy_size(shape: tuple[int, ...], dtype: str) -> int:
    """The size in bytes of the .npy file of such an array."""
    return len(npy_header(shape, dtype)) + math.prod(shape) * np.dtype(dtype).itemsize


def from_npy(data: bytes, shape: tuple[int, ...], dtype: str) -> NDArray[Any] | None:
    """The array that a .npy file of this shape and type holds; None when the bytes are no such file."""
    header = npy_header(shape, dtype)
    if len(data) != npy_size(shape, dtype) or not data.startswith(header):
        return None
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"), offset=len(header)).reshape(shape)


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises OSError, also for what is no regular file and might never end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
