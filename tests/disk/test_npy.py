"""Reading .npy files: every array of numbers, and nothing else."""

from __future__ import annotations

import io
import pickle
import random
import re
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from grafiqs.disk import npy
from grafiqs.errors import UnreadableSampleError

NUMBERS = [
    *(order + kind for order in "<>" for kind in ("i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8")),
    *("|b1", "|i1", "|u1", np.dtype("longdouble").str),
]


def saved(array: NDArray[Any], version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


def made(header: str, data: bytes = b"") -> bytes:
    """A .npy file of any header."""
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + data


def of_shape(shape: object, data: bytes = b"") -> bytes:
    return made(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n", data)


class Trap:
    """What does harm when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_type_of_number_is_read_in_every_layout(dtype: str, order: Any, version: tuple[int, int]) -> None:
    for shape in [(2, 3, 5), (4,), (), (0, 3)]:
        array = np.random.default_rng(0).uniform(0, 99, shape).astype(dtype).copy(order)
        read = npy.decoded(saved(array, version))
        assert (read.dtype, read.shape) == (array.dtype, array.shape)
        assert np.array_equal(read, array)
        assert not read.flags.writeable


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_a_run_writes_is_what_numpy_writes(dtype: str) -> None:
    array = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(dtype)
    assert b"".join(npy.pieces(array)) == saved(array)
    assert npy.size(array.shape, dtype) == len(saved(array))


@pytest.mark.parametrize(
    "dtype", ["<c8", "S4", "<U4", "<M8[s]", "<m8[s]", "V4", [("x", "<f4")], [("x", "<f4", (2,))], "O"]
)
def test_other_arrays_than_of_numbers_are_refused(dtype: Any) -> None:
    with pytest.raises(UnreadableSampleError, match="not of numbers"):
        npy.decoded(saved(np.zeros(3, dtype)))


def test_nothing_is_executed(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "sprung")
    header = f"{{'descr': open({str(trap.path)!r}, 'w'), 'fortran_order': False, 'shape': ()}}"
    for data in [saved(np.array([trap], object)), pickle.dumps(trap), pickle.dumps(np.zeros(3)), made(header)]:
        with pytest.raises(UnreadableSampleError):
            npy.decoded(data)
    assert not trap.path.exists()


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\x93NUMPY", b"PK\3\4", b"\x93NUMPY\2\0\xff\xff\xff\xff{}"),
        of_shape((2**40, 2**40), bytes(24)),
        of_shape((-2, -3), bytes(24)),
        of_shape((-1,), bytes(24)),
        of_shape((-1, -6), bytes(24)),
        of_shape((True, 6), bytes(24)),
        of_shape((6.0,), bytes(24)),
        of_shape((7,), bytes(24)),
        of_shape((5,), bytes(24)),
        of_shape((1,) * 65, bytes(4)),
        of_shape((0, -1)),
        of_shape((0, 2**62)),
        of_shape((0, 2**70)),
        of_shape(f"(0x{'f' * 5000},)"),
        of_shape("(" * 5000),
        made("-" * 9000 + "1"),
        made("[" * 900 + "]" * 900),
    ],
)
def test_what_is_no_whole_array_is_refused(data: bytes) -> None:
    with pytest.raises(UnreadableSampleError):
        npy.decoded(data)


def test_no_more_memory_is_taken_than_the_file_has() -> None:
    tracemalloc.start()
    for data in [of_shape((2**33,)), b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1), of_shape((2**40, 2**40))]:
        with pytest.raises(UnreadableSampleError):
            npy.decoded(data)
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 2**20


def test_every_truncation_is_refused() -> None:
    data = saved(np.arange(6, dtype=np.float32))
    for size in range(len(data)):
        with pytest.raises(UnreadableSampleError):
            npy.decoded(data[:size])


@pytest.mark.filterwarnings("ignore")  # NumPy, about what it finds in the header
def test_whatever_the_bytes_nothing_else_is_raised() -> None:
    chance = random.Random(0)
    whole = saved(np.arange(6, dtype=np.float32).reshape(2, 3))
    refused = 0
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(80)] = chance.choice(b"\0\xff-,()0123456789LbeOV'{}<>|" + chance.randbytes(4))
        try:
            npy.decoded(bytes(data))
        except UnreadableSampleError:
            refused += 1
    assert 1000 < refused < 3000


def test_the_reason_is_one_line() -> None:
    for data in [b"", saved(np.array(["x"], object)), of_shape((2, 3)), of_shape((0, 2**70))]:
        with pytest.raises(UnreadableSampleError) as refusal:
            npy.decoded(data)
        assert re.fullmatch(r"[^\n]+", str(refusal.value))
