"""The four turns of a picture: its faces in each of them, brought back to the picture as it came."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

TURNS = (0, 90, 180, 270)
"""By how many degrees a picture is turned, clockwise."""

SAME = 0.5
"""Boxes that share more than this of the smaller one are of one face."""


def turned(pixels: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """A picture turned clockwise by one of TURNS."""
    return np.ascontiguousarray(np.rot90(pixels, -turn // 90))


def turned_back(found: NDArray[np.float64], turn: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A face (box, landmarks, score) of the picture turned so, in pixels of it as it came, whose shape this is."""
    back = found.copy()
    for quarter in range(turn // 90, 0, -1):  # each undoes one; the width of the turned one is this side of the other
        across = shape[0] if quarter % 2 else shape[1]
        x, y, width, height = back[:4]
        back[:4] = y, across - 1 - (x + width), height, width
        back[4:14:2], back[5:14:2] = back[5:14:2].copy(), across - 1 - back[4:14:2]
    return back


def overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Which share of the smaller of two boxes lies in the larger one."""
    start = np.maximum(one[:2], other[:2])
    sides = np.minimum(one[:2] + one[2:4], other[:2] + other[2:4]) - start
    return float(sides.clip(0).prod() / max(min(one[2:4].prod(), other[2:4].prod()), 1e-9))


def surroundings(pixels: NDArray[np.uint8], box: NDArray[np.float64], side: int) -> NDArray[np.uint8] | None:
    """A square around a box, twice as wide, reduced or enlarged to `side` pixels; None if it is not in the picture.

    Beyond the picture, what stands at its border is repeated: a face that is cut off there is still seen whole, as far
    as it goes, which a border of black would not let a detector do.
    """
    radius = max(1.0, float(box[2:4].max()))
    left, top = (int(middle - radius) for middle in box[:2] + box[2:4] / 2)
    whole = int(2 * radius)
    inside = pixels[max(0, top) : max(0, top + whole), max(0, left) : max(0, left + whole)]
    if not inside.size:
        return None
    scale = side / whole
    sides = [max(1, round(length * scale)) for length in inside.shape[1::-1]]
    inside = np.asarray(cv2.resize(inside, sides, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR))
    above, before = (max(0, round(-start * scale)) for start in (top, left))
    below, behind = (
        max(0, side - margin - length) for margin, length in zip((above, before), sides[::-1], strict=True)
    )
    square = cv2.copyMakeBorder(inside, above, below, before, behind, cv2.BORDER_REPLICATE)
    return np.asarray(square[:side, :side], np.uint8)
