"""A face in a picture, and what knows where faces are. No OpenCV."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from grafiqs.faces.template import similarity

BOX = ("x", "y", "width", "height", "score")
"""The columns of a detector's box and score, in tables of faces; empty if landmarks were given."""

POINTS = tuple(f"{axis}{number}" for number in range(1, 6) for axis in "xy")
"""The columns of the landmarks there."""

TURN = "turn"
"""The column of `Face.turn` there."""

COLUMNS = (*BOX, TURN, *POINTS)
"""All columns of a face in a table."""


@dataclass(frozen=True)
class Face:
    """A face in a picture, in pixels of it.

    `points` are x and y of the eyes, the tip of the nose and the corners of the mouth; first comes what is left in the
    picture once that is turned so that the face stands upright.
    `box` (x, y, width, height) and `score` (0 to 1) are those of the detector, None if landmarks were given. `unsure`
    says that it scored more in another turn of the picture, but not clearly; no table keeps that.
    """

    points: tuple[float, ...]
    box: tuple[float, ...] | None = None
    score: float | None = None
    unsure: bool = False

    @property
    def turn(self) -> int:
        """By how much the picture is turned, clockwise, for the face to stand upright: 0, 90, 180 or 270 degrees.

        The landmarks say so: it is the quarter turn nearest to the turn that brings them to the template.
        """
        points = np.array(self.points).reshape(-1, 2)
        if not np.ptp(points, axis=0).any():
            return 0  # all points coincide; `cut_out` reports that
        matrix = similarity(points)
        return round(float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0]))) / 90) * 90 % 360

    def row(self) -> list[float | None]:
        """Box, score and points, all that is known of it: 15 values, as a journal keeps them."""
        return [*(self.box or [None] * 4), self.score, *self.points]

    def written(self) -> list[float | None]:
        """The same with its turn: 16 values, for COLUMNS."""
        return [*(self.box or [None] * 4), self.score, self.turn, *self.points]

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
