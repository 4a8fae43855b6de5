"""Whether a subset is plainly not aligned crops, judged before a run by some of its images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice

import numpy as np
from numpy.typing import NDArray

from grafiqs.datasets.dataset import Dataset, Sample
from grafiqs.errors import UnreadableSampleError
from grafiqs.faces.likeness import Likeness, edges, smooth
from grafiqs.faces.template import SIZE
from grafiqs.images.reading import Read, Reader

_FEWEST = 9
"""From so many images on, and fewer identities than tell, a low likeness says something."""

_SHARP = 1.25
"""Pictures whose finest edges are not steeper than this, relative to edges smoothed over two pixels, are blurred."""

_PLAIN = {"crops": (0.5, 0.35, -1.0), "pictures": (0.6, 0.45, 0.3), "blurred": (0.2, 0.2, -1.0)}
"""Below this likeness images are plainly not aligned crops: of ten identities and more, nine images and more, fewer.

If they have the size that the network takes, as crops have (`crops`); if they have another (`pictures`); and
if they are blurred. Measured, in 200 draws each (2026-11-25): aligned crops of Glint360k and LFW had 0.60 or more
(ten identities, an image each) and 0.44 or more (one to three identities, nine or ten images in all); photos of LFW,
squeezed whole or cut out around the face, had medians of 0.23 to 0.43, and at most 0.53 from ten identities on. Blurred
by a Gaussian of 3 and 4 pixels, 80 aligned crops of 20 identities had 0.50 and 0.36, photos 0.21 and 0.03.
One number for all would cry wolf or keep silent, as the likeness of few images spreads. Of fewer than nine, with which
users begin, only those that would be resized are judged: of four photos of one person, 0.3 tells half.
"""

_OTHER_SHAPE = 0.02
"""Pictures whose ratio of sides differs from the network's by more than this share are squeezed, with their faces."""

_LOOKED_AT, _IDENTITIES_LOOKED_AT = 80, 20
"""The most images that are looked at before a run, and of how many identities."""


def are_plainly_unaligned(samples: Sequence[Sample], dataset: Dataset, size: tuple[int, int]) -> bool:
    """Whether the images of a subset are plainly not aligned crops for a network that takes this `size`.

    Some of them are looked at. Crops have one size, of the shape that the network takes; other pictures are not crops.
    """
    height, width = size
    reader = Reader(dataset, (SIZE, max(1, round(SIZE * width / height))))  # as high as the template

    def images() -> Iterator[tuple[str, Read]]:
        for sample in _some(samples):
            read = reader(sample.location)
            if not isinstance(read, UnreadableSampleError):
                yield sample.identity, read

    return _are_plainly_unaligned(
        ((identity, read.pixels.transpose(1, 2, 0), read.size) for identity, read in images()), size
    )


def are_unaligned(images: Iterable[tuple[NDArray[np.uint8], tuple[int, int]]], size: tuple[int, int]) -> bool:
    """The same of images of unknown people, as a network that takes this `size` is given them, and their own sizes."""
    return size[0] == SIZE and _are_plainly_unaligned((("", *image) for image in images), size)


def _are_plainly_unaligned(
    images: Iterable[tuple[str, NDArray[np.uint8], tuple[int, int]]], size: tuple[int, int]
) -> bool:
    """The same of identities, pictures as high as the template, and the sizes that they had."""
    height, width = size
    found, sizes, sharpness = Likeness(), set(), []
    for identity, pixels, own in images:
        picture = _as_wide_as_high(pixels)
        found.add(identity, edges(picture))
        sizes.add(own)
        sharpness.append(_sharpness(picture))
    if not sizes or len(sizes) > 1 or any(abs(w * height / (h * width) - 1) > _OTHER_SHAPE for h, w in sizes):
        return bool(sizes)
    kind = "blurred" if np.median(sharpness) < _SHARP else "crops" if sizes == {size} else "pictures"
    place = 0 if found.value() is not None else 1 if found.images >= _FEWEST else 2
    return found.so_far() < _PLAIN[kind][place]


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
        coarse = smooth(coarse)
    steep, flat = (float(np.abs(np.gradient(grey, axis=0)).mean()) for grey in (fine, coarse))
    return steep / (flat + 1e-3)


def _some(samples: Sequence[Sample]) -> Iterator[Sample]:
    """The first samples of the first identities."""
    identities = islice(groupby(samples, lambda sample: sample.identity), _IDENTITIES_LOOKED_AT)
    every = [list(islice(own, _LOOKED_AT)) for _, own in identities]
    for own in every:
        yield from own[: -(-_LOOKED_AT // len(every))]
