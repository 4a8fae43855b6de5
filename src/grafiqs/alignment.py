"""Aligned crops: the turn, scale and shift that bring a face's landmarks to the ArcFace template."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from grafiqs.errors import UnreadableSampleError
from grafiqs.template import landmarks, similarity

_SMALLEST = 1.0
"""Landmarks that lie closer together than this, in pixels, are one point."""

_FAR = 1e6
"""Landmarks that lie farther out than this, in pixels, lie here."""

_MOST = 32
"""The largest multiple of its size at which a crop is cut out."""


@dataclass(frozen=True)
class Face:
    """A face in a picture, in pixels of it.

    `points` are x and y of the eyes, the tip of the nose and the corners of the mouth, left in the picture first.
    `box` (x, y, width, height) and `score` (0 to 1) are those of the detector, None where landmarks were given.
    """

    points: tuple[float, ...]
    box: tuple[float, ...] | None = None
    score: float | None = None

    def row(self) -> list[float | None]:
        """Box, score and points: 15 values, in the order of the columns of align.csv."""
        return [*(self.box or [None] * 4), self.score, *self.points]

    @staticmethod
    def of_row(row: Sequence[float | None]) -> Face:
        """The face whose `row` this is."""
        box = tuple(value for value in row[:4] if value is not None)
        return Face(tuple(value for value in row[5:] if value is not None), box or None, row[4])


class Faces(Protocol):
    """What knows where the face is in every sample's picture. It can be pickled, and asked by several threads."""

    def face(self, location: str, pixels: NDArray[np.uint8]) -> Face:
        """The face in a sample's picture, RGB (H, W, 3). Raises UnreadableSampleError where there is none."""
        ...

    def check(self, locations: Iterable[str]) -> None:
        """Raise RequestError when it cannot know any of these samples."""
        ...

    def source(self) -> dict[str, Any]:
        """What it knows them from, as JSON values: the same source, the same faces."""
        ...


def cut_out(pixels: NDArray[np.uint8], face: Face, size: tuple[int, int]) -> NDArray[np.uint8]:
    """RGB picture (H, W, 3) and its face -> the aligned crop (*size, 3): bilinear, black beyond the picture.

    A face of twice the size and more is cut out at a multiple of the size, and then reduced by area, so that every
    pixel counts. Raises UnreadableSampleError when its landmarks coincide, or lie outside the picture.
    """
    points = np.array(face.points).reshape(-1, 2)
    if np.ptp(points, axis=0).max() < _SMALLEST:
        raise UnreadableSampleError("its landmarks lie within one pixel")
    if (points.max(axis=0) < 0).any() or (points.min(axis=0) >= pixels.shape[1::-1]).any():
        raise UnreadableSampleError("its landmarks lie outside the picture")
    height, width = size
    try:
        matrix = similarity(np.clip(points, -_FAR, _FAR), landmarks(size))
        smaller = 1 / float(np.hypot(*matrix[:, 0]))
        times = 1 if smaller < 2 else min(_MOST, math.ceil(smaller))
        matrix *= times
        matrix[:, 2] += (times - 1) / 2  # the centres of pixels have whole numbers, not their corners
        crop = cv2.warpAffine(pixels, matrix, (width * times, height * times), flags=cv2.INTER_LINEAR)
        if times > 1:
            crop = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(crop, np.uint8)
    except cv2.error as error:
        raise UnreadableSampleError(f"it cannot be aligned: {error.err}") from error
