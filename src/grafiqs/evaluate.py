"""How well scores predict recognition errors: curves, areas with their intervals, and at which score to discard."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.backbones.catalogue import EMBEDDING_NORM
from grafiqs.disk import files
from grafiqs.disk.names import shown
from grafiqs.disk.output import Output
from grafiqs.errors import RequestError
from grafiqs.evaluation.bootstrap import Bootstrap
from grafiqs.evaluation.compared import RANDOM, baselines, doubts, pair_qualities, people, similarities
from grafiqs.evaluation.curve import Comparisons, Curve, Ranking, curve_of, points_of
from grafiqs.evaluation.edc import edc, equal_error_rate, operating_points
from grafiqs.evaluation.pairs import Pairs, every_pair, of_dataset, read_pairs
from grafiqs.evaluation.result import Evaluation, Target
from grafiqs.evaluation.scores import GivenRun, Method, Samples, gathered
from grafiqs.options.evaluate import EvaluateOptions
from grafiqs.progress import progress_bar
from grafiqs.run.finished import SCORES

__all__ = ["EvaluateOptions", "Evaluation", "edc", "equal_error_rate", "evaluate", "operating_points"]

log = logging.getLogger(__name__)

_FEWEST = 10
"""Fewer impostors set no threshold."""

_STEPS = 1000
"""The most points of a curve that are written, and drawn."""


def evaluate(options: EvaluateOptions) -> Evaluation:
    """Evaluate what `options` name; nothing is written. What was read is logged.

    Raises RequestError when it cannot be read, or there is too little to compare.

    >>> from grafiqs import Options, extract_gradients
    >>> made = Options(image_path="faces", weights="weights.pth", embeddings=True, output_dir="run", quiet=True)
    >>> _ = extract_gradients(made)
    >>> found = evaluate(EvaluateOptions(scores=["run"], starting_error=[0.2], bootstrap=0, quiet=True))
    >>> [row["quality"] for row in found.of(found.results, found.targets()[0], error="fnmr", x_max=0.2)]
    ['image', 'block1', 'block2', 'block3', 'block4', 'loss', 'embedding_norm', 'random']
    """
    samples, said = gathered(
        options.named(), options.directions(), options.embeddings, options.prefixed, options.reference
    )
    for line in said:
        log.info("%s", line)
    pairs = _pairs(options, samples)
    for given in samples.runs:
        Output(options.output_dir, "").refuse_inside(Path(given.run.manifest.data_set["place"]))
    methods = _chosen(options, (*samples.methods, *baselines(samples, options.seed)))
    log.info("Comparisons: %s", pairs.said)
    for line in doubts(pairs, samples):
        log.warning("warning: %s", line)
    similarity, whose = similarities(pairs, samples)
    log.info("Similarities: %s", whose)
    made = ~np.isnan(similarity)
    if not made.all():
        log.warning(
            "warning: %d of %d comparisons have a sample without an embedding, and are left out",
            *((~made).sum(), len(made)),
        )
    genuine, places = pairs.genuine[made], pairs.places[made]
    _need_enough(genuine, options)
    quality = np.stack([pair_qualities(method, places) for method in methods], axis=1)
    for method, missing in zip(methods, np.isnan(quality).sum(axis=0).tolist(), strict=True):
        if missing:
            log.warning(
                "warning: %d of %d comparisons have a sample without a score of %s, and are discarded first",
                *(missing, len(places), shown(method.name)),
            )
    compared = Comparisons(similarity[made], genuine, quality)
    return _evaluated(options, samples, methods, pairs, compared, places)


def _need_enough(genuine: NDArray[np.bool_], options: EvaluateOptions) -> None:
    """Raise RequestError when there are too few comparisons of a kind."""
    impostors = int((~genuine).sum())
    if not genuine.any():
        raise RequestError("there is no genuine comparison, so that nothing can fail to match: give --pairs with some")
    if impostors < _FEWEST and not options.starting_error:
        raise RequestError(
            f"there are {impostors} impostor comparisons, and a false match rate takes {_FEWEST} at least: give "
            "--pairs with more, or --starting-error"
        )


def _pairs(options: EvaluateOptions, samples: Samples) -> Pairs:
    if options.pairs is not None:
        return read_pairs(options.pairs, samples)
    if samples.run is not None and samples.run.manifest.pairs:
        given = [(str(first), str(second), bool(same)) for first, second, same in samples.run.manifest.pairs]
        return of_dataset(given, samples, "the data set")
    if not samples.identities:
        raise RequestError(
            "which samples are of one identity is not known: give --pairs, or a run or its scores.csv among the SCORES"
        )
    return every_pair(samples, options.seed)


def _chosen(options: EvaluateOptions, methods: Sequence[Method]) -> tuple[Method, ...]:
    """The methods that are asked for, in the order of the scores."""
    wanted = options.methods or [method.name for method in methods if not method.is_quality]
    rounded = [] if options.methods else [shown(method.name) for method in methods if method.is_quality]
    if rounded:
        log.info("Left out, as they are the same scores, rounded (--methods takes them): %s", ", ".join(rounded))
    found = tuple(method for method in methods if {method.name, method.name.rpartition("/")[2]} & set(wanted))
    known = {name for method in methods for name in (method.name, method.name.rpartition("/")[2])}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        names = ", ".join(shown(method.name) for method in methods)
        raise RequestError(f"--methods names {shown(unknown[0])}, and there are {names}")
    for name, count in Counter(method.name for method in found).items():
        if count > 1:
            raise RequestError(
                f"two methods are called {shown(name)}: give SCORES names, as in one=path other=path; baselines are "
                f"called {EMBEDDING_NORM} and {RANDOM}"
            )
    return found


def _evaluated(
    options: EvaluateOptions,
    samples: Samples,
    methods: Sequence[Method],
    pairs: Pairs,
    compared: Comparisons,
    places: NDArray[np.int64],
) -> Evaluation:
    eer = equal_error_rate(compared.similarity, compared.genuine)
    if eer > 0.5:
        log.warning(
            "warning: impostors are more similar than genuine pairs: are similarities distances, or labels reversed?"
        )
    starting = bool(options.starting_error)
    targets: list[Target] = [
        {"fmr": None if starting else rate, "starting_error": rate if starting else None} for rate in options.rates
    ]
    counts = {"n_genuine": int(compared.genuine.sum()), "n_impostor": int((~compared.genuine).sum())}
    areas, e0, whose = _bootstrapped(options, samples, compared, places)
    results: list[dict[str, Any]] = []
    steps: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    normalised = np.full((len(methods), len(targets), len(options.x_max)), math.nan)
    kinds = {"fnmr": compared.genuine, "fmr": ~compared.genuine}
    errors = {error: kind for error, kind in kinds.items() if kind.any()}
    for column, method in enumerate(methods):
        quality = compared.quality[:, column]
        own = {error: Ranking.of(quality[kind]) for error, kind in errors.items()}
        rankings = own if options.protocol == "fixed" else dict.fromkeys(errors, Ranking.of(quality))
        one = replace(compared, quality=quality[:, None])
        for (place, target), error in product(enumerate(targets), errors):
            curve = curve_of(one, rankings[error], options.protocol, error, **target)
            named = {"quality": method.name, "error": error, **target, "protocol": options.protocol}
            for number, limit in enumerate(options.x_max):
                found = {
                    "threshold": curve.threshold,
                    "fmr_reached": curve.fmr,
                    "e0": curve.e0,
                    **curve.areas(limit),
                    "ci_low": math.nan,
                    "ci_high": math.nan,
                    "e0_low": math.nan,
                    "e0_high": math.nan,
                }
                if error == "fnmr":
                    normalised[column, place, number] = found["pauc_normalised"]
                    found["ci_low"], found["ci_high"] = _interval(areas[:, column, place, number])
                    found["e0_low"], found["e0_high"] = _interval(e0[:, place])
                results.append({**named, "x_max": limit, **found, **counts, "n_without_score": curve.without_score})
            steps.append({**named, **_steps_of(curve, rankings[error], method.direction)})
            if error == "fnmr":
                if column == 0:
                    _warn_of_target(target, counts["n_impostor"])
                fixed = curve if options.protocol == "fixed" else curve_of(one, own[error], **target)
                found_points = points_of(fixed, own[error], method.direction)
                points += (
                    {
                        "quality": method.name,
                        **target,
                        **asdict(point),
                        "quality_threshold": method.quality(point.score_threshold),
                    }
                    for point in found_points
                )
    about = {
        "grafiqs": version("grafiqs"),
        "scores": {name: str(path) for name, path in options.named().items()},
        "methods": [{"quality": method.name, "direction": method.direction} for method in methods],
        "runs": [_stated(given, methods) for given in samples.runs],
        "comparisons": pairs.said,
        "eer": eer,
        "seed": options.seed,
        "bootstrap": {"rounds": options.bootstrap, "level": 0.95, "of": "pauc_normalised", "identities": whose},
    }
    differences = list(_differences(options, methods, targets, normalised, areas)) if options.bootstrap else []
    return Evaluation(results, steps, points, differences, about, areas)


def _bootstrapped(
    options: EvaluateOptions, samples: Samples, compared: Comparisons, places: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """What other people would have given, round by round, and where it is known who they are.

    Normalised areas (rounds, methods, targets, limits), and FNMR before anything is discarded (rounds, targets).
    """
    if not options.bootstrap:
        shape = (0, compared.quality.shape[1], len(options.rates), len(options.x_max))
        return np.empty(shape), np.empty((0, shape[2])), ""
    numbers, whose = people(places, compared.genuine, samples)
    _, dense = np.unique(numbers, return_inverse=True)
    bootstrap = Bootstrap(compared, dense.reshape(numbers.shape))
    with progress_bar(options.bootstrap, 0, options.quiet, "rounds") as bar:
        drawn = bootstrap.rounds(
            options.bootstrap,
            options.seed,
            options.rates,
            options.x_max,
            options.protocol,
            bool(options.starting_error),
            bar.update,
        )
    log.info("Intervals: %d rounds, %d identities %s", options.bootstrap, bootstrap.people, whose)
    undefined = int((~(drawn.e0 > 0)).any(axis=1).sum())
    if undefined:
        log.warning(
            "warning: %d of %d rounds have no error at one of the thresholds, and do not count there: errors are too "
            "few for intervals to say much",
            *(undefined, options.bootstrap),
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        return drawn.pauc / (drawn.e0[:, None, :, None] * np.array(options.x_max)), drawn.e0, whose


def _differences(
    options: EvaluateOptions,
    methods: Sequence[Method],
    targets: Sequence[Target],
    normalised: NDArray[np.float64],
    areas: NDArray[np.float64],
) -> Iterator[dict[str, Any]]:
    """Each method against each after it: both areas are of the same people in every round."""
    for (first, one), (second, other) in combinations(enumerate(methods), 2):
        for (place, target), (number, limit) in product(enumerate(targets), enumerate(options.x_max)):
            low, high = _interval(areas[:, first, place, number] - areas[:, second, place, number])
            yield {
                "first": one.name,
                "second": other.name,
                **target,
                "x_max": limit,
                "difference": float(normalised[first, place, number] - normalised[second, place, number]),
                "ci_low": low,
                "ci_high": high,
            }


def _stated(given: GivenRun, methods: Sequence[Method]) -> dict[str, Any]:
    """Which run was evaluated, so that another can be told from it, and which of its columns were."""
    run, names = given.run, {method.name for method in methods}
    return {
        "name": given.name,
        "prefix": given.prefix,
        "folder": str(run.folder),
        "subset_sha256": run.manifest.subset.sha256,
        "weights_sha256": run.manifest.weights_sha256,
        "scores_sha256": files.sha256(run.folder / SCORES),
        "scores": [column for column in run.directions if f"{given.prefix}{column}" in names],
    }


def _steps_of(curve: Curve, ranking: Ranking, direction: str) -> dict[str, Any]:
    """The steps of a curve, and the scores that discard so much; of a long one, the last of each of _STEPS ranges.

    `worst` is the score of the comparisons that the second step discards. There are no such scores for `rethreshold`,
    whose steps are shares of all comparisons.
    """
    fixed = curve.protocol == "fixed"
    ranges = np.floor(curve.discarded * _STEPS)
    kept = np.append(ranges[1:] != ranges[:-1], True)
    kept[0] = True
    return {
        "discarded": curve.discarded[kept].tolist(),
        "error_rate": curve.error_rate[kept].tolist(),
        "score_threshold": ranking.thresholds(direction)[kept].tolist() if fixed else None,
        "worst": ranking.worst(direction) if fixed else math.nan,
    }


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of the rounds; NaN if there are none."""
    if np.isnan(values).all():
        return math.nan, math.nan
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def _warn_of_target(target: Target, impostors: int) -> None:
    rate = target["fmr"]
    if rate is not None and rate * impostors < 1:
        log.warning(
            "warning: %d impostors cannot resolve an FMR of %g: the threshold lies above all of them, and the FMR "
            "reached is 0; give --pairs with more",
            *(impostors, rate),
        )
