"""Error versus discard characteristics: what is left of the errors when the worst samples are discarded. NumPy alone.

Source: Grother and Tabassi, "Performance of Biometric Quality Measures", TPAMI 2007; ISO/IEC 29794-1; Schlett et al.,
"Considerations on the Evaluation of Biometric Quality Assessment Algorithms", TBIOM 2023 (arXiv 2303.13294).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from grafiqs.evaluation.curve import SHARES, Comparisons, Curve, OperatingPoint, Ranking, curve_of, points_of
from grafiqs.options.evaluate import DIRECTIONS, PROTOCOLS


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
