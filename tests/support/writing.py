"""Writers of the forms that data sets come in, from the definitions of those forms; and what damages them."""

from __future__ import annotations

import io
import pickle
import random
import resource
import struct
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from grafiqs.datasets.scan import scan
from grafiqs.errors import RequestError, UnreadableSampleError

MAGIC = struct.pack("<I", 0xCED7230A)

# -- RecordIO ----------------------------------------------------------------------------------------------


def part(kind: int, data: bytes) -> bytes:
    return MAGIC + struct.pack("<I", kind << 29 | len(data)) + data + bytes(-len(data) % 4)


def record(data: bytes) -> bytes:
    """A record as dmlc writes it: split at each magic that begins at a multiple of 4, without that magic."""
    cuts = [place for place in range(0, len(data) // 4 * 4, 4) if data[place : place + 4] == MAGIC]
    starts, ends = [0, *(cut + 4 for cut in cuts)], [*cuts, len(data)]
    pieces = [data[start:end] for start, end in zip(starts, ends, strict=True)]
    kinds = [1, *[2] * (len(cuts) - 1), 3] if cuts else [0]
    return b"".join(map(part, kinds, pieces))


def packed(label: float | Sequence[float], image: bytes = b"", key: int = 0) -> bytes:
    """The data of a record as MXNet packs them: one label lies in the header, several behind it."""
    if isinstance(label, int | float):
        return struct.pack("<IfQQ", 0, label, key, 0) + image
    return struct.pack(f"<IfQQ{len(label)}f", len(label), 0, key, 0, *label) + image


def write_records(rec: Path, records: Iterable[tuple[int, bytes]]) -> Path:
    """A .rec file and its .idx from the key and the data of each record, in this order."""
    lines = []
    with rec.open("wb") as file:
        for key, data in records:
            lines.append(f"{key}\t{file.tell()}\n")
            file.write(record(data))
    rec.with_suffix(".idx").write_text("".join(lines))
    return rec


def write_training_set(rec: Path, images: Mapping[int, Sequence[bytes]]) -> Path:
    """insightface's training set: record 0, then all images by identity, then the range of each identity."""
    data: list[bytes] = []
    ranges = []
    for label, own in images.items():
        ranges.append((len(data) + 1, len(data) + 1 + len(own)))
        data += [packed(label, image, len(data) + 1 + number) for number, image in enumerate(own)]
    top = packed((len(data) + 1, len(data) + 1 + len(ranges)))
    return write_records(rec, enumerate([top, *data, *map(packed, ranges)]))


# -- pickles -----------------------------------------------------------------------------------------------


def python3(value: object, protocol: int, core: str = "numpy._core") -> bytes:
    """Python's own pickle, in which NumPy's inner modules have the name of this NumPy or of one before 2.0."""
    which = pickle.whichmodule  # type: ignore[attr-defined]
    file = io.BytesIO()
    renamed = mock.patch("pickle.whichmodule", lambda *name: which(*name).replace("numpy._core", core))
    with renamed, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the old names
        pickle._Pickler(file, protocol).dump(value)
    return file.getvalue()


@dataclass(frozen=True)
class Global:
    """Something that a pickle names."""

    module: str
    name: str


@dataclass(frozen=True)
class Made:
    """Something that a pickle makes by a call."""

    by: Global
    arguments: tuple[object, ...]
    state: tuple[object, ...] | None = None


def python2(value: object, protocol: int) -> bytes:
    """The pickle that Python 2 writes, whose text is bytes and whose NumPy is old."""
    count = iter(range(1_000_000))

    def memoised(data: bytes) -> bytes:
        number = next(count)
        if protocol == 0:
            return data + b"p%d\n" % number
        return data + (b"q%c" % number if number < 256 else b"r" + struct.pack("<I", number))

    def written(value: Any) -> bytes:
        match value:
            case None:
                return b"N"
            case bool():
                return (b"\x89", b"\x88")[value] if protocol == 2 else (b"I00\n", b"I01\n")[value]
            case int() if protocol == 0 or not -(2**31) <= value < 2**31:
                return b"I%d\n" % value
            case int():
                return b"K%c" % value if 0 <= value < 256 else b"J" + struct.pack("<i", value)
            case float():
                return b"F%r\n" % value if protocol == 0 else b"G" + struct.pack(">d", value)
            case str():
                text = (
                    value.encode("raw-unicode-escape").replace(b"\n", b"\\u000a") if protocol == 0 else value.encode()
                )
                return memoised(b"V" + text + b"\n" if protocol == 0 else b"X" + struct.pack("<i", len(text)) + text)
            case bytearray():
                return written(Made(Global("__builtin__", "bytearray"), (value.decode("latin-1"), b"latin-1")))
            case bytes() if protocol == 0:
                return memoised(b"S" + repr(value)[1:].encode() + b"\n")
            case bytes():
                short = len(value) < 256
                return memoised((b"U%c" % len(value) if short else b"T" + struct.pack("<i", len(value))) + value)
            case list() if protocol == 0:
                return memoised(b"(l") + b"".join(written(item) + b"a" for item in value)
            case list():
                return memoised(b"]") + b"(" + b"".join(map(written, value)) + b"e"
            case tuple() if protocol == 2 and 1 <= len(value) <= 3:
                return memoised(b"".join(map(written, value)) + b"\x84\x85\x86\x87"[len(value) :][:1])
            case tuple():
                return memoised(b"(" + b"".join(map(written, value)) + b"t")
            case Global():
                return memoised(f"c{value.module}\n{value.name}\n".encode())
            case Made():
                made = memoised(written(value.by) + written(value.arguments) + b"R")
                return made if value.state is None else made + written(value.state) + b"b"
            case np.ndarray():
                empty = Made(Global("numpy.core.multiarray", "_reconstruct"), (Global("numpy", "ndarray"), (0,), b"b"))
                return written(Made(empty.by, empty.arguments, (1, value.shape, value.dtype, False, value.tobytes())))
            case np.dtype():
                state = (3, value.byteorder.encode(), None, None, None, -1, -1, 0)
                return written(Made(Global("numpy", "dtype"), (value.str[1:].encode(), 0, 1), state))
            case np.generic():
                return written(Made(Global("numpy.core.multiarray", "scalar"), (value.dtype, value.tobytes())))
        raise TypeError(type(value))

    return (b"\x80\x02" if protocol == 2 else b"") + written(value) + b"."


# -- damage ------------------------------------------------------------------------------------------------

_SIZES = (0, 1, 2**16, 2**30, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)


def damaged(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """The data in so many broken states, the same for the same seed."""
    dice = random.Random(seed)
    for _ in range(count):
        broken = bytearray(data)
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            place, size = dice.randrange(len(broken) + 1), dice.choice((1, 1, 2, 4, 8, 50))
            number = dice.choice(_SIZES)
            match dice.randrange(7):
                case 0 if place < len(broken):
                    broken[place] ^= 1 << dice.randrange(8)
                case 1:
                    broken[place : place + size] = dice.randbytes(size)
                case 2:
                    broken[place:place] = dice.randbytes(size)
                case 3:
                    del broken[place : place + size]
                case 4:
                    broken[place : place + 4] = struct.pack(dice.choice("<>") + "I", number % 2**32)
                case 5:
                    broken[place : place + 8] = struct.pack(dice.choice("<>") + "Q", number)
                case 6:
                    start = dice.randrange(len(broken) + 1)
                    broken[place : place + size] = broken[start : start + size]
        yield bytes(broken)


def truncated(data: bytes, step: int = 1) -> Iterator[bytes]:
    """The data without their last bytes: one step, two steps, ..."""
    return (data[:end] for end in range(len(data) - step, -1, -step))


def contents(place: Path) -> dict[str, bytes | str] | str:
    """What a data set holds: bytes, or why not. Anything but clear errors and little memory is a failure."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    found: dict[str, bytes | str] | str
    try:
        dataset = scan(place)
        found = {}
        for identity in dataset.identities:
            for sample in dataset.samples(identity):
                location = dataset.location(identity, sample)
                try:
                    found[location] = dataset.read(location)
                except UnreadableSampleError as error:
                    found[location] = str(error)
    except RequestError as error:
        found = str(error)
    if isinstance(found, str):
        assert place.name in found
        assert found.isprintable()
    else:
        assert all(reason.isprintable() for reason in found.values() if isinstance(reason, str))
    _, peak = tracemalloc.get_traced_memory()
    assert peak - before < 1_000_000 + 20 * place.stat().st_size, f"{peak - before} bytes of memory"
    return found


def in_a_process(function: str, folder: Path, timeout: float = 60) -> None:
    """Call `module.function(folder)`, of the tests of data sets, in a process that measures memory and has little."""
    module, _, name = function.rpartition(".")
    tests = Path(__file__).parents[1]
    code = (
        f"import sys; sys.path[:0] = [{str(tests)!r}, {str(tests / 'datasets')!r}]; import {module}\n"
        f"from support import writing; writing.confine(); {module}.{name}(writing.Path({str(folder)!r}))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, timeout=timeout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5000:]


def confine() -> None:
    """Measure memory, and leave this process 4 GB of it."""
    resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2)
    tracemalloc.start()
