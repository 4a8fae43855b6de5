"""What runs say together: each function makes the rows of one part of compare.json."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.comparison import statistics
from grafiqs.comparison.runs import Compared

Row = dict[str, Any]


def networks(runs: Sequence[Compared]) -> list[Row]:
    """The networks, numbered from 1 on, with their runs, and what these differ in: {setting: {run: value}}."""
    found: dict[str, list[Compared]] = {}
    for run in runs:
        found.setdefault(run.network, []).append(run)
    return [_network(number, own) for number, own in enumerate(found.values(), start=1)]


def _network(number: int, runs: list[Compared]) -> Row:
    differ = {}
    for setting in dict.fromkeys(name for run in runs for name in run.settings):
        values = {run.name: run.settings.get(setting, "none") for run in runs}
        if len(set(values.values())) > 1:
            differ[setting] = values
    first = runs[0].about
    known = {name: first[name] for name in ("backbone", "weights_sha256", "norms")}
    return {"network": number, **known, "runs": [run.name for run in runs], "differ": differ}


def pair(first: Compared, second: Compared) -> Row:
    """What two runs share. Jaccard is the share of what both have in what either has."""
    one, other = np.unique(first.people), np.unique(second.people)
    people = len(one) + len(other)
    identities = len(np.intersect1d(one, other, assume_unique=True))
    samples = len(np.intersect1d(first.samples, second.samples, assume_unique=True))
    one, other = _shared(first, second)
    return {
        "first": first.name,
        "second": second.name,
        "same_network": first.network == second.network,
        "same_subset": first.about["subset_sha256"] == second.about["subset_sha256"],
        "identities": identities,
        "identities_jaccard": identities / (people - identities),
        "samples": samples,
        "samples_jaccard": samples / (len(first.samples) + len(second.samples) - samples),
        "scored": len(one),
        "other_images": int((first.images[one] != second.images[other]).sum()),
    }


def _shared(first: Compared, second: Compared) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of two runs' scores that are of shared samples, in one order."""
    names, others = first.samples[first.scored], second.samples[second.scored]
    _, one, other = np.intersect1d(names, others, assume_unique=True, return_indices=True)
    return one.astype(np.int64), other.astype(np.int64)


def correlations(first: Compared, second: Compared) -> Iterator[Row]:
    """For each score of two runs, the rank correlation on shared samples.

    For runs of one network also the largest relative difference on shared samples that are the same file.
    """
    alike = first.network == second.network
    one, other = _shared(first, second)
    same = first.images[one] == second.images[other]
    for score in _of_both(first, second):
        values = first.scores[score][one], second.scores[score][other]
        yield {
            "first": first.name,
            "second": second.name,
            "same_network": alike,
            "score": score,
            "n": len(one),
            "correlation": _correlation(*values),
            "largest_difference": _difference(values[0][same], values[1][same]) if alike else math.nan,
        }


def between_networks(networks: Sequence[Row], runs: Sequence[Compared]) -> Iterator[Row]:
    """For each two networks and each score, the rank correlation on all samples that runs of both have.

    A sample that several runs of a network have counts once, with the score of the first of them.
    """
    for one, other in combinations(networks, 2):
        first, second = (_pooled([run for run in runs if run.name in own["runs"]]) for own in (one, other))
        for score in [name for name in first if name in second]:
            (names, values), (others, beside) = first[score], second[score]
            _, left, right = np.intersect1d(names, others, assume_unique=True, return_indices=True)
            yield {
                "first": one["network"],
                "second": other["network"],
                "score": score,
                "n": len(left),
                "correlation": _correlation(values[left], beside[right]),
            }


def _pooled(runs: Sequence[Compared]) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """The samples of all runs that have a score, and those scores, by score."""
    found = {}
    for score in dict.fromkeys(name for run in runs for name in run.scores):
        own = [run for run in runs if score in run.scores]
        names, firsts = np.unique(np.concatenate([run.samples[run.scored] for run in own]), return_index=True)
        found[score] = names, np.concatenate([run.scores[score] for run in own])[firsts]
    return found


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if len(one) > 1 and np.array_equal(one, other) and one.min() < one.max():  # as a rule, with one network
        return 1.0
    return float(statistics.rank_correlations([one, other])[0, 1]) if len(one) else math.nan


def _difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    if not len(one):
        return math.nan
    larger = np.maximum(np.abs(one), np.abs(other))
    return float((np.abs(one - other) / np.where(larger > 0, larger, 1)).max())


def distances(first: Compared, second: Compared) -> Iterator[Row]:
    """For each score of two runs, the distance of its distributions; of one network, since others have other scales."""
    if first.network != second.network:
        return
    for score in _of_both(first, second):
        one, other = first.scores[score], second.scores[score]
        yield {
            "first": first.name,
            "second": second.name,
            "score": score,
            "distance": statistics.ks_distance(one, other),
            "critical": statistics.ks_critical(len(one), len(other)),
        }


def _of_both(first: Compared, second: Compared) -> list[str]:
    return [score for score in first.scores if score in second.scores]


def distributions(run: Compared) -> Iterator[Row]:
    """For each score and quality of a run, how it is distributed, and how its variance is shared."""
    people = run.people[run.scored]
    for score, values in (run.scores | run.qualities).items():
        shares = statistics.variance_shares(values, people)
        yield {
            "run": run.name,
            "score": score,
            "n": len(values),
            **statistics.describe(values),
            "between": shares.between,
            "within": shares.within,
            "clipped": shares.clipped,
            "identities": shares.identities,
            "single": shares.single,
            "percentiles": statistics.percentiles(values).tolist(),
        }


def layers(run: Compared) -> Iterator[Row]:
    """The rank correlation between each two scores of a run."""
    found = statistics.rank_correlations(list(run.scores.values()))
    for (place, first), (other, second) in combinations(enumerate(run.scores), 2):
        yield {"run": run.name, "first": first, "second": second, "correlation": float(found[place, other])}


def over_runs(networks: Sequence[Row], scores: Sequence[Row]) -> Iterator[Row]:
    """The mean over the runs of each network of each statistic of each score."""
    measured = ("mean", "std", *statistics.QUANTILES, "between")
    for network in networks:
        own = [row for row in scores if row["run"] in network["runs"]]
        for score in dict.fromkeys(row["score"] for row in own):
            for statistic in measured:
                values = [row[statistic] for row in own if row["score"] == score]
                row = {"network": network["network"], "score": score, "statistic": statistic}
                yield {**row, **_interval(values)}


def layers_over_runs(networks: Sequence[Row], layers: Sequence[Row]) -> Iterator[Row]:
    """The mean over the runs of each network of the rank correlation between each two of its scores."""
    for network in networks:
        own: dict[tuple[str, str], list[float]] = {}
        for row in layers:
            if row["run"] in network["runs"]:
                own.setdefault((row["first"], row["second"]), []).append(row["correlation"])
        for (first, second), values in own.items():
            yield {"network": network["network"], "first": first, "second": second, **_interval(values)}


def _interval(values: Sequence[float]) -> Row:
    found = statistics.over_runs(values)
    return {"runs": found.runs, "mean": found.mean, "std": found.std, "ci_low": found.low, "ci_high": found.high}
