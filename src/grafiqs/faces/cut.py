"""Aligned crops: the turn, scale and shift that bring a face's landmarks to the ArcFace template."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from grafiqs.errors import UnreadableSampleError
from grafiqs.faces.face import Face
from grafiqs.faces.template import landmarks, similarity

_SMALLEST = 1.0
"""Landmarks that lie closer together than this, in pixels, are one point."""

_FAR = 1e6
"""Landmarks that lie farther out than this, in pixels, lie here."""

_MOST = 32
"""The largest multiple of its size at which a crop is cut out."""


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
