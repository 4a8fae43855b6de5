"""How scores are distributed, as 1,001 quantiles, and where among them a score stands. NumPy alone."""

from __future__ import annotations

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
        if self.count < 2:
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

    def below(self, scores: ArrayLike) -> NDArray[np.float64]:
        """For each of `scores` (N,), the share below it and half the share equal to it, 0 to 1; NaN stays.

        Between quantiles it is interpolated linearly; beyond them it is 0 or 1.
        """
        values, known = np.asarray(scores, np.float64), np.asarray(self.quantiles)
        first = np.searchsorted(known, values, side="left")
        last = np.searchsorted(known, values, side="right")
        inside = np.clip(first, 1, STEPS)
        low, high = known[inside - 1], known[inside]
        with np.errstate(invalid="ignore", divide="ignore"):
            between = (inside - 1 + (values - low) / (high - low)) / STEPS
        half = 0.5 / self.count  # a score takes up a share of 1 / count, around its quantile
        start = np.where(first == 0, 0.0, first / STEPS - half)
        end = np.where(last > STEPS, 1.0, (last - 1) / STEPS + half)
        equal = np.clip((start + end) / 2, first / STEPS, (last - 1) / STEPS)
        found = np.where(last > first, equal, between)
        found = np.where(values < known[0], 0.0, np.where(values > known[-1], 1.0, found))
        return np.where(np.isnan(values), np.nan, found)


def quality(distribution: Distribution, scores: ArrayLike, direction: str) -> NDArray[np.float64]:
    """The quality of each of `scores` (N,): 100 times the share of the reference that is worse, rounded; NaN stays.

    Half of those equal to it count. 80 means: better than 80 % of the reference's faces. ISO/IEC 29794-1 wants a
    quality from 0 to 100 where higher is better.

    >>> quality(Distribution.of([1.0, 2.0, 3.0]), [0.5, 2.0, 9.0], "lower")
    array([100.,  50.,   0.])
    """
    below = distribution.below(scores)
    return np.round(100 * (1 - below if direction == "lower" else below))
