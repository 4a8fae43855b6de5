"""What a user should know of images that can be read, and that does not stop them: counted, with a sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grafiqs.disk.names import shown
from grafiqs.errors import UnreadableSampleError
from grafiqs.faces.face import Face
from grafiqs.faces.likeness import is_crop
from grafiqs.images.decoding import Picture

ONE_COLOUR = 8
"""An image whose values lie within so many of 255 of one another, in each channel, is of one colour.

White that was saved as JPEG, or has a camera's noise of a level or two, counts; a face in it would show in more.
"""

_STEP = 16
"""Every image but one in thousands shows more colours in every sixteenth row and column already."""

_NAMED = 3
"""Images that a sentence names; the rest are counted."""


@dataclass(frozen=True)
class Remark:
    """What is to be said of one image.

    `bits` is how many of its 16 bits it uses, if that is fewer; `is_crop` whether its face, which was found, fills it
    as in an aligned crop; `unsure` whether that may stand in another turn.
    """

    one_colour: bool
    bits: int | None
    is_crop: bool = False
    unsure: bool = False


def remark_on(picture: Picture, face: Face | None = None) -> Remark:
    """What is to be said of a picture, and of the face in it if that is known."""
    one_colour = picture.bits is None and is_of_one_colour(picture.pixels)  # of few bits, nothing is left but black
    crop = face is not None and is_crop(face.points, picture.pixels.shape)
    return Remark(one_colour, picture.bits, crop, face is not None and face.unsure)


class UnalignedError(UnreadableSampleError):
    """A picture that was decoded, and whose face cannot be cut out: why, and what is to be said of it."""

    def __init__(self, reason: str, remark: Remark) -> None:
        super().__init__(reason, remark)  # both, as it goes from one process to another
        self.remark = remark

    def __str__(self) -> str:
        return str(self.args[0])


@contextmanager
def unaligned(picture: Picture) -> Iterator[None]:
    """What is done to find and cut out the face of a picture: if it fails, UnalignedError, with a likely reason."""
    try:
        yield
    except UnreadableSampleError as error:
        bits = picture.bits
        dark = (
            "" if bits is None else f"; it has 16 bits a value, and {_filled(bits)}: scale it to the full range first"
        )
        raise UnalignedError(f"{error}{dark}", Remark(one_colour=False, bits=bits)) from error


def _filled(bits: int) -> str:
    """How few bits an image fills, or several, and what comes of it."""
    return (
        f"of them the lower {bits} at most are filled, which, as the upper 8 are read, is {2 ** (16 - bits)} times too "
        "dark or more"
    )


def is_of_one_colour(pixels: NDArray[np.uint8]) -> bool:
    """Whether the values of an RGB picture (H, W, 3) lie within ONE_COLOUR of one another, channel by channel."""
    return all(
        int(np.ptp(some.reshape(-1, 3), axis=0).max()) <= ONE_COLOUR for some in (pixels[::_STEP, ::_STEP], pixels)
    )


class Remarks:
    """The remarks on many images, by location."""

    def __init__(self) -> None:
        self.images = self.faces = 0
        """How many images there were, and how many had a face that was looked for."""
        self.one_colour: list[str] = []
        self.bits: dict[str, int] = {}
        self.unsure: list[str] = []
        self.crops = 0

    def add(self, location: str, remark: Remark, has_face: bool = False) -> None:
        """Count an image."""
        self.images += 1
        self.faces += has_face
        self.crops += remark.is_crop
        if remark.one_colour:
            self.one_colour.append(location)
        if remark.unsure:
            self.unsure.append(location)
        if remark.bits is not None:
            self.bits[location] = remark.bits

    def warnings(self) -> Iterator[str]:
        """What should not be overlooked, a sentence each."""
        if self.one_colour:
            yield (
                f"{len(self.one_colour)} of {self.images} images are of one colour ({_some(self.one_colour)}): there "
                "is no face in them, and a network scores them all the same, some better than faces; scores cannot "
                "tell a face from none, a face detector can"
            )
        if self.bits:
            bits = max(self.bits.values())
            yield (
                f"{len(self.bits)} of {self.images} images have 16 bits a value and fill the lower {bits} at most, as "
                f"some cameras write them ({_some(list(self.bits))}): of 16 bits the upper 8 are read, so these are "
                f"{2 ** (16 - bits)} times too dark or more; scale them to the full range first"
            )
        if self.unsure:
            yield (
                f"{len(self.unsure)} photos may stand on their head, or lie: {_some(self.unsure)}; their faces score "
                "more in another turn, but not by enough to turn them, as those of poor photos do; if they lie, turn "
                "the files themselves"
            )
        if self.crops and self.crops >= self.faces / 2:
            yield (
                f"{self.crops} of {self.faces} images are aligned crops already, whose faces stand where the template "
                "has them: aligned again, they are not what they were, and their scores change; leave the alignment out"
            )


def _some(locations: Sequence[str]) -> str:
    """The first locations, and that there are more."""
    return ", ".join([*map(shown, locations[:_NAMED]), *(["..."] if len(locations) > _NAMED else [])])
