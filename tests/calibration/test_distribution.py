"""Where a score stands among those of a reference, against counting them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from grafiqs.calibration.distribution import STEPS, Distribution, quality

Floats = NDArray[np.float64]


def scores(count: int, kind: str) -> Floats:
    random = np.random.default_rng(count)
    return {
        "spread": random.normal(size=count),
        "tied": random.integers(0, 5, count).astype(float),
        "same": np.ones(count),
    }[kind]


def counted(reference: Floats, score: float) -> float:
    """The share below a score and half the share equal to it, by counting."""
    below = sum(1 for other in reference if other < score)
    equal = sum(1 for other in reference if other == score)
    return (below + equal / 2) / len(reference)


@pytest.mark.parametrize("kind", ["spread", "tied", "same"])
@pytest.mark.parametrize("count", [2, 3, 7, 100, 999, 1000, 5000])
def test_each_score_of_the_reference_has_its_own_share(count: int, kind: str) -> None:
    own = scores(count, kind)
    expected = [counted(own, score) for score in own[:300]]
    np.testing.assert_allclose(Distribution.of(own).below(own[:300]), expected, atol=1 / STEPS)


@pytest.mark.parametrize("direction", ["lower", "higher"])
@pytest.mark.parametrize("kind", ["spread", "tied", "same"])
def test_quality_never_falls_as_the_score_gets_better(kind: str, direction: str) -> None:
    own = scores(1000, kind)
    others = np.sort(np.concatenate([own, np.random.default_rng(1).normal(size=3000) * 5]))
    found = quality(Distribution.of(own), others if direction == "higher" else others[::-1], direction)
    assert (np.diff(found) >= 0).all()
    assert {0.0, 100.0} <= set(found.tolist())
    assert (found == np.round(found)).all()


def test_beyond_the_reference_and_without_a_score() -> None:
    distribution = Distribution.of([1.0, 2.0, 3.0])
    found = quality(distribution, [-math.inf, 0.9, 3.1, math.inf, math.nan], "lower")
    np.testing.assert_array_equal(found, [100, 100, 0, 0, math.nan])


@pytest.mark.parametrize("wrong", [[], [1.0], [1.0, math.nan], [1.0, math.inf], [[1.0, 2.0]]])
def test_what_is_no_distribution_is_refused(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="two scores at least"):
        Distribution.of(wrong)


def test_quantiles_that_cannot_be_are_refused() -> None:
    good = Distribution.of(np.arange(10.0))
    for quantiles in (good.quantiles[1:], good.quantiles[::-1], (math.nan, *good.quantiles[1:])):
        with pytest.raises(ValueError, match="quantiles that rise"):
            Distribution(quantiles, 10)
