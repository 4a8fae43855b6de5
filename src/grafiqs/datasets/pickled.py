"""Pickles of lists, bytes, text, numbers and plain arrays, read without looking up or calling a name in them.

They are read by Python's own unpickler, the one written in Python (the one in C can be made to take far more
memory than the file has bytes), cut down to that; arrays are rebuilt here without NumPy. A pickle can use what it holds
many times over, so that no step may copy it, or look at more than its first level, as dicts and sets do.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

_CODES = {
    "b1": "?",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
    "f2": "e",
    "f4": "f",
    "f8": "d",
}
"""The NumPy types that are read, and what `struct` calls them."""

_STEPS, _STEPS_PER_BYTE = 100_000, 1 / 16
"""How many steps a pickle may take: a step of one byte can put a list of 65 into memory. A set takes a few an image."""

_MAX_ARGUMENTS = 4
_MAX_DIMENSIONS = 32


def load(data: bytes) -> Any:
    """What a pickle holds, with its arrays as Array.

    Raises RefusedError for a name that it may not hold, and any other error for whatever else is wrong.
    """
    return _Unpickler(data).load()


class RefusedError(pickle.UnpicklingError):
    """The pickle names something that it may not; the message is that name."""


class _Type:
    """A NumPy type of numbers or truth values."""

    __slots__ = ("code", "size")

    def __init__(self, name: object, *_: object) -> None:
        text = _text(name)
        if text not in _CODES:
            raise pickle.UnpicklingError(f"an array of type {text!r}")
        self.code = _CODES[text]
        self.size = int(text[1])

    def __setstate__(self, state: Sequence[Any]) -> None:
        if _text(state[1]) not in ("|", "<", "="):
            raise pickle.UnpicklingError("an array of big-endian numbers")


class Array:
    """A plain NumPy array: type, shape and bytes."""

    __slots__ = ("data", "dtype", "shape")

    def __init__(self, data: object, dtype: object, shape: object, _order: object = "C") -> None:
        if not isinstance(data, bytes) or not isinstance(dtype, _Type):
            raise pickle.UnpicklingError("an array without bytes or a type")
        if not isinstance(shape, tuple) or len(shape) > _MAX_DIMENSIONS:
            raise pickle.UnpicklingError("an array without a shape")
        most = max(1, len(data))
        if not all(type(n) is int and 0 <= n <= most for n in shape) or len(data) != math.prod(shape) * dtype.size:
            raise pickle.UnpicklingError("an array whose bytes do not fill its shape")
        self.data, self.dtype, self.shape = data, dtype, shape

    def __setstate__(self, state: Sequence[Any]) -> None:
        _, shape, dtype, _, data = state
        self.__init__(data, dtype, shape)  # type: ignore[misc]

    def values(self) -> tuple[int | float, ...]:
        """Its numbers."""
        return struct.unpack(f"<{len(self.data) // self.dtype.size}{self.dtype.code}", self.data)

    def row_of_bytes(self) -> bytes | None:
        """Its bytes, if they are one row or one column, as older OpenCV's encoder makes: in any order the same."""
        is_row = len(self.shape) > 0 and sum(length != 1 for length in self.shape) <= 1
        return self.data if is_row and self.dtype.code in "Bb" else None


@dataclass(frozen=True)
class _Name:
    """One of the names that a pickle may call, and what is done instead."""

    make: Callable[..., Any]


def _text(value: object) -> str:
    """A short text, from Python 2 or 3."""
    if not isinstance(value, bytes | str) or len(value) > 8:
        raise pickle.UnpicklingError(f"a {type(value).__name__} instead of a short text")
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _latin(text: str | bytes = "", _encoding: object = None) -> bytes:
    """What Python 3 writes for bytes that Python 2 is to read, and for byte arrays."""
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _scalar(dtype: object, data: object) -> int | float:
    return Array(data, dtype, (1,)).values()[0]


_NAMES = {
    **{
        (f"numpy.{core}.{module}", name): _Name(make)
        for core in ("core", "_core")
        for module, name, make in (
            ("multiarray", "_reconstruct", lambda *_: Array(b"", _Type("u1"), (0,))),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", Array),
        )
    },
    ("numpy", "ndarray"): _Name(Array),
    ("numpy", "dtype"): _Name(_Type),
    ("_codecs", "encode"): _Name(_latin),
    **{(module, kind): _Name(_latin) for module in ("__builtin__", "builtins") for kind in ("bytes", "bytearray")},
}

_OPCODES = b"".join(
    (
        *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK),
        *(pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS),
        *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
        *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING),
        *(pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8),
        *(pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8),
        *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG, pickle.LONG1, pickle.LONG4),
        *(pickle.FLOAT, pickle.BINFLOAT, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
        *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
        *(pickle.GLOBAL, pickle.STACK_GLOBAL),
    )
)


def _counted(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """A step of the unpickler that ends a pickle of too many."""

    def step(unpickler: _Unpickler) -> None:
        unpickler._steps -= 1
        if unpickler._steps < 0:
            raise pickle.UnpicklingError("it takes more steps than a set of images does")
        load(unpickler)

    return step


class _Unpickler(pickle._Unpickler):
    """Python's unpickler without the opcodes, and without the names, that a verification set does not need."""

    stack: list[Any]

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="bytes")
        self._room = len(data)
        self._steps = _STEPS + int(len(data) * _STEPS_PER_BYTE)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise RefusedError(f"{module}.{name}")
        return _NAMES[module, name]

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("a step that nothing in such a set needs")

    def _call(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, _Name) or not isinstance(arguments, tuple) or len(arguments) > _MAX_ARGUMENTS:
            raise pickle.UnpicklingError("it calls what cannot be called")
        made = name.make(*arguments)
        if isinstance(made, bytes) and all(made is not argument for argument in arguments):
            self._room -= len(made)
            if self._room < 0:
                raise pickle.UnpicklingError("it makes more bytes than it holds")
        self.stack.append(made)

    def _set(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], Array | _Type):
            raise pickle.UnpicklingError("it sets what cannot be set")
        self.stack[-1].__setstate__(state)

    dispatch: ClassVar[dict[int, Any]] = {
        **dict.fromkeys(range(256), _refuse),
        **{code: _counted(load) for code, load in pickle._Unpickler.dispatch.items() if code in _OPCODES},
        pickle.BYTEARRAY8[0]: _counted(pickle._Unpickler.dispatch[pickle.BINBYTES8[0]]),
        pickle.REDUCE[0]: _counted(_call),
        pickle.BUILD[0]: _counted(_set),
    }
