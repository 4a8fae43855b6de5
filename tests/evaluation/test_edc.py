"""The curves against hand-computed cases, their properties, and a slow, plain computation from the definition."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from grafiqs.evaluation.curve import RATIOS, Ranking
from grafiqs.evaluation.edc import edc, operating_points

Floats = NDArray[np.float64]

# Six genuine comparisons and four impostors; two groups of equal qualities.
SIMILARITY = [0.9, 0.8, 0.3, 0.7, 0.2, 0.6, 0.1, 0.4, 0.5, 0.0]
GENUINE = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
QUALITY = [5, 4, 1, 4, 1, 3, 2, 6, 1, 3]


def test_a_case_by_hand() -> None:
    """FMR 1/4: one impostor of four may match, so that 0.4, the second highest, does not: genuine 0.3 and 0.2 fail."""
    curve = edc(SIMILARITY, GENUINE, QUALITY, fmr=0.25)
    assert curve.threshold == math.nextafter(0.4, 1)
    assert curve.fmr == 0.25
    # Both errors have quality 1, and go at once; then 3, then both of quality 4.
    assert curve.discarded.tolist() == [0, 2 / 6, 3 / 6, 5 / 6]
    assert curve.error_rate.tolist() == [2 / 6, 0, 0, 0]
    assert curve.area(0.2) == pytest.approx(0.2 * 2 / 6, rel=1e-15)
    assert curve.area(0.5) == pytest.approx(2 / 6 * 2 / 6, rel=1e-15)
    areas = curve.areas(0.5)
    e0, best = 2 / 6, (2 / 6) ** 2 / 2
    assert areas["pauc_mean"] == pytest.approx(areas["pauc"] / 0.5)
    assert areas["pauc_normalised"] == pytest.approx(areas["pauc"] / (e0 * 0.5))
    assert areas["pauc_relative"] == pytest.approx((areas["pauc"] - best) / (e0 * 0.5 - best))
    impostors = edc(SIMILARITY, GENUINE, QUALITY, fmr=0.25, error="fmr")
    assert impostors.discarded.tolist() == [0, 1 / 4, 2 / 4, 3 / 4]  # 0.5 of quality 1, 0.1 of 2, 0.0 of 3, 0.4 of 6
    assert impostors.error_rate.tolist() == [1 / 4, 0, 0, 0]


def test_the_same_by_the_other_protocol() -> None:
    """Of ten comparisons, three have quality 1: they stay until 30 % are discarded, and the threshold is set anew."""
    curve = edc(SIMILARITY, GENUINE, QUALITY, fmr=0.25, protocol="rethreshold")
    # At 90 % an impostor alone is left: the curve ends before.
    assert curve.discarded.tolist() == list(RATIOS[:18])
    # From 30 % on, of the impostors 0.1, 0.4, 0.0 none may match: 0.4 does not, all genuine ones do.
    assert curve.error_rate.tolist() == [2 / 6] * 6 + [0.0] * 12
    assert curve.area(0.95) == pytest.approx(2 / 6 * 0.25 + 2 / 6 * 0.05 / 2)


def test_operating_points_by_hand() -> None:
    points = operating_points(SIMILARITY, GENUINE, QUALITY, fmr=0.25, shares=[0.1, 0.34, 0.5])
    assert [(point.discarded, point.score_threshold) for point in points] == [(0, None), (2 / 6, 3), (0.5, 4)]
    assert [point.fnmr for point in points] == [2 / 6, 0, 0]
    lower = operating_points(SIMILARITY, GENUINE, np.negative(QUALITY), fmr=0.25, direction="lower", shares=[0.34])
    assert lower[0].score_threshold == -3


def test_a_sample_without_a_score_is_discarded_first_and_counted() -> None:
    quality = [5.0, 4, 9, 4, math.nan, 3, 2, 6, 1, 3]
    curve = edc(SIMILARITY, GENUINE, quality, fmr=0.25)
    assert curve.without_score == 1
    assert curve.error_rate.tolist()[:2] == [2 / 6, 1 / 5]
    (point,) = operating_points(SIMILARITY, GENUINE, quality, fmr=0.25, shares=[0.2])
    assert (point.discarded, point.score_threshold, point.fnmr) == (1 / 6, 3.0, 1 / 5)


def test_the_scores_of_all_steps_by_hand() -> None:
    """Of qualities 5, 4, 1, 4, 1, 3 and a sample without a score: first that one goes, then those below 3, 4 and 5."""
    quality = np.array([5.0, 4, 1, 4, 1, 3, math.nan])
    assert Ranking.of(quality[:6]).thresholds("higher").tolist() == pytest.approx([math.nan, 3, 4, 5], nan_ok=True)
    ranking = Ranking.of(quality)
    assert ranking.thresholds("higher").tolist() == pytest.approx([math.nan, 1, 3, 4, 5], nan_ok=True)
    assert ranking.thresholds("lower").tolist() == pytest.approx([math.nan, -1, -3, -4, -5], nan_ok=True)
    assert ranking.quality.tolist() == [-math.inf, 1, 3, 4, 5]


def plain_area(similarity: Floats, genuine: NDArray[np.bool_], quality: Floats, fmr: float, x_max: float) -> float:
    """The area from the definition, in fractions, by loops."""
    impostors = sorted((s for s, same in zip(similarity, genuine, strict=True) if not same), reverse=True)
    allowed = math.floor(Fraction(fmr).limit_denominator(10**6) * len(impostors))
    highest = impostors[allowed]
    ranked = np.where(np.isnan(quality), -math.inf, quality)
    own = [(q, int(s <= highest)) for s, q, same in zip(similarity, ranked, genuine, strict=True) if same]
    area, x, limit = Fraction(0), Fraction(0), Fraction(x_max).limit_denominator(10**6)
    left = list(own)
    while left and x < limit:
        worst = min(q for q, _ in left)
        rate = Fraction(sum(wrong for _, wrong in left), len(left))
        left = [one for one in left if one[0] != worst]
        end = Fraction(len(own) - len(left), len(own))
        area += (min(end, limit) - x) * rate
        x = end
    return float(area)


@pytest.mark.parametrize("seed", range(30))
def test_any_data_agree_with_the_plain_computation(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(20, 200))
    genuine = random.random(count) < 0.5
    genuine[:2] = (True, False)
    similarity = np.round(random.normal(genuine * 1.5, 1), int(random.integers(1, 4)))
    pair = np.round(random.normal(size=(count, 2)), int(random.integers(0, 3)))
    pair[random.random(count) < 0.1, 1] = math.nan
    for fmr in (0.3, 0.1, 0.01):
        curve = edc(similarity, genuine, pair, fmr=fmr)
        for x_max in (0.2, 0.3, 0.95):
            expected = plain_area(similarity, genuine, pair.min(axis=1), fmr, x_max)
            assert curve.area(x_max) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.fixture
def data() -> tuple[Floats, NDArray[np.bool_], Floats]:
    random = np.random.default_rng(0)
    genuine = random.random(2000) < 0.5
    return random.normal(genuine * 2.0, 1), genuine, np.round(random.normal(size=(2000, 2)), 1)


@pytest.mark.parametrize("protocol", ["fixed", "rethreshold"])
def test_what_changes_nothing(protocol: str, data: tuple[Floats, NDArray[np.bool_], Floats]) -> None:
    similarity, genuine, quality = data
    curve = edc(similarity, genuine, quality, fmr=0.01, protocol=protocol)
    order = np.random.default_rng(1).permutation(len(genuine))
    for same in (
        edc(similarity[order], genuine[order], quality[order], fmr=0.01, protocol=protocol),
        edc(similarity, genuine, quality[:, ::-1], fmr=0.01, protocol=protocol),
        edc(similarity, genuine, np.exp(quality) + 3, fmr=0.01, protocol=protocol),
        edc(similarity, genuine, -quality, fmr=0.01, protocol=protocol, direction="lower"),
        edc(similarity, genuine, quality.min(axis=1), fmr=0.01, protocol=protocol),
    ):
        assert np.array_equal(same.error_rate, curve.error_rate)
        assert np.array_equal(same.discarded, curve.discarded)
        assert same.threshold == curve.threshold


def test_a_constant_quality_is_flat_and_a_perfect_one_is_the_best_there_can_be(
    data: tuple[Floats, NDArray[np.bool_], Floats],
) -> None:
    similarity, genuine, _ = data
    similarity = similarity + 2.3 * genuine
    flat = edc(similarity, genuine, np.ones(len(genuine)), fmr=0.01)
    assert flat.areas(0.3)["pauc_normalised"] == pytest.approx(1, rel=1e-12)
    wrong = genuine & (similarity < flat.threshold)
    perfect = edc(similarity, genuine, 1.0 - wrong + np.arange(len(wrong)) / 1e6, fmr=0.01)
    e0, count = perfect.e0, genuine.sum()
    assert 0.01 < e0 < 0.03
    # Errors left over comparisons left: the straight line that A_best is taken from, but for e0^3 / 6 and half a step.
    exact = e0 + (1 - e0) * math.log(1 - e0)
    assert perfect.area(0.95) == pytest.approx(exact, abs=e0 / count)
    assert exact == pytest.approx(e0**2 / 2, abs=e0**3 / 5)
    assert abs(perfect.areas(0.95)["pauc_relative"]) < 2 / count


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"similarity": [math.nan] * 10}, "the similarity of 10 comparisons is not a number"),
        ({"genuine": [0] * 10}, "there is no genuine comparison"),
        ({"genuine": [1] * 10}, "there is no impostor comparison to find a threshold with"),
        ({"genuine": [2] * 10}, "genuine is true or false"),
        ({"quality": [1] * 9}, "one number a comparison"),
        ({"fmr": 1.5}, "a rate lies from 0 up to 1"),
        ({"threshold": 0.5}, "give one of fmr, starting_error and threshold"),
        ({"direction": "up"}, "direction is one of lower, higher"),
    ],
)
def test_what_cannot_be_computed_is_refused(change: dict[str, object], said: str) -> None:
    given: dict[str, object] = {"similarity": SIMILARITY, "genuine": GENUINE, "quality": QUALITY, "fmr": 0.25}
    with pytest.raises(ValueError, match=said):
        edc(**(given | change))  # type: ignore[arg-type]


def test_a_starting_error_is_a_quantile_of_the_genuine_similarities() -> None:
    curve = edc(SIMILARITY, GENUINE, QUALITY, starting_error=0.3)
    assert curve.threshold == np.quantile(SIMILARITY[:6], 0.3)
    assert curve.e0 == 2 / 6
