"""How scores are distributed, as 1,001 quantiles, and where among them a score stands. NumPy alone."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

STEPS = 1000
"""Quantiles are taken at 0, 1/1000, ..., 1."""


@dataclass(frozen=True)
class Distribution:
    """Scores as quantiles: `quantiles[k]` is the one at k / STEPS; `count` is how many there were.

    The first quantile is the least score, the last the largest.
    """

    quantiles: tuple[float, ...]
    count: int

    def __post_init__(self) -> None:
        """Check them. Raises ValueError for quantiles that cannot be."""
        values = np.asarray(self.quantiles, np.float64)
        if values.shape != (STEPS + 1,) or not np.isfinite(values).all() or (np.diff(values) < 0).any():
            raise ValueError(f"a distribution has {STEPS + 1} quantiles that rise")
        if not 2 <= self.count < 2**53:
            raise ValueError("a distribution is of two scores at least")

    @staticmethod
    def of(scores: ArrayLike) -> Distribution:
        """The distribution of scores (N,). Raises ValueError for fewer than two, and for one that is not finite.

        >>> Distribution.of([1.0, 2.0, 3.0]).quantiles[500]
        2.0
        """
        values = np.asarray(scores, np.float64)
        if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
            raise ValueError("a distribution is of two scores at least, all of them finite")
        # Hazen's: n scores stand in the middle of n equal parts, so that each has the share below it and half its own.
        quantiles = np.quantile(values, np.arange(STEPS + 1) / STEPS, method="hazen")
        return Distribution(tuple(quantiles.tolist()), len(values))

    def standing(self, score: float) -> float:
        """The share of the scores below this one and half the share equal to it, 0 to 1; NaN stays.

        Between quantiles it is interpolated linearly; beyond them it is 0 or 1. Plain Python, about a microsecond: the
        rows of a table are written one at a time.

        >>> Distribution.of([1.0, 2.0, 3.0]).standing(2.0)
        0.5
        """
        known = self.quantiles
        if not known[0] <= score <= known[-1]:
            return score if math.isnan(score) else float(score > known[-1])
        first, last = bisect_left(known, score), bisect_right(known, score)
        if last == first:
            low = known[first - 1]
            return (first - 1 + (score - low) / (known[first] - low)) / STEPS
        half = 0.5 / self.count  # a score takes up a share of 1 / count, around its quantile
        start = first / STEPS - half if first else 0.0
        end = (last - 1) / STEPS + half if last <= STEPS else 1.0
        return min(max((start + end) / 2, first / STEPS), (last - 1) / STEPS)

    def below(self, scores: ArrayLike) -> NDArray[np.float64]:
        """The standing of each of `scores` (N,)."""
        return np.array([self.standing(score) for score in np.asarray(scores, np.float64).tolist()], np.float64)

    def quality(self, score: float, direction: str) -> float:
        """The quality of a score: 100 times the share of the reference that is worse, rounded; NaN stays.

        Half of those equal to it count. 80 means: better than 80 % of the reference's faces. ISO/IEC 29794-1 wants a
        quality from 0 to 100 where higher is better.

        >>> Distribution.of([1.0, 2.0, 3.0]).quality(0.5, "lower")
        100.0
        """
        below = self.standing(score)
        found = 100 * (1 - below if direction == "lower" else below)
        return found if math.isnan(found) else float(round(found))


def quality(distribution: Distribution, scores: ArrayLike, direction: str) -> NDArray[np.float64]:
    """The quality of each of `scores` (N,).

    >>> quality(Distribution.of([1.0, 2.0, 3.0]), [0.5, 2.0, 9.0], "lower")
    array([100.,  50.,   0.])
    """
    known = np.asarray(scores, np.float64).tolist()
    return np.array([distribution.quality(score, direction) for score in known], np.float64)
