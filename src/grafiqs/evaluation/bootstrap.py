"""How far the figures of an evaluation would spread with other people: a bootstrap that draws identities.

Comparisons of one identity are not independent, so that intervals from draws of comparisons would be too narrow. An
identity that is drawn twice brings its genuine comparisons twice, and those with another, drawn three times, six times.
Source: Bolle et al., "The relation between the ROC curve and the CMC", AutoID 2005, section on subsets bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grafiqs.evaluation.curve import RATIOS, Comparisons, accepted, starts

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_PREFIX = 4
"""How many times as many of the most similar impostors are looked at first as a threshold takes, on average."""


@dataclass(frozen=True)
class Areas:
    """Areas, pAUC (rounds, methods, rates, limits) and e0 (rounds, rates) of every round."""

    pauc: Floats
    e0: Floats


class Bootstrap:
    """Comparisons that can be weighed anew, round by round, without sorting them again.

    `identities` (N, 2) number the identities of the two samples of every comparison, from 0 on.
    """

    def __init__(self, compared: Comparisons, identities: Integers) -> None:
        self.people = int(identities.max()) + 1
        genuine = np.flatnonzero(compared.genuine)
        rising = genuine[np.argsort(compared.similarity[genuine], kind="stable")]
        impostors = np.flatnonzero(~compared.genuine)
        falling = impostors[np.argsort(-compared.similarity[impostors], kind="stable")]
        self._genuine = compared.similarity[rising]
        self._whose = np.ascontiguousarray(identities[rising, 0], np.int32)
        self._impostor = compared.similarity[falling]
        self._two = np.ascontiguousarray(identities[falling].T, np.int32)
        quality = np.where(np.isnan(compared.quality), -np.inf, compared.quality)
        self._own = [_Ranked.of(quality[rising, method]) for method in range(quality.shape[1])]
        both = np.concatenate([rising, falling])
        self._mixed = [_Ranked.of(quality[both, method]) for method in range(quality.shape[1])]

    def rounds(
        self,
        count: int,
        seed: int,
        rates: Sequence[float],
        limits: Sequence[float],
        protocol: str = "fixed",
        starting: bool = False,
        watch: Callable[[], object] = lambda: None,
    ) -> Areas:
        """The areas of `count` draws of identities; `rates` are false match rates, or, if `starting`, starting errors.

        `watch` is called after every round.
        """
        random = np.random.default_rng(seed)
        pauc = np.empty((count, len(self._own), len(rates), len(limits)))
        e0 = np.empty((count, len(rates)))
        for number in range(count):
            drawn = random.integers(0, self.people, self.people)
            weights = np.bincount(drawn, minlength=self.people).astype(np.int64)
            pauc[number], e0[number] = self.weighed(weights, rates, limits, protocol, starting)
            watch()
        return Areas(pauc, e0)

    def weighed(
        self,
        weights: Integers,
        rates: Sequence[float],
        limits: Sequence[float],
        protocol: str = "fixed",
        starting: bool = False,
    ) -> tuple[Floats, Floats]:
        """Areas (methods, rates, limits) and e0 (rates,) when each identity is there `weights` times."""
        genuine = weights[self._whose]
        if protocol == "fixed":
            missed = [self._missed(weights, genuine, rate, starting) for rate in rates]
            total = int(genuine.sum())
            pauc = [own.areas(genuine, total, missed, limits) for own in self._own]
            e0 = np.array([genuine[:count].sum() / total if total else np.nan for count in missed])
            return np.array(pauc), e0
        impostor = weights[self._two[0]] * weights[self._two[1]]
        curves = np.array([self._anew(own, genuine, impostor, rates, starting) for own in self._mixed])
        x = np.array(RATIOS)
        pauc_anew = np.empty((*curves.shape[:2], len(limits)))
        for place, limit in enumerate(limits):
            points = np.append(x[x < limit], limit)
            for index in np.ndindex(curves.shape[:2]):
                known = ~np.isnan(curves[index])
                line = np.interp(points, x[known], curves[index][known]) if known.any() else points * np.nan
                pauc_anew[(*index, place)] = np.trapezoid(line, points)
        return pauc_anew, curves[0, :, 0]

    def _missed(self, weights: Integers, genuine: Integers, rate: float, starting: bool) -> int:
        """How many genuine comparisons, from the least similar on, do not match at a rate."""
        if starting:
            return _below_quantile(self._genuine, genuine, rate)
        first, second = self._two
        total = int(np.dot(weights[first], weights[second]))
        count = accepted(rate, total)
        for length in _lengths(rate, len(self._impostor)):
            reached = np.cumsum(weights[first[:length]] * weights[second[:length]])
            place = int(np.searchsorted(reached, count, side="right"))
            if place < length:
                # A comparison matches that is more similar than this impostor.
                return int(np.searchsorted(self._genuine, self._impostor[place], side="right"))
        return 0  # no impostor is left to set a threshold

    def _anew(
        self, own: _Ranked, genuine: Integers, impostor: Integers, rates: Sequence[float], starting: bool
    ) -> Floats:
        """The error rates (rates, RATIOS), each with a threshold among what is left; NaN where nothing is."""
        size = len(genuine)
        counts = [
            np.bincount(group, weights, len(own.ends)).astype(np.int64).cumsum()
            for group, weights in ((own.group[:size], genuine), (own.group[size:], impostor))
        ]
        gone = counts[0] + counts[1]
        left = [np.append(each[-1], each[-1] - each) for each in counts]  # when so many groups are gone
        found = np.full((len(rates), len(RATIOS)), np.nan)
        for place, ratio in enumerate(RATIOS):
            wanted = np.floor(ratio * gone[-1] + 1e-9)
            first = int(np.searchsorted(gone, wanted, side="right"))  # the first group that stays
            if not left[0][first] or not (starting or left[1][first]):
                break
            for number, rate in enumerate(rates):
                if starting:
                    stay = np.where(own.group[:size] >= first, genuine, 0)
                    missed = _below_quantile(self._genuine, stay, rate)
                else:
                    count = accepted(rate, int(left[1][first]))
                    missed = self._missed_above(own.group[size:], first, impostor, count, rate)
                errors = np.where(own.group[:missed] >= first, genuine[:missed], 0)
                found[number, place] = errors.sum() / left[0][first]
        return found

    def _missed_above(self, group: NDArray[np.int32], first: int, impostor: Integers, count: int, rate: float) -> int:
        for length in _lengths(rate, len(self._impostor)):
            reached = np.cumsum(np.where(group[:length] >= first, impostor[:length], 0))
            place = int(np.searchsorted(reached, count, side="right"))
            if place < length:
                return int(np.searchsorted(self._genuine, self._impostor[place], side="right"))
        return 0


@dataclass(frozen=True)
class _Ranked:
    """Comparisons ranked by quality: `order` from the worst on, the `group` of equals of each, the `ends` of groups."""

    order: NDArray[np.int32]
    group: NDArray[np.int32]
    ends: Integers

    @staticmethod
    def of(quality: Floats) -> _Ranked:
        order = np.argsort(quality, kind="stable")
        new = starts(quality[order])
        group = np.empty(len(order), np.int32)
        group[order] = np.repeat(np.arange(len(new)), np.diff(np.append(new, len(order))))
        return _Ranked(order.astype(np.int32), group, np.append(new[1:], len(order)).astype(np.int64))

    def areas(self, weights: Integers, total: int, missed: Sequence[int], limits: Sequence[float]) -> Floats:
        """Areas (rates, limits) with weighted comparisons, of which the first `missed` are errors.

        An error counts in every step up to that in which it is discarded: the area is the sum over errors of what the
        steps before come to.
        """
        found = np.full((len(missed), len(limits)), np.nan)
        if not total:
            return found
        for length in _lengths(max(limits) / 2.5, len(self.order)):
            whole = int(np.searchsorted(self.ends, length, side="right"))  # groups that lie within
            ends = self.ends[:whole]
            gone = np.cumsum(weights[self.order[:length]])[ends - 1] if whole else np.zeros(0, np.int64)
            if whole and (gone[-1] >= max(limits) * total or length == len(self.order)):
                break
        before = np.concatenate([[0], gone[:-1]])
        left = np.maximum(total - before, 1)  # behind the last comparison, steps have no width
        for place, limit in enumerate(limits):
            width = np.minimum(gone, limit * total) - before
            steps = np.cumsum(np.maximum(width, 0) / left)
            for number, count in enumerate(missed):
                wrong = np.minimum(self.group[:count], whole - 1)
                found[number, place] = (weights[:count] * steps[wrong]).sum() / total
        return found


def _below_quantile(rising: Floats, weights: Integers, rate: float) -> int:
    """How many of the rising values lie below their weighted quantile, as `np.quantile` has it (linear)."""
    reached = np.cumsum(weights)
    if not reached[-1]:
        return 0
    place = rate * (int(reached[-1]) - 1)
    lower, upper = (
        rising[np.searchsorted(reached, number, side="right")] for number in (int(place), int(np.ceil(place)))
    )
    return int(np.searchsorted(rising, lower + (upper - lower) * (place - int(place)), side="left"))


def _lengths(rate: float, count: int) -> Iterator[int]:
    """How many of `count` to look at: the first ones in which what is wanted lies as a rule, then all."""
    short = int(_PREFIX * rate * count) + 1000
    if short < count:
        yield short
    yield count
