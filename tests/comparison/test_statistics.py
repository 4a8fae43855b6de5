"""The statistics of comparisons: cases computed by hand, and plain implementations from the definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from grafiqs.comparison.statistics import (
    describe,
    ks_critical,
    ks_distance,
    over_runs,
    percentiles,
    rank_correlations,
    ranks,
    variance_shares,
)
from grafiqs.comparison.student import t_quantile

EXACT = 1e-12


def tied(seed: int, count: int) -> np.ndarray:
    """Numbers of which many are equal."""
    return np.random.default_rng(seed).lognormal(3, 1, count).round(0)


# -- plain, from the definitions -----------------------------------------------------------------------------


def plain_distance(first: list[float], second: list[float]) -> float:
    largest = 0.0
    for at in first + second:
        below = [sum(value <= at for value in each) / len(each) for each in (first, second)]
        largest = max(largest, abs(below[0] - below[1]))
    return largest


def plain_ranks(values: list[float]) -> list[float]:
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2 for value in values
    ]


def plain_correlation(first: list[float], second: list[float]) -> float:
    one, other = plain_ranks(first), plain_ranks(second)
    middle = (len(one) + 1) / 2
    product = math.fsum((a - middle) * (b - middle) for a, b in zip(one, other, strict=True))
    squares = [math.fsum((a - middle) ** 2 for a in each) for each in (one, other)]
    return product / math.sqrt(squares[0] * squares[1])


def plain_share(values: list[float], identities: list[int]) -> float:
    groups = [[v for v, i in zip(values, identities, strict=True) if i == one] for one in sorted(set(identities))]
    mean = math.fsum(values) / len(values)
    own = [math.fsum(group) / len(group) for group in groups]
    between = math.fsum(len(group) * (m - mean) ** 2 for group, m in zip(groups, own, strict=True))
    within = math.fsum((v - m) ** 2 for group, m in zip(groups, own, strict=True) for v in group)
    msb, msw = between / (len(groups) - 1), within / (len(values) - len(groups))
    n0 = (len(values) - sum(len(group) ** 2 for group in groups) / len(values)) / (len(groups) - 1)
    variance = (msb - msw) / n0
    return max(variance, 0) / (max(variance, 0) + msw)


@pytest.mark.parametrize("seed", range(4))
def test_distances_and_correlations_are_those_of_the_definitions(seed: int) -> None:
    first, second = tied(seed, 150), tied(seed + 100, 150) + tied(seed, 150) // 2
    assert len(set(first)) < 100
    assert ks_distance(first, second[:90]) == pytest.approx(
        plain_distance(list(first), list(second[:90])), rel=EXACT, abs=EXACT
    )
    assert ranks(first).tolist() == plain_ranks(list(first))
    found = rank_correlations([first, second, -first])
    assert found[0, 1] == pytest.approx(plain_correlation(list(first), list(second)), rel=EXACT, abs=EXACT)
    assert found[1, 2] == -found[0, 1]
    assert np.diag(found).tolist() == [1.0, 1.0, 1.0]
    assert found[0, 2] == -1.0


@pytest.mark.parametrize("seed", range(4))
def test_shares_are_those_of_the_definition_with_unequal_sizes_and_in_any_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    identities = random.integers(0, 30, 120)
    values = tied(seed, 120) + 20 * random.normal(size=30)[identities]
    found = variance_shares(values, identities)
    assert found.between == pytest.approx(plain_share(values.tolist(), identities.tolist()), rel=EXACT, abs=EXACT)
    assert found.within == 1 - found.between
    assert (found.identities, found.single) == (
        len(set(identities.tolist())),
        sum(identities.tolist().count(one) == 1 for one in set(identities.tolist())),
    )
    other = random.permutation(120)
    again = variance_shares(values[other], 7 - identities[other])
    assert again.between == pytest.approx(found.between, rel=EXACT, abs=EXACT)


# -- by hand ---------------------------------------------------------------------------------------------------


def test_a_share_by_hand() -> None:
    # Means 2 and 6 of 4; MSB = 2 * (4 + 4) / 1 = 16, MSW = (1 + 1 + 1 + 1) / 2 = 2, n0 = 2: 7 / (7 + 2).
    assert variance_shares(np.array([1.0, 3.0, 5.0, 7.0]), np.array([0, 0, 1, 1])).between == pytest.approx(7 / 9)
    # Sizes 1 and 3, n0 = 4 - 10 / 4 = 1.5; means 9 and 2 of 3.75: MSB = 5.25^2 + 3 * 1.75^2 = 36.75, MSW = 1.
    found = variance_shares(np.array([9.0, 1.0, 2.0, 3.0]), np.array([4, 6, 6, 6]))
    assert found.between == pytest.approx((35.75 / 1.5) / (35.75 / 1.5 + 1))
    assert (found.identities, found.single, found.clipped) == (2, 1, False)


def test_less_between_identities_than_chance_gives_is_clipped_and_said() -> None:
    found = variance_shares(np.array([1.0, 3.0, 1.0, 3.0]), np.array([0, 0, 1, 1]))
    assert (found.between, found.within, found.clipped) == (0.0, 1.0, True)


@pytest.mark.parametrize(
    ("values", "identities"),
    [
        ([1.0, 2.0, 3.0], [0, 0, 0]),  # one identity
        ([1.0, 2.0, 3.0], [0, 1, 2]),  # none with two samples
        ([0.1, 0.1, 0.1, 0.1], [0, 0, 1, 1]),  # nothing varies
        ([5.0], [0]),
    ],
)
def test_an_undefined_share_is_no_number(values: list[float], identities: list[int]) -> None:
    found = variance_shares(np.array(values), np.array(identities))
    assert math.isnan(found.between)
    assert not found.clipped


def test_identities_that_are_all_alike_within_share_everything_between() -> None:
    assert variance_shares(np.array([1.0, 1.0, 2.0, 2.0]), np.array([0, 0, 1, 1])).between == 1.0


def test_a_description_by_hand_and_in_any_order() -> None:
    values = np.array([4.0, 1.0, 3.0, 2.0, 10.0])
    found = describe(values)
    assert found["mean"] == 4.0
    assert found["std"] == pytest.approx(math.sqrt((0 + 9 + 1 + 4 + 36) / 4))
    assert [found[name] for name in ("min", "q25", "median", "q75", "max")] == [1.0, 2.0, 3.0, 4.0, 10.0]
    assert found["q95"] == pytest.approx(4 + 0.8 * 6)
    assert describe(values[[4, 2, 0, 1, 3]]) == found
    assert percentiles(values)[[0, 50, 100]].tolist() == [1.0, 3.0, 10.0]


def test_equal_values_have_no_deviation_and_no_correlation() -> None:
    same = np.full(7, 0.1)
    assert describe(same)["std"] == 0.0
    found = rank_correlations([same, np.arange(7.0)])
    assert np.isnan(found[0]).all()
    assert found[1, 1] == 1.0
    assert math.isnan(describe(same[:1])["std"])
    assert np.isnan(rank_correlations([np.array([1.0]), np.array([2.0])])).all()


def test_distances_by_hand() -> None:
    assert ks_distance(np.array([1.0, 2.0]), np.array([2.0, 1.0])) == 0.0
    assert ks_distance(np.array([1.0, 2.0]), np.array([3.0])) == 1.0
    assert ks_distance(np.array([1.0, 2.0, 2.0, 3.0]), np.array([2.0, 2.0])) == 0.25
    assert ks_critical(50, 200) == pytest.approx(1.3581015 * math.sqrt(250 / 10_000))


# -- Student's t -----------------------------------------------------------------------------------------------

TABLE = {  # 97.5 %
    1: 12.7062047, 2: 4.3026527, 3: 3.1824463, 4: 2.7764451, 5: 2.5705818, 6: 2.4469119, 7: 2.3646243, 8: 2.3060041,
    9: 2.2621572, 10: 2.2281389, 20: 2.0859634, 30: 2.0422725, 60: 2.0002978, 120: 1.9799304,
}  # fmt: skip


@pytest.mark.parametrize(("degrees", "value"), TABLE.items())
def test_quantiles_are_those_of_the_tables(degrees: int, value: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(value, abs=1e-6)


def test_other_quantiles() -> None:
    assert t_quantile(0.95, 1) == pytest.approx(6.3137515, abs=1e-6)
    assert t_quantile(0.995, 4) == pytest.approx(4.6040949, abs=1e-6)
    assert t_quantile(0.5, 3) == 0.0
    assert t_quantile(0.975, 100_001) == pytest.approx(1.9599877, abs=1e-6)
    for wrong in (0.4, 1.0):
        with pytest.raises(ValueError, match="no quantile"):
            t_quantile(wrong, 3)
    with pytest.raises(ValueError, match="no quantile"):
        t_quantile(0.975, 0)


def test_an_interval_by_hand() -> None:
    found = over_runs([10.0, math.nan, 14.0, 12.0])
    assert (found.runs, found.mean, found.std) == (3, 12.0, 2.0)
    half = 4.30265273 * 2 / math.sqrt(3)
    assert (found.low, found.high) == pytest.approx((12 - half, 12 + half), abs=1e-6)
    assert over_runs([14.0, 12.0, 10.0]) == found


def test_one_run_has_no_interval_and_none_no_mean() -> None:
    one = over_runs([3.0])
    assert (one.runs, one.mean) == (1, 3.0)
    assert math.isnan(one.low)
    assert math.isnan(one.std)
    assert over_runs([math.nan]).runs == 0
    assert math.isnan(over_runs([]).mean)
