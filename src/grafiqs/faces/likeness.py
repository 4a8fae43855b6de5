"""How far images look like crops aligned to the ArcFace template, as the networks expect, measured without a detector.

Eyes and mouth are where a face has its strongest horizontal edges. Averaged over aligned crops of many people, these
stand at the landmarks of the template; over other pictures of faces they are smeared, or stand elsewhere. This tells of
a whole data set, not of an image: one person's glasses can be enough to mislead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.faces.template import LANDMARKS, SIZE, landmarks

IDENTITIES, IMAGES = 10, 100
"""From so many identities on, or so many images if no identity is named, the mean tells."""

ALIGNED = 0.6
"""The likeness from which on crops count as aligned. Ten crops each of any ten identities of Glint360k have 0.70 or
more, drawn faces 0.71; so many photos of LFW, squeezed whole or cut out around the face, 0.58 or less (2026-11-23)."""

CROP = 6.0
"""A picture whose landmarks lie nearer to the template than this, as pixels of a crop (RMS), is a crop already.

Those that a detector finds do in 91 of 100 crops of Glint360k, and in 96 of 100 aligned crops of LFW; in none of the
1,580 photos of LFW, and in at most 10 of 100 of the same, cut to any square around the face (2026-11-26).
"""

_INSIDE = (slice(30, 106), slice(18, 94))
"""The part of a crop that is compared: the face without hair and background."""


class Likeness:
    """How far crops look aligned on the whole, every identity counting once; fed identity by identity."""

    def __init__(self) -> None:
        self.images = 0
        """How many there were."""
        self._identity: str | None = None
        self._own = self._means = np.zeros((SIZE, SIZE))
        self._count = self._identities = 0

    def add(self, identity: str, image_edges: NDArray[np.float32]) -> None:
        """Count the `edges` of a crop; those of one identity follow each other, and each of the unnamed is one."""
        if identity != self._identity or not identity:
            self._close()
            self._identity = identity
        self._own = self._own + image_edges
        self._count += 1
        self.images += 1

    def value(self) -> float | None:
        """The likeness, from -1 to 1; None when there were too few identities."""
        self._close()
        enough = self._identities >= (IDENTITIES if self._identity else IMAGES)
        return self.so_far() if enough else None

    def so_far(self) -> float:
        """The same, however few there were; one at least."""
        self._close()
        return likeness(self._means / self._identities)

    def _close(self) -> None:
        if self._count:
            self._means = self._means + self._own / self._count
            self._identities += 1
            self._own, self._count = np.zeros((SIZE, SIZE)), 0


def is_crop(points: Sequence[float], size: Sequence[int]) -> bool:
    """Whether five landmarks lie in a picture of this size, height and width, as they do in an aligned crop."""
    height, width, *_ = size
    off = np.reshape(points, (-1, 2)) - landmarks((height, width))
    return float(np.sqrt((off**2).sum(axis=1).mean())) < CROP * height / SIZE


def edges(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB crop (112, 112, 3) -> the strength of its horizontal edges (112, 112), with a mean of 1."""
    grey = smooth(pixels.mean(axis=2, dtype=np.float32))
    strength = np.abs(np.gradient(grey, axis=0))
    return np.asarray(strength / (strength.mean() + 1e-3), np.float32)


def likeness(mean_edges: NDArray[Any]) -> float:
    """How far the mean of `edges` over many crops (112, 112) correlates with the template's, from -1 to 1."""
    for _ in range(4):
        mean_edges = smooth(mean_edges)
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


def smooth(image: NDArray[Any]) -> NDArray[Any]:
    """The image under a binomial filter of 5 x 5 pixels: a Gaussian of one pixel."""
    for axis in (0, 1):
        padded = np.pad(image, [(2, 2) if axis == side else (0, 0) for side in (0, 1)], mode="edge")
        total = np.zeros_like(image)
        for shift, weight in enumerate(_BINOMIAL):
            own = slice(shift, shift + SIZE)
            total += (padded[own] if axis == 0 else padded[:, own]) * weight
        image = total
    return image


_BINOMIAL = np.array((1, 4, 6, 4, 1), np.float32) / 16
