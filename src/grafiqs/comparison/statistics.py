"""Statistics of scores, with NumPy alone: distributions, their distance, rank correlations, shares of the variance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grafiqs.comparison.student import t_quantile

Floats = NDArray[np.float64]

LEVEL = 0.95
"""Of every interval."""

QUANTILES = {"min": 0.0, "q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "max": 1.0}
"""The quantiles that describe a distribution."""


def describe(values: Floats) -> dict[str, float]:
    """Mean, standard deviation (over n - 1) and QUANTILES (linear between order statistics) of values (n,), n >= 1.

    The order of the values changes nothing, to the bit. The standard deviation of one value is NaN.

    >>> describe(np.array([3.0, 1.0, 2.0, 6.0]))["mean"], describe(np.array([3.0, 1.0, 2.0, 6.0]))["median"]
    (3.0, 2.5)
    """
    rising = np.sort(values)
    from_least = rising - rising[0]  # equal values have a deviation of 0, and not of a rounding
    deviation = float(from_least.std(ddof=1)) if len(values) > 1 else math.nan
    quantiles = np.quantile(rising, list(QUANTILES.values())).tolist()
    return {"mean": float(rising.mean()), "std": deviation, **dict(zip(QUANTILES, quantiles, strict=True))}


def percentiles(values: Floats) -> Floats:
    """The quantiles at 0, 1, ..., 100 % of values (n,), linear between order statistics: (101,)."""
    return np.asarray(np.quantile(values, np.linspace(0, 1, 101)))


def ks_distance(first: Floats, second: Floats) -> float:
    """The two-sample Kolmogorov-Smirnov distance: the largest difference between two empirical distributions.

    Source: Smirnov, "Table for estimating the goodness of fit of empirical distributions", Ann. Math. Stat. 1948.

    >>> ks_distance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0, 5.0, 6.0]))
    0.5
    """
    one, other = np.sort(first), np.sort(second)
    steps = np.concatenate([one, other])  # the distributions are constant in between
    below = [np.searchsorted(each, steps, side="right") / len(each) for each in (one, other)]
    return float(np.abs(below[0] - below[1]).max())


def ks_critical(first: int, second: int) -> float:
    """The distance that samples of one distribution, of these sizes, exceed in 5 % of all cases, if they are large.

    The asymptotic sqrt(-ln(0.05 / 2) / 2) * sqrt((n + m) / (n m)); it holds for independent values (Smirnov 1948).

    >>> round(ks_critical(100, 100), 4)
    0.1921
    """
    return math.sqrt(-math.log((1 - LEVEL) / 2) / 2 * (first + second) / (first * second))


def ranks(values: Floats) -> Floats:
    """The ranks of values (n,), from 1 on; equal values share the mean of theirs.

    >>> ranks(np.array([10.0, 30.0, 10.0])).tolist()
    [1.5, 3.0, 1.5]
    """
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[group])


def rank_correlations(columns: Sequence[Floats]) -> Floats:
    """Spearman's rank correlation of each two columns (n,), with mean ranks for ties: (columns, columns).

    NaN where a column is constant, or there are fewer than two rows.
    Source: Spearman 1904; with ties it is Pearson's correlation of the ranks.

    >>> rank_correlations([np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 2.0])])[0, 1].item()
    0.5
    """
    # Doubled, and about their mean, ranks are whole numbers: sums of them are exact, and equal orders give 1.
    whole = np.array([2 * ranks(column) - len(column) - 1 for column in columns])
    products = whole @ whole.T
    squares = np.diag(products)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.clip(products / np.sqrt(np.outer(squares, squares)), -1, 1))


@dataclass(frozen=True)
class Shares:
    """How the variance of a score is shared: `between` identities, and the rest within.

    `identities` of which `single` have one sample. If `clipped`, the estimate between was below 0, and is given as 0.
    NaN where it is undefined: one identity, none with two samples, or nothing varies.
    """

    between: float
    identities: int
    single: int
    clipped: bool

    @property
    def within(self) -> float:
        """The share within identities."""
        return 1 - self.between


def variance_shares(values: Floats, identities: NDArray[np.int64]) -> Shares:
    """The shares of the variance of values (n,) between and within `identities` (n,), numbers of any kind.

    The one-way random-effects model: a value is the mean of its identity and an error. From the mean squares MSB, MSW
    of the analysis of variance and n0 = (N - sum n_i^2 / N) / (k - 1), the variance between is (MSB - MSW) / n0, that
    within MSW, and the share between is the intraclass correlation ICC(1).
    Source: Shrout and Fleiss, "Intraclass correlations", Psychological Bulletin 1979; n0 for unequal sizes as in
    Searle, Casella and McCulloch, "Variance Components", 1992, section 3.6.

    >>> variance_shares(np.array([1.0, 3.0, 5.0, 7.0]), np.array([0, 0, 1, 1])).between
    0.7777777777777778
    """
    _, group, sizes = np.unique(identities, return_inverse=True, return_counts=True)
    total, people = len(values), len(sizes)
    single = int((sizes == 1).sum())
    undefined = Shares(math.nan, people, single, False)
    if people < 2 or total == people:
        return undefined
    centred = values - values.min()  # equal values become 0, and not a rounding of it
    centred -= centred.mean()
    means = np.bincount(group, centred) / sizes
    between = float(np.sort(sizes * means**2).sum()) / (people - 1)  # sorted: however the identities are numbered
    within = float(((centred - means[group]) ** 2).sum()) / (total - people)
    each = (total - float((sizes.astype(np.float64) ** 2).sum()) / total) / (people - 1)
    variance = (between - within) / each
    if not between and not within:
        return undefined
    share = variance / (variance + within) if variance > 0 else 0.0
    return Shares(share, people, single, variance < 0)


@dataclass(frozen=True)
class Interval:
    """The mean of a statistic over `runs`, its standard deviation, and its interval of 95 %; NaN for one run."""

    runs: int
    mean: float
    std: float
    low: float
    high: float


def over_runs(values: Sequence[float]) -> Interval:
    """The mean of a statistic over runs, with its interval of 95 % by Student's t; NaN are left out.

    The interval holds for independent runs; those that share samples lie closer together, and it is too narrow.
    Source: Student, "The probable error of a mean", Biometrika 1908.

    >>> [round(value, 3) for value in (over_runs([1.0, 2.0, 3.0]).low, over_runs([1.0, 2.0, 3.0]).high)]
    [-0.484, 4.484]
    """
    known = np.sort([value for value in values if not math.isnan(value)])
    count = len(known)
    if not count:
        return Interval(0, *[math.nan] * 4)
    mean = float(known.mean())
    if count == 1:
        return Interval(1, mean, *[math.nan] * 3)
    deviation = float((known - known[0]).std(ddof=1))
    half = t_quantile((1 + LEVEL) / 2, count - 1) * deviation / math.sqrt(count)
    return Interval(count, mean, deviation, mean - half, mean + half)
