"""A face in a picture, and what knows where faces are. No OpenCV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

BOX = ("x", "y", "width", "height", "score")
"""The columns of a detector's box and score, in tables of faces; empty if landmarks were given."""

POINTS = tuple(f"{axis}{number}" for number in range(1, 6) for axis in "xy")
"""The columns of the landmarks there."""


@dataclass(frozen=True)
class Face:
    """A face in a picture, in pixels of it.

    `points` are x and y of the eyes, the tip of the nose and the corners of the mouth, left in the picture first.
    `box` (x, y, width, height) and `score` (0 to 1) are those of the detector, None if landmarks were given.
    """

    points: tuple[float, ...]
    box: tuple[float, ...] | None = None
    score: float | None = None

    def row(self) -> list[float | None]:
        """Box, score and points: 15 values, for the columns BOX and POINTS."""
        return [*(self.box or [None] * 4), self.score, *self.points]

    @staticmethod
    def of_row(row: Sequence[float | None]) -> Face:
        """The face whose `row` this is."""
        box = tuple(value for value in row[:4] if value is not None)
        return Face(tuple(value for value in row[5:] if value is not None), box or None, row[4])


class Faces(Protocol):
    """What knows where the face is in every sample's picture. It can be pickled, and asked by several threads."""

    def face(self, location: str, pixels: NDArray[np.uint8]) -> Face:
        """The face in a sample's picture, RGB (H, W, 3). Raises UnreadableSampleError if there is none."""

    def check(self, locations: Iterable[str]) -> None:
        """Raise RequestError when it cannot know any of these samples."""

    def source(self) -> dict[str, Any]:
        """What it knows them from, as JSON values: the same source, the same faces."""
