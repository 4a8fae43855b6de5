"""Weighted areas against those of comparisons that are really there so many times."""

from __future__ import annotations

import numpy as np
import pytest

from grafiqs.evaluation.bootstrap import Bootstrap
from grafiqs.evaluation.curve import Comparisons
from grafiqs.evaluation.edc import edc

RATES, LIMITS = (0.05, 0.2), (0.2, 0.5, 0.95)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("protocol", ["fixed", "rethreshold"])
@pytest.mark.parametrize("starting", [False, True])
def test_weights_are_the_same_as_copies(seed: int, protocol: str, starting: bool) -> None:
    random = np.random.default_rng(seed)
    people, count = int(random.integers(3, 8)), 200
    first = random.integers(0, people, count)
    second = np.where(random.random(count) < 0.5, first, random.integers(0, people, count))
    genuine = first == second
    similarity = np.round(random.normal(genuine * 1.0, 1), int(random.integers(1, 3)))
    quality = np.round(random.normal(size=(count, 2)), int(random.integers(0, 3)))
    quality[random.random(count) < 0.05, 0] = np.nan
    weights = np.bincount(random.integers(0, people, people), minlength=people)
    copies = np.repeat(np.arange(count), np.where(genuine, weights[first], weights[first] * weights[second]))
    bootstrap = Bootstrap(Comparisons(similarity, genuine, quality), np.stack([first, second], axis=1))
    pauc, e0 = bootstrap.weighed(weights, RATES, LIMITS, protocol, starting)
    for place, rate in enumerate(RATES):
        for method in range(2):
            curve = edc(
                similarity[copies],
                genuine[copies],
                quality[copies, method],
                protocol=protocol,
                fmr=None if starting else rate,
                starting_error=rate if starting else None,
            )
            assert e0[place] == pytest.approx(curve.e0, abs=1e-15)
            for number, limit in enumerate(LIMITS):
                assert pauc[method, place, number] == pytest.approx(curve.area(limit), rel=1e-12, abs=1e-15)


def test_rounds_depend_on_the_seed_alone() -> None:
    random = np.random.default_rng(0)
    identities = random.integers(0, 20, (500, 2))
    compared = Comparisons(random.normal(size=500), identities[:, 0] == identities[:, 1], random.normal(size=(500, 2)))
    bootstrap = Bootstrap(compared, identities)
    first, again, other = (bootstrap.rounds(20, seed, RATES, LIMITS) for seed in (1, 1, 2))
    assert np.array_equal(first.pauc, again.pauc, equal_nan=True)
    assert not np.array_equal(first.pauc, other.pauc, equal_nan=True)
    assert first.pauc.shape == (20, 2, 2, 3)
