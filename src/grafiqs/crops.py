"""Whether images are crops that were aligned to the ArcFace template, as the networks expect, told without a detector.

Eyes and mouth are where a face has its strongest horizontal edges. Averaged over aligned crops of many people, these
stand at the landmarks of the template; over other pictures of faces they are smeared, or stand elsewhere. This tells of
a whole data set, not of an image: one person's glasses can be enough to mislead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.errors import UnreadableSampleError
from grafiqs.formats.dataset import Dataset
from grafiqs.reading import Reader
from grafiqs.select import Sample
from grafiqs.template import LANDMARKS, SIZE

IDENTITIES, IMAGES = 10, 100
"""From so many identities on, or so many images where no identity is named, the mean tells."""

ALIGNED = 0.6
"""The likeness from which on crops count as aligned. Ten crops each of any ten identities of Glint360k have 0.70 or
more, drawn faces 0.71; so many photos of LFW, squeezed whole or cut out around the face, 0.58 or less (2026-11-23)."""

_FEWEST = 9
"""From so many images on, and fewer identities than tell, a low likeness says something."""

_SHARP = 1.25
"""Pictures whose finest edges are not steeper than this, relative to edges smoothed over two pixels, are blurred."""

_PLAIN = {"crops": (0.5, 0.35, -1.0), "pictures": (0.6, 0.45, 0.3), "blurred": (0.2, 0.2, -1.0)}
"""Below this likeness images are plainly no aligned crops: of ten identities or more, of nine images or more, of fewer.

Where they have the size that the network takes, as crops have (`crops`); where they have another (`pictures`); and
where they are blurred. Measured, in 200 draws each (2026-11-25): aligned crops of Glint360k and LFW had 0.60 or more
(ten identities, an image each) and 0.44 or more (one to three identities, nine or ten images in all); photos of LFW,
squeezed whole or cut out around the face, had medians of 0.23 to 0.43, and at most 0.53 from ten identities on. Blurred
by a Gaussian of 3 and 4 pixels, 80 aligned crops of 20 identities had 0.50 and 0.36, photos 0.21 and 0.03.
"""

_OTHER_SHAPE = 0.02
"""Pictures whose ratio of sides differs from the network's by more than this share are squeezed, with their faces."""

_LOOKED_AT, _IDENTITIES_LOOKED_AT = 80, 20
"""The most images that are looked at before a run, and of how many identities."""

_INSIDE = (slice(30, 106), slice(18, 94))
"""The part of a crop that is compared: the face without hair and background."""


class Likeness:
    """How far crops look aligned on the whole, every identity counting once; fed identity by identity."""

    def __init__(self) -> None:
        self._identity: str | None = None
        self._own = self._means = np.zeros((SIZE, SIZE))
        self._count = self._identities = self._images = 0

    def add(self, identity: str, image_edges: NDArray[np.float32]) -> None:
        """Count the `edges` of a crop; those of one identity follow each other, and each of the unnamed is one."""
        if identity != self._identity or not identity:
            self._close()
            self._identity = identity
        self._own = self._own + image_edges
        self._count += 1
        self._images += 1

    def value(self) -> float | None:
        """The likeness, from -1 to 1; None when there were too few identities."""
        self._close()
        return self._likeness() if self._enough() else None

    def is_plainly_low(self, kind: str) -> bool:
        """Whether images of this kind, one of _PLAIN, are no aligned crops, however few there are."""
        self._close()
        place = 0 if self._enough() else 1 if self._images >= _FEWEST else 2
        return self._images > 0 and self._likeness() < _PLAIN[kind][place]

    def _likeness(self) -> float:
        return likeness(self._means / self._identities)

    def _enough(self) -> bool:
        return self._identities >= (IDENTITIES if self._identity else IMAGES)

    def _close(self) -> None:
        if self._count:
            self._means = self._means + self._own / self._count
            self._identities += 1
            self._own, self._count = np.zeros((SIZE, SIZE)), 0


def are_plainly_unaligned(samples: Sequence[Sample], dataset: Dataset, size: tuple[int, int]) -> bool:
    """Whether the images of a subset are plainly no aligned crops for a network that takes this `size`.

    Some of them are looked at. Crops have one size, of the shape that the network takes; other pictures are none.
    """
    height, width = size
    reader = Reader(dataset, (SIZE, max(1, round(SIZE * width / height))))  # as high as the template
    found, sizes, sharpness = Likeness(), set(), []
    for sample in _some(samples):
        read = reader(sample.location)
        if not isinstance(read, UnreadableSampleError):
            picture = _as_wide_as_high(read.pixels.transpose(1, 2, 0))
            found.add(sample.identity, edges(picture))
            sizes.add(read.size)
            sharpness.append(_sharpness(picture))
    if not sizes or len(sizes) > 1 or any(abs(w * height / (h * width) - 1) > _OTHER_SHAPE for h, w in sizes):
        return bool(sizes)
    kind = "crops" if sizes == {size} else "pictures"
    return found.is_plainly_low("blurred" if np.median(sharpness) < _SHARP else kind)


def _as_wide_as_high(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle of a picture 112 pixels high, (112, 112, 3); a narrow one with its margins repeated."""
    missing = max(0, SIZE - pixels.shape[1])
    padded = np.pad(pixels, ((0, 0), (missing // 2, missing - missing // 2), (0, 0)), mode="edge")
    left = (padded.shape[1] - SIZE) // 2
    return padded[:, left : left + SIZE]


def _sharpness(pixels: NDArray[np.uint8]) -> float:
    """How much steeper the horizontal edges of a picture are than those of the same picture smoothed: 1 and more."""
    fine = coarse = pixels.mean(axis=2, dtype=np.float32)
    for _ in range(4):
        coarse = _smooth(coarse)
    steep, flat = (float(np.abs(np.gradient(grey, axis=0)).mean()) for grey in (fine, coarse))
    return steep / (flat + 1e-3)


def _some(samples: Sequence[Sample]) -> Iterator[Sample]:
    """The first samples of the first identities."""
    identities = islice(groupby(samples, lambda sample: sample.identity), _IDENTITIES_LOOKED_AT)
    every = [list(islice(own, _LOOKED_AT)) for _, own in identities]
    for own in every:
        yield from own[: -(-_LOOKED_AT // len(every))]


def edges(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """RGB crop (112, 112, 3) -> the strength of its horizontal edges (112, 112), with a mean of 1."""
    grey = _smooth(pixels.mean(axis=2, dtype=np.float32))
    strength = np.abs(np.gradient(grey, axis=0))
    return np.asarray(strength / (strength.mean() + 1e-3), np.float32)


def likeness(mean_edges: NDArray[Any]) -> float:
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


def _smooth(image: NDArray[Any]) -> NDArray[Any]:
    """The image under a binomial filter of 5 x 5 pixels: a Gaussian of one pixel."""
    for axis in (0, 1):
        padded = np.pad(image, [(2, 2) if axis == side else (0, 0) for side in (0, 1)], mode="edge")
        parts = (np.take(padded, range(shift, shift + SIZE), axis) * weight for shift, weight in enumerate(_BINOMIAL))
        image = sum(parts, np.zeros_like(image))
    return image


_BINOMIAL = np.array((1, 4, 6, 4, 1), np.float32) / 16
