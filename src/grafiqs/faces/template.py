"""The ArcFace template: where five landmarks lie in an aligned crop, and the similarity that brings them there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIZE = 112
"""The side of an aligned crop, in pixels."""

LANDMARKS = np.array(
    [(38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)]
)
"""x and y of the eyes, the nose tip and the corners of the mouth, left in the picture first.

Source: the alignment of insightface, which ArcFace (Deng et al., CVPR 2019) networks are trained on.
"""


def landmarks(size: tuple[int, int]) -> NDArray[np.float64]:
    """The template (5, 2) for crops of another size, height and width: as high as the crop, and in its middle.

    For 112x96 that is the template which networks of that input are trained on: the square one without its margins.
    """
    height, width = size
    return (LANDMARKS - SIZE / 2) * (height / SIZE) + (width / 2, height / 2)


def similarity(points: NDArray[np.float64], targets: NDArray[np.float64] = LANDMARKS) -> NDArray[np.float64]:
    """The turn, scale and shift (2, 3) that brings `points` (N, 2) nearest to `targets`, by least squares.

    As complex numbers, targets = a * points + b: a linear fit with one answer, if the points do not coincide.
    """
    source, target = points @ (1, 1j), targets @ (1, 1j)
    spread = source - source.mean()
    a = (spread.conj() @ (target - target.mean())) / (spread.conj() @ spread).real
    b = target.mean() - a * source.mean()
    return np.array([(a.real, -a.imag, b.real), (a.imag, a.real, b.imag)])
