"""insightface's verification sets: a pickle of encoded images, two for each pair, and of who is the same person."""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from grafiqs.datasets import pickled
from grafiqs.datasets.dataset import MAX_BYTES, Dataset, Pair, too_large
from grafiqs.disk.names import in_order, shown
from grafiqs.disk.unfetched import is_page, pointer
from grafiqs.errors import RequestError, UnreadableSampleError

_AS_INSIGHTFACE = (
    "write it as insightface does: two lists in a tuple, of encoded images, as bytes, and of a bool for each pair"
)
"""What to do about one of another form."""

_TORCH_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""What PyTorch files of before 1.6 begin with, after the protocol: a number of ten bytes, pickled alone."""

_OF_THREE, _END = re.compile(rb"\x87(\x94|q.|r....)?\.\Z", re.DOTALL), 7
"""How a pickle ends that is a tuple of three: with that step, the place to remember it, and the end; in 7 bytes."""

_BEGINNING = 1000
"""Bytes in which a zip archive names its first member."""


class VerificationSet(Dataset):
    """A verification set: one unnamed identity, its samples the places of the images, as six digits; and its pairs.

    Images 0 and 1 are the first pair, 2 and 3 the second, and so on.
    Raises RequestError when the file is not such a pickle, or holds anything else.
    """

    form = "verification set"
    identities = ("",)

    def __init__(self, place: Path) -> None:
        self.place = place
        self._images, same = _content(place)
        names = [_name(number) for number in range(len(self._images))]
        self.pairs = tuple(map(Pair, names[::2], names[1::2], same))

    def samples(self, identity: str) -> tuple[str, ...]:  # noqa: ARG002 - there is one only
        """The places of the images, as six digits."""
        return in_order(map(_name, range(len(self._images))))

    def read(self, location: str) -> bytes:
        """The encoded image. Raises UnreadableSampleError, with the reason."""
        if not location.isdecimal() or int(location) >= len(self._images) or _name(int(location)) != location:
            raise UnreadableSampleError("is not in the verification set")
        stored = self._images[int(location)]
        image = _image(stored)
        if image is None:
            raise UnreadableSampleError(f"holds no bytes of an image, but {_kind(stored)}")
        if len(image) > MAX_BYTES:
            raise UnreadableSampleError(too_large(len(image)))
        return image

    def __reduce__(self) -> tuple[type[VerificationSet], tuple[Path]]:
        return VerificationSet, (self.place,)


def _name(number: int) -> str:
    return f"{number:06d}"


def _content(place: Path) -> tuple[Sequence[Any], list[bool]]:
    """The images and, for each pair of them, whether both are of the same identity."""
    try:
        data = place.read_bytes()
    except OSError as error:
        raise RequestError(f"cannot read {shown(place)}: {error.strerror}") from error
    try:
        content = pickled.load(data)
        if isinstance(content, list | tuple) and len(content) != 2:
            raise pickle.UnpicklingError(f"it holds a {type(content).__name__} of {len(content)}")
        images, same = content
        if not isinstance(images, list | tuple):
            raise pickle.UnpicklingError(f"its images are of type {type(images).__name__} instead of a list")
        answers = list(map(bool, same.values() if isinstance(same, pickled.Array) else map(_number, same)))
    except pickled.RefusedError as error:
        raise RequestError(
            f"{shown(place)} was not opened further: it names {shown(str(error)[:200])}, and nothing but lists, bytes, "
            "numbers and plain arrays belongs in a verification set; what else it holds could run code"
        ) from error
    except Exception as error:  # hostile data make an unpickler fail in every way there is
        reason = shown(" ".join(str(error)[:200].split())) or type(error).__name__
        what = _what_else(data, reason) or f" ({reason}): get the file again, or write it as insightface does"
        raise RequestError(f"{shown(place)} is not a verification set, a pickle of images and pairs{what}") from error
    if len(images) != 2 * len(answers) or not images:
        raise RequestError(
            f"{shown(place)} holds {len(images)} images for {len(answers)} pairs, instead of two for each"
        )
    return images, answers


def _what_else(data: bytes, reason: str) -> str | None:
    """What a file is that cannot be read as a set, with what to do about it; None if it may be a damaged one."""
    if instead := pointer(data):
        return f", but {instead}"
    if is_page(data):
        return ", but a web page: download the file itself, not the page about it"
    if data.startswith(b"PK\x03\x04") and b"/data.pkl" in data[:_BEGINNING]:
        return ", but a PyTorch file: a network is given by --weights"
    steps = data[2:] if data[:1] == pickle.PROTO else data
    steps = steps[9:] if steps[:1] == pickle.FRAME else steps
    if steps.startswith(_TORCH_MAGIC):
        return ", but a PyTorch file: a network is given by --weights"
    if steps.startswith((pickle.EMPTY_DICT, pickle.MARK + pickle.DICT)):
        return f", but a pickle of a dict: {_AS_INSIGHTFACE}"
    if _OF_THREE.search(data[-_END:]):
        return f", but a pickle of a tuple of three: {_AS_INSIGHTFACE}"
    reason = reason.replace("'O8'", "'O8', Python objects")
    of_another_form = (
        reason.startswith(("it holds a ", "an array of ", "its images are ")) or " stands where " in reason
    )
    return f" ({reason}): {_AS_INSIGHTFACE}" if of_another_form else None


def _image(value: Any) -> bytes | None:
    """The bytes of one image, as the different writers have stored them.

    Text is what Python 3 makes of Python 2's bytes when it is told that they are Latin-1, and writes again.
    """
    if isinstance(value, pickled.Array):
        return value.row_of_bytes()
    if isinstance(value, str):
        with suppress(UnicodeEncodeError):
            return value.encode("latin-1")
    return value if isinstance(value, bytes) else None


def _kind(value: Any) -> str:
    """What stands in the place of an image, in words."""
    if isinstance(value, pickled.Array):
        size = f"{value.dtype.size} bytes each" if value.dtype.size > 1 else "a byte each"
        return f"an array of shape {value.shape}, {size}: images belong there as encoded files, a row of bytes"
    return f"a {type(value).__name__}"


def _number(value: Any) -> int | float:
    if not isinstance(value, int | float):
        raise pickle.UnpicklingError(f"a {type(value).__name__} stands where the pairs are said to be the same or not")
    return value
