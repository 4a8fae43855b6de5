"""Whether images are crops that were aligned to the ArcFace template, as the networks expect, told without a detector.

Eyes and mouth are where a face has its strongest horizontal edges. Averaged over many aligned crops, these stand at the
landmarks of the template; over other pictures of faces they are smeared, or stand elsewhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from grafiqs.template import LANDMARKS, SIZE

ENOUGH = 50
"""From so many crops on, their average tells."""

ALIGNED = 0.6
"""The likeness from which on crops count as aligned. Any 50 aligned crops of Glint360k have 0.70 or more, drawn faces
0.78; any 50 photos of LFW, resized whole or cut out around the face, 0.52 or less (2026-11-23)."""

_INSIDE = (slice(30, 106), slice(18, 94))
"""The part of a crop that is compared: the face without hair and background."""


def edges(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB crop (112, 112, 3) -> the strength of its horizontal edges (112, 112), with a mean of 1."""
    grey = _smooth(pixels.mean(axis=2, dtype=np.float32))
    strength = np.abs(np.gradient(grey, axis=0))
    return np.asarray(strength / (strength.mean() + 1e-3), np.float32)


def likeness(mean_edges: NDArray[np.float32]) -> float:
    """How far the mean of `edges` over many crops (112, 112) correlates with the template's, from -1 to 1."""
    for _ in range(4):
        mean_edges = _smooth(mean_edges)
    found, expected = (image[_INSIDE] - image[_INSIDE].mean() for image in (mean_edges, _expected()))
    scale = np.sqrt((found**2).sum() * (expected**2).sum())
    return float((found * expected).sum() / scale) if scale else 0.0


def _expected() -> NDArray[np.float64]:
    """Where the horizontal edges of a face are: a spot at each eye, under the nose and, wider, at the mouth."""
    left, right, nose, *corners = LANDMARKS
    rows, columns = np.mgrid[:SIZE, :SIZE]
    spots = ((left, 8, 5, 1.0), (right, 8, 5, 1.0), (np.mean(corners, axis=0), 12, 5, 1.0), (nose, 8, 4, 0.5))
    return sum(
        (
            weight * np.exp(-(((columns - x) / width) ** 2 + ((rows - y) / height) ** 2) / 2)
            for (x, y), width, height, weight in spots
        ),
        np.zeros((SIZE, SIZE)),
    )


def _smooth(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image under a binomial filter of 5 x 5 pixels: a Gaussian of one pixel."""
    for axis in (0, 1):
        padded = np.pad(image, [(2, 2) if axis == side else (0, 0) for side in (0, 1)], mode="edge")
        parts = (np.take(padded, range(shift, shift + SIZE), axis) * weight for shift, weight in enumerate(_BINOMIAL))
        image = sum(parts, np.zeros_like(image))
    return image


_BINOMIAL = np.array((1, 4, 6, 4, 1), np.float32) / 16
