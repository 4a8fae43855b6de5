"""Curves of errors against discards, from comparisons that are ranked by quality. NumPy alone.

Source: Grother and Tabassi, "Performance of Biometric Quality Measures", TPAMI 2007; ISO/IEC 29794-1; Schlett et al.,
"Considerations on the Evaluation of Biometric Quality Assessment Algorithms", TBIOM 2023 (arXiv 2303.13294).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

RATIOS = tuple(step / 20 for step in range(20))
"""The shares of the comparisons that the protocol `rethreshold` discards."""

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""The shares of the comparisons that the operating points discard."""


@dataclass(frozen=True)
class Comparisons:
    """Comparisons of two samples each: how similar they are, whether they are of one identity, their pair qualities.

    `quality` (comparisons, methods) is higher for better pairs, NaN for those of a sample without a score, which are
    discarded first.
    """

    similarity: Floats
    genuine: Booleans
    quality: Floats


@dataclass(frozen=True)
class Curve:
    """One curve: from the share `discarded[i]` on, up to the next, the error rate is `error_rate[i]`.

    It begins at nothing discarded, with the error rate `e0`. `threshold` is the similarity from which on a comparison
    matches, at nothing discarded, and `fmr` the false match rate that it reaches; `without_score` counts the
    comparisons that are discarded first, as a sample of theirs has no score.
    """

    discarded: Floats
    error_rate: Floats
    threshold: float
    fmr: float
    protocol: str
    without_score: int

    @property
    def e0(self) -> float:
        """The error rate before anything is discarded."""
        return float(self.error_rate[0])

    def area(self, x_max: float) -> float:
        """The partial area under the curve, pAUC, from 0 to `x_max`: of its steps, or of straight lines between them.

        The protocol `fixed` has steps, `rethreshold` straight lines between its twenty points, the last of which holds
        from 0.95 on. Raises ValueError for an `x_max` that is not above 0 and up to 1.

        >>> from grafiqs.evaluate import edc
        >>> curve = edc([0.9, 0.2, 0.8, 0.7], [1, 1, 1, 1], [4, 1, 3, 2], threshold=0.5)
        >>> curve.area(0.5)  # a quarter of the comparisons are discarded before the one error is
        0.0625
        """
        if not 0 < x_max <= 1:
            raise ValueError(f"x_max is {x_max}: it lies above 0, and up to 1")
        if self.protocol == "fixed":
            ends = np.minimum(np.append(self.discarded[1:], 1.0), x_max)
            return float((np.maximum(ends - self.discarded, 0.0) * self.error_rate).sum())
        inside = self.discarded < x_max
        x = np.append(self.discarded[inside], x_max)
        return float(np.trapezoid(np.interp(x, self.discarded, self.error_rate), x))

    def areas(self, x_max: float) -> dict[str, float]:
        """The area in all normalisations that are in use, by name; NaN where one is not defined.

        `pauc` is the area itself, `pauc_mean` divided by `x_max`, `pauc_normalised` by `e0` times `x_max`, so that 1
        means no gain, and `pauc_relative` 0 for the best curve there can be and 1 for no gain.

        >>> from grafiqs.evaluate import edc
        >>> edc([0.9, 0.2, 0.8, 0.7], [1, 1, 1, 1], [4, 1, 3, 2], threshold=0.5).areas(0.5)["pauc_normalised"]
        0.5
        """
        area, e0 = self.area(x_max), self.e0
        flat, best = e0 * x_max, e0**2 / 2 - max(0.0, e0 - x_max) ** 2 / 2
        return {
            "pauc": area,
            "pauc_mean": area / x_max,
            "pauc_normalised": area / flat if flat else math.nan,
            "pauc_relative": (area - best) / (flat - best) if flat > best else math.nan,
        }

    def at(self, share: float) -> float:
        """The error rate when this share of the comparisons is discarded."""
        return float(self.error_rate[np.searchsorted(self.discarded, share, side="right") - 1])


@dataclass(frozen=True)
class OperatingPoint:
    """What is gained by discarding: samples whose score is worse than `score_threshold` are discarded.

    `discard` is the share of genuine comparisons that was asked for, `discarded` the one that whole groups of equal
    scores come to, at most that; `fnmr` is left. `score_threshold` is None where nothing can be discarded.
    """

    discard: float
    discarded: float
    score_threshold: float | None
    fnmr: float


def matching_from(
    compared: Comparisons,
    *,
    fmr: float | None = None,
    starting_error: float | None = None,
    threshold: float | None = None,
) -> float:
    """The similarity from which on a comparison matches. Raises ValueError when it cannot be found."""
    if threshold is not None:
        if math.isnan(threshold):
            raise ValueError("the threshold is not a number")
        return float(threshold)
    rate = fmr if fmr is not None else starting_error
    if rate is None or not 0 <= rate < 1:
        raise ValueError(f"a rate lies from 0 up to 1, and {rate} does not")
    own = compared.similarity[compared.genuine == (fmr is None)]
    if not len(own):
        raise ValueError(
            f"there is no {'impostor' if fmr is not None else 'genuine'} comparison to find a threshold with"
        )
    if fmr is None:
        return float(np.quantile(own, rate))
    return above(own, accepted(rate, len(own)))


def accepted(fmr: float, impostors: int) -> int:
    """How many of so many impostors may match: the largest whole number up to their share `fmr`.

    Rounded up from a billionth below, so that 0.29 of 100 are 29, whatever floating point makes of it.
    """
    return math.floor(fmr * impostors + 1e-9)


def above(impostors: Floats, count: int) -> float:
    """The least number that at most `count` of the similarities reach: next above the (count + 1)-th highest."""
    place = len(impostors) - 1 - count
    return float(np.nextafter(np.partition(impostors, place)[place], np.inf))


def starts(ranked: Floats) -> NDArray[np.int64]:
    """Where each group of equal values begins among sorted ones."""
    return np.concatenate([[0], np.flatnonzero(ranked[1:] != ranked[:-1]) + 1])


@dataclass(frozen=True)
class Ranking:
    """Comparisons from the worst quality to the best, and where each group of equal qualities begins.

    `quality` are those of the groups; what has none stands before all, with minus infinity.
    """

    order: NDArray[np.int64]
    groups: NDArray[np.int64]
    quality: Floats

    @staticmethod
    def of(quality: Floats) -> Ranking:
        """Rank comparisons by their qualities (N,), NaN if a sample has none."""
        ranked = np.where(np.isnan(quality), -np.inf, quality)
        order = np.argsort(ranked, kind="stable")
        groups = starts(ranked[order])
        return Ranking(order, groups, ranked[order][groups])

    @property
    def without_score(self) -> int:
        """How many comparisons have no quality."""
        if self.quality[0] != -np.inf:
            return 0
        return int(self.groups[1]) if len(self.groups) > 1 else len(self.order)

    def worst(self, direction: str) -> float:
        """The score of the worst comparisons: NaN if these have none. `direction` is that of the scores."""
        found = float(self.quality[0]) * (1.0 if direction == "higher" else -1.0)
        return found if math.isfinite(found) else math.nan

    def thresholds(self, direction: str) -> Floats:
        """For each group, the score that discards all before it: samples whose score is worse are discarded.

        `direction` is that of the scores. NaN at the first, before which there is nothing to discard.
        """
        found = self.quality * (1.0 if direction == "higher" else -1.0)
        found[0] = math.nan
        return found


def curve_of(
    compared: Comparisons,
    ranking: Ranking,
    protocol: str = "fixed",
    error: str = "fnmr",
    *,
    fmr: float | None = None,
    starting_error: float | None = None,
    threshold: float | None = None,
) -> Curve:
    """The curve of `edc`, of comparisons that are ranked already.

    Ranked are those that `error` counts; for the protocol `rethreshold`, all.
    """
    limit = matching_from(compared, fmr=fmr, starting_error=starting_error, threshold=threshold)
    impostors = compared.similarity[~compared.genuine]
    reached = float((impostors >= limit).mean()) if len(impostors) else math.nan
    counted = compared.genuine if error == "fnmr" else ~compared.genuine
    if protocol == "fixed":
        alike = compared.similarity[counted]
        x, rate = _steps(ranking, (alike < limit) if error == "fnmr" else (alike >= limit))
        without = ranking.without_score
    else:
        x, rate = _found_anew(compared, ranking, error, fmr, starting_error, threshold)
        without = int(counted[ranking.order[: ranking.without_score]].sum())
    return Curve(x, rate, limit, reached, protocol, without)


def points_of(curve: Curve, ranking: Ranking, direction: str, shares: Sequence[float] = SHARES) -> list[OperatingPoint]:
    """The operating points of a curve with a fixed threshold, of genuine comparisons that are ranked so."""
    points, thresholds = [], ranking.thresholds(direction)
    for share in shares:
        step = int(np.searchsorted(curve.discarded, share + 1e-12, side="right")) - 1
        limit = float(thresholds[step]) if step else None
        points.append(OperatingPoint(share, float(curve.discarded[step]), limit, float(curve.error_rate[step])))
    return points


def _steps(ranking: Ranking, wrong: Booleans) -> tuple[Floats, Floats]:
    """Shares discarded and error rates when comparisons are discarded, the lowest quality first, equal ones at once."""
    count = len(wrong)
    left = np.concatenate([np.cumsum(wrong[ranking.order][::-1])[::-1], [0]])
    return ranking.groups / count, left[ranking.groups] / (count - ranking.groups)


def _found_anew(
    compared: Comparisons,
    ranking: Ranking,
    error: str,
    fmr: float | None,
    starting_error: float | None,
    threshold: float | None,
) -> tuple[Floats, Floats]:
    """The same at RATIOS of all comparisons, each with a threshold of what is left.

    Where a ratio would cut a group of equal qualities, the group stays. The curve ends before no comparison is left
    that it needs.
    """
    order, groups = ranking.order, ranking.groups
    x, rates = [], []
    for ratio in RATIOS:
        wanted = math.floor(ratio * len(order) + 1e-9)
        kept = order[groups[np.searchsorted(groups, wanted, side="right") - 1] :]
        left = Comparisons(compared.similarity[kept], compared.genuine[kept], compared.quality[kept])
        own = left.genuine if error == "fnmr" else ~left.genuine
        if not own.any():
            break
        try:
            limit = matching_from(left, fmr=fmr, starting_error=starting_error, threshold=threshold)
        except ValueError:  # no impostor is left
            break
        matching = left.similarity[own] >= limit
        x.append(ratio)
        rates.append(float((~matching if error == "fnmr" else matching).mean()))
    return np.array(x), np.array(rates)
