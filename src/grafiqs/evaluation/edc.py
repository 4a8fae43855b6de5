"""Error versus discard characteristics: what is left of the errors when the worst samples are discarded. NumPy alone.

Source: Grother and Tabassi, "Performance of Biometric Quality Measures", TPAMI 2007; ISO/IEC 29794-1; Schlett et al.,
"Considerations on the Evaluation of Biometric Quality Assessment Algorithms", TBIOM 2023 (arXiv 2303.13294).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grafiqs.options.evaluate import DIRECTIONS, PROTOCOLS

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


def edc(
    similarity: ArrayLike,
    genuine: ArrayLike,
    quality: ArrayLike,
    *,
    fmr: float | None = None,
    starting_error: float | None = None,
    threshold: float | None = None,
    protocol: str = "fixed",
    error: str = "fnmr",
    direction: str = "higher",
) -> Curve:
    """How the error rate falls when comparisons of the worst samples are discarded.

    `similarity` (N,) and `genuine` (N,) are of comparisons; `quality` is (N, 2), of the two samples, or (N,), of the
    pair, which is the worse of the two; NaN is a sample without a score, discarded first. `direction` says whether a
    `higher` or a `lower` one is better.

    One of three gives the similarity from which on a comparison matches: the highest false match rate, `fmr`, of all
    impostors; the `starting_error`, which is the quantile of the genuine similarities; or the `threshold` itself.
    `error` is `fnmr`, of genuine comparisons, or `fmr`, of impostors. Comparisons of one quality are discarded at once.

    With `protocol="fixed"` the threshold stays. With `rethreshold`, the first 0, 5, ..., 95 % of all comparisons,
    genuine and impostors mixed, are discarded, and the threshold is found anew in the rest: the protocol of CR-FIQA's
    published evaluation (Boutros et al., CVPR 2023), which gives other numbers.

    Raises ValueError for lengths that differ, a similarity that is not a number, and no comparison of a needed kind.

    >>> similarity, genuine = [0.9, 0.8, 0.3, 0.7, 0.2, 0.1], [1, 1, 1, 1, 0, 0]
    >>> curve = edc(similarity, genuine, [4, 3, 1, 2, 4, 4], fmr=0.0)
    >>> curve.e0, curve.threshold > 0.2
    (0.0, True)
    >>> curve = edc(similarity, genuine, [4, 3, 1, 2, 4, 4], threshold=0.5)
    >>> curve.discarded.tolist(), curve.error_rate.tolist()
    ([0.0, 0.25, 0.5, 0.75], [0.25, 0.0, 0.0, 0.0])
    """
    compared = comparisons(similarity, genuine, quality, direction)
    if sum(value is not None for value in (fmr, starting_error, threshold)) != 1:
        raise ValueError("give one of fmr, starting_error and threshold")
    if protocol not in PROTOCOLS or error not in ("fnmr", "fmr"):
        raise ValueError(f"protocol is one of {', '.join(PROTOCOLS)}, error fnmr or fmr")
    counted = compared.genuine if error == "fnmr" else ~compared.genuine
    if not counted.any():
        raise ValueError(f"there is no {'genuine' if error == 'fnmr' else 'impostor'} comparison")
    ranking = Ranking.of(compared.quality[counted if protocol == "fixed" else slice(None), 0])
    return curve_of(compared, ranking, protocol, error, fmr=fmr, starting_error=starting_error, threshold=threshold)


def operating_points(
    similarity: ArrayLike,
    genuine: ArrayLike,
    quality: ArrayLike,
    *,
    fmr: float | None = None,
    starting_error: float | None = None,
    threshold: float | None = None,
    direction: str = "higher",
    shares: Sequence[float] = SHARES,
) -> list[OperatingPoint]:
    """At which score to discard, and what that leaves: a row for each of the `shares` of the genuine comparisons.

    The arguments are those of `edc`, with a fixed threshold of similarity. Raises ValueError as that does.

    >>> similarity, genuine = [0.9, 0.8, 0.3, 0.7, 0.2, 0.1], [1, 1, 1, 1, 0, 0]
    >>> (point,) = operating_points(similarity, genuine, [9, 7, 2, 5, 9, 9], threshold=0.5, shares=[0.25])
    >>> point.score_threshold, point.fnmr  # discard what is below 5
    (5.0, 0.0)
    """
    compared = comparisons(similarity, genuine, quality, direction)
    if not compared.genuine.any():
        raise ValueError("there is no genuine comparison")
    ranking = Ranking.of(compared.quality[compared.genuine, 0])
    curve = curve_of(compared, ranking, fmr=fmr, starting_error=starting_error, threshold=threshold)
    return points_of(curve, ranking, direction, shares)


def equal_error_rate(similarity: ArrayLike, genuine: ArrayLike) -> float:
    """The EER: the least rate that FNMR and FMR both stay within, at one threshold of similarity; NaN without a kind.

    >>> equal_error_rate([0.9, 0.8, 0.3, 0.7, 0.4, 0.1, 0.2, 0.0], [1, 1, 1, 1, 0, 0, 0, 0])
    0.25
    """
    alike, same = np.asarray(similarity, np.float64), np.asarray(genuine, bool)
    rising, impostors = np.sort(alike[same]), np.sort(alike[~same])
    if not len(rising) or not len(impostors):
        return math.nan
    limits = np.append(rising, np.nextafter(impostors[-1], np.inf))
    missed = np.searchsorted(rising, limits, side="left") / len(rising)
    matched = 1 - np.searchsorted(impostors, limits, side="left") / len(impostors)
    return float(np.maximum(missed, matched).min())


def comparisons(similarity: ArrayLike, genuine: ArrayLike, quality: ArrayLike, direction: str) -> Comparisons:
    """The comparisons as arrays, with pair qualities of which higher ones are better.

    `quality` (N,) or (N, 2) is that of one method. Raises ValueError as `edc` does.
    """
    alike, same = np.asarray(similarity, np.float64), np.asarray(genuine)
    own = np.asarray(quality, np.float64)
    if direction not in DIRECTIONS:
        raise ValueError(f"direction is one of {', '.join(DIRECTIONS)}")
    if alike.ndim != 1 or same.shape != alike.shape or own.shape not in (alike.shape, (*alike.shape, 2)):
        raise ValueError("similarity and genuine are one number a comparison, quality one or two")
    if not np.isin(same, (0, 1)).all():
        raise ValueError("genuine is true or false, 1 or 0")
    if np.isnan(alike).any():
        raise ValueError(f"the similarity of {int(np.isnan(alike).sum())} comparisons is not a number")
    if direction == "lower":
        own = -own
    if own.ndim == 2:
        own = own.min(axis=1)  # NaN if either is
    return Comparisons(alike, same.astype(bool), own[:, None])


def matching_from(
    compared: Comparisons,
    *,
    fmr: float | None = None,
    starting_error: float | None = None,
    threshold: float | None = None,
) -> float:
    """The similarity from which on a comparison matches. Raises ValueError when it cannot be found."""
    if threshold is not None:
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
    points = []
    for share in shares:
        step = int(np.searchsorted(curve.discarded, share + 1e-12, side="right")) - 1
        limit = None
        if step:
            limit = float(ranking.quality[step]) * (1.0 if direction == "higher" else -1.0)
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
