"""Arrays as .npy files: the ones that a run writes, byte for byte, and whatever others there are, without trust."""

from __future__ import annotations

import io
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.errors import UnreadableSampleError


@lru_cache(64)
def header(shape: tuple[int, ...], dtype: str) -> bytes:
    """What stands before the data in the .npy file of such an array, little-endian and C-ordered."""
    file = io.BytesIO()
    description = {"descr": np.dtype(dtype).newbyteorder("<").str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, description)
    return file.getvalue()


def pieces(array: NDArray[Any]) -> tuple[bytes, memoryview]:
    """`array` as a .npy file: what stands before its data, and the data, uncopied if they lie in order."""
    ordered = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return header(array.shape, array.dtype.name), ordered.reshape(-1).view(np.uint8).data


def size(shape: tuple[int, ...], dtype: str) -> int:
    """The size in bytes of the .npy file of such an array."""
    return len(header(shape, dtype)) + math.prod(shape) * np.dtype(dtype).itemsize


def decoded_as(data: bytes, shape: tuple[int, ...], dtype: str) -> NDArray[Any] | None:
    """The array that a .npy file of this shape and type holds; None when the bytes are not such a file."""
    start = header(shape, dtype)
    if len(data) != size(shape, dtype) or not data.startswith(start):
        return None
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"), offset=len(start)).reshape(shape)


def mapped(path: Path, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """The array of a .npy file of this shape and type, memory-mapped and read-only.

    Raises UnreadableSampleError when the file cannot be opened, or holds anything else.
    """
    start = header(shape, dtype)
    try:
        if path.stat().st_size == size(shape, dtype):  # as no pipe has, which could not be opened without waiting
            with path.open("rb") as file:
                if file.read(len(start)) == start:
                    return np.memmap(file, np.dtype(dtype).newbyteorder("<"), "r", len(start), shape)
    except OSError as error:
        raise UnreadableSampleError(f"cannot be opened: {error.strerror}") from error
    raise UnreadableSampleError(f"not a .npy file of {dtype} {shape}")


def decoded(data: bytes) -> NDArray[Any]:
    """The numbers in the bytes of any .npy file, read-only.

    Nothing is executed, and no more memory taken than the file has bytes.
    Raises UnreadableSampleError for anything but a whole array of numbers.
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.kind not in "biuf":
            raise UnreadableSampleError(f"an array of {dtype}, not of numbers")
        if len(data) - file.tell() != math.prod(shape) * dtype.itemsize:
            raise UnreadableSampleError(f"its data do not fill {dtype} {shape}")
        return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if fortran else "C")
    except UnreadableSampleError:
        raise
    except Exception as error:  # hostile data make the reader fail in every way there is
        raise UnreadableSampleError("not a .npy file") from error
