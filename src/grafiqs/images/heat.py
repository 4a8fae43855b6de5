"""Where a network would have to change a face, as a picture: maps of |gradient| over the crop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_COLOURS = ((0, 0, 24), (74, 12, 108), (178, 44, 94), (240, 112, 44), (252, 200, 60), (255, 255, 210))
"""From small to large: each brighter than the one before, so that colour-blind people, and grey prints, tell them."""

_SHOWN = 0.75
"""How much of a picture its map covers where it is strongest."""


def magnitude(gradient: NDArray[np.floating]) -> NDArray[np.float32]:
    """The sum of |gradient| (C, H, W) over the channels: (H, W)."""
    return np.asarray(np.abs(gradient).sum(axis=0), np.float32)


def heat_map(gradient: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float32]:
    """The magnitude of a gradient (C, H, W) as shares of its largest, 0 to 1, over a picture of this `size`.

    It is interpolated linearly. A gradient of nothing but zeros gives zeros.

    >>> heat_map(np.array([[[0.0, -1.0]], [[0.0, 3.0]]]), (1, 2))
    array([[0., 1.]], dtype=float32)
    """
    found = magnitude(gradient)
    largest = float(found.max())
    if not largest > 0:
        return np.zeros(size, np.float32)
    height, width = size
    shares = Image.fromarray(found / np.float32(largest))
    spread = np.asarray(shares.resize((width, height), Image.Resampling.BILINEAR), np.float32)
    return np.clip(spread, 0, 1)


def coloured(shares: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Shares (H, W) from 0 to 1 as colours, uint8 (H, W, 3): the larger, the brighter."""
    places = np.linspace(0, 1, len(_COLOURS))
    channels = [np.interp(shares, places, values) for values in zip(*_COLOURS, strict=True)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def over(picture: NDArray[np.uint8], shares: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A picture (H, W, 3) in grey, with its map (H, W) laid over it: the stronger, the less is seen of the picture."""
    grey = picture.mean(axis=2, keepdims=True)
    cover = _SHOWN * np.sqrt(np.clip(shares, 0, 1))[..., None]
    mixed = grey * (1 - cover) + coloured(np.sqrt(np.clip(shares, 0, 1))) * cover
    return np.asarray(mixed.round(), np.uint8)
