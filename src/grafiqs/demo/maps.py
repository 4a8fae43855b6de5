"""The maps in which a head is kept, and where the parts of a face lie in them.

Head frame, in mm: x to the right of the picture, y down, z toward the camera; the eyes lie at y = 0. The surface is
r(angle, y), the distance from the y axis at an angle from +z toward +x. Every map has WIDTH texels over the angles
-SPAN..SPAN and HEIGHT texels over y = TOP..BOTTOM.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Map = NDArray[np.float32]

WIDTH, HEIGHT = 448, 256
SPAN = 2.88
TOP, BOTTOM = -126.0, 130.0
FRONT = 88.0
"""The distance at which features are laid out: x mm of the face as seen from the front is the angle asin(x/FRONT)."""


def single(values: ArrayLike) -> Map:
    """The values in single precision, in which all maps are."""
    return np.asarray(values, np.float32)


def linear(colour: ArrayLike) -> Map:
    """The light of an sRGB colour of 0..255: linear RGB of 0..1."""
    return single(np.asarray(colour, np.float64) / 255) ** np.float32(2.2)


@cache
def grid(every: int = 1) -> tuple[Map, Map]:
    """Angles (W,) and heights y (H,) of the texel centres, of every texel or of blocks of `every` texels."""
    columns, rows = WIDTH // every, HEIGHT // every
    angles = ((np.arange(columns) + 0.5) / columns * 2 - 1) * SPAN
    heights = TOP + (np.arange(rows) + 0.5) / rows * (BOTTOM - TOP)
    return angles.astype(np.float32), heights.astype(np.float32)


def texels(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Front points (N, 2) in mm -> columns and rows (N, 2) of the maps."""
    columns = np.arcsin((points[:, 0] / FRONT).clip(-1, 1)) * (WIDTH / 2 / SPAN) + (WIDTH / 2 - 0.5)
    return np.stack([columns, (points[:, 1] - TOP) * (HEIGHT / (BOTTOM - TOP)) - 0.5], axis=1)


Bump = tuple[float, float, float, float, float]
"""A Gaussian on the face: front x, y, spread in x, spread in y, height; all mm."""


def bumps(several: Sequence[Bump]) -> Map:
    """The sum of Gaussians on the face, (H, W) in mm: one matrix product, since each is a product of x and y."""
    x, y, spread_x, spread_y, height = np.array(several, np.float32).T[..., None]
    angles, heights = grid()
    facing = np.abs(angles) < np.pi / 2
    across = np.exp(-(((np.float32(FRONT) * np.sin(angles[facing]) - x) / spread_x) ** 2) / 2)
    down = np.exp(-(((heights - y) / spread_y) ** 2) / 2) * height
    total = np.zeros((HEIGHT, WIDTH), np.float32)
    # einsum adds in one fixed order, on one thread: a BLAS would do neither.
    total[:, facing] = np.einsum("ny,nx->yx", down, across)
    return total


def both(x: float, y: float, spread_x: float, spread_y: float, height: float) -> tuple[Bump, Bump]:
    """A bump and its mirror image."""
    return (-x, y, spread_x, spread_y, height), (x, y, spread_x, spread_y, height)
