"""How well scores predict recognition errors: curves, areas with their intervals, and at which score to discard."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.backbones.catalogue import DIRECTIONS, EMBEDDING_NORM
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.evaluation.bootstrap import Bootstrap
from grafiqs.evaluation.edc import SHARES, Comparisons, Curve, edc, operating_points
from grafiqs.evaluation.pairs import Pairs, every_pair, of_dataset, read_pairs
from grafiqs.evaluation.result import Evaluation
from grafiqs.evaluation.scores import Method, Samples, gathered
from grafiqs.options.evaluate import EvaluateOptions
from grafiqs.progress import progress_bar

__all__ = ["EvaluateOptions", "Evaluation", "edc", "evaluate", "operating_points"]

log = logging.getLogger(__name__)

RANDOM = "random"
"""The baseline of no order at all."""

_FEWEST = 10
"""Fewer impostors set no threshold."""

_STEPS = 1000
"""The most points of a curve that are written, and drawn."""


def evaluate(options: EvaluateOptions) -> Evaluation:
    """Evaluate what `options` name. Raises RequestError when it cannot be read, or there is too little to compare."""
    samples, said = gathered(options.named(), options.directions(), options.embeddings)
    for line in said:
        log.info("%s", line)
    methods = _chosen(options, (*samples.methods, *_baselines(samples, options.seed)))
    pairs = _pairs(options, samples)
    log.info("Comparisons: %s", pairs.said)
    compared, places = _compared(pairs, samples, methods)
    impostors = int((~compared.genuine).sum())
    if impostors < _FEWEST and not options.starting_error:
        raise RequestError(
            f"there are {impostors} impostor comparisons, and a threshold takes {_FEWEST} at least: give --pairs with "
            "more, or --starting-error"
        )
    if not compared.genuine.any():
        raise RequestError("there is no genuine comparison, so that nothing can fail to match: give --pairs with some")
    return _evaluated(options, samples, methods, pairs, compared, places)


def _pairs(options: EvaluateOptions, samples: Samples) -> Pairs:
    if options.pairs is not None:
        return read_pairs(options.pairs, samples.names, samples.identities)
    if samples.pairs:
        return of_dataset(samples.pairs, samples.names, "of the data set")
    if samples.identities is None:
        raise RequestError(
            "which samples are of one identity is not known: give --pairs, or a run or scores.csv as the first SCORES"
        )
    return every_pair(samples.names, samples.identities, options.seed)


def _chosen(options: EvaluateOptions, methods: Sequence[Method]) -> tuple[Method, ...]:
    """The methods that are asked for, in the order of the scores."""
    wanted = options.methods or [method.name for method in methods]
    found = tuple(method for method in methods if {method.name, method.name.rpartition("/")[2]} & set(wanted))
    known = {name for method in methods for name in (method.name, method.name.rpartition("/")[2])}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        names = ", ".join(shown(method.name) for method in methods)
        raise RequestError(f"--methods names {shown(unknown[0])}, and there are {names}")
    names = Counter(method.name for method in found)
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise RequestError(
            f"two methods are called {shown(twice[0])}: give the SCORES names, as in one=path other=path"
        )
    return found


def _baselines(samples: Samples, seed: int) -> Iterator[Method]:
    if samples.embeddings is not None and not any(method.name.endswith(EMBEDDING_NORM) for method in samples.methods):
        with np.errstate(invalid="ignore"):
            yield Method(
                EMBEDDING_NORM,
                np.linalg.norm(samples.embeddings.astype(np.float64), axis=1),
                DIRECTIONS[EMBEDDING_NORM],
            )
    yield Method(RANDOM, np.random.default_rng(seed).random(len(samples.names)), "higher")


def _compared(pairs: Pairs, samples: Samples, methods: Sequence[Method]) -> tuple[Comparisons, NDArray[np.int64]]:
    """The comparisons with their similarities and the pair qualities of every method; and the places of their samples.

    Those of a sample that is not known, or has no embedding, cannot be made, unless their similarity is given.
    """
    known = pairs.places >= 0
    if pairs.similarity is None:
        if samples.embeddings is None:
            raise RequestError(
                "there are no similarities: give --pairs with a column similarity, --embeddings, or runs made with "
                "--embeddings"
            )
        similarity, unlike = _cosine(samples.embeddings, pairs.places), "no embedding"
    else:
        similarity, unlike = pairs.similarity, "no similarity"
    made = ~np.isnan(similarity)
    if not made.all():
        log.warning(
            "warning: %d of %d comparisons have a sample with %s, and are left out", *((~made).sum(), len(made), unlike)
        )
    places, similarity, known = pairs.places[made], similarity[made], known[made]
    quality = np.empty((len(places), len(methods)))
    for column, method in enumerate(methods):
        own = method.scores if method.direction == "higher" else -method.scores
        own = np.append(own, np.nan)  # at -1, of a sample that is not known
        quality[:, column] = own[places].min(axis=1)
        missing = int(np.isnan(quality[:, column]).sum())
        if missing:
            log.warning(
                "warning: %d of %d comparisons have a sample without a score of %s, and are discarded first",
                *(missing, len(places), shown(method.name)),
            )
    return Comparisons(similarity, pairs.genuine[made], quality), places


def _cosine(embeddings: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """The cosine of the embeddings of every comparison; NaN if one of them is missing, or nothing but zeros."""
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = embeddings.astype(np.float64)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    unit = np.concatenate([unit, np.full((1, unit.shape[1]), np.nan)])
    found = np.empty(len(places))
    for start in range(0, len(places), 65_536):
        first, second = unit[places[start : start + 65_536].T]
        found[start : start + 65_536] = np.einsum("ij,ij->i", first, second)
    return found


def _people(places: NDArray[np.int64], genuine: NDArray[np.bool_], samples: Samples) -> tuple[NDArray[np.int64], str]:
    """The number of the identity of each sample compared, and where it is known from.

    Without names, samples that are compared as genuine are of one identity.
    """
    if samples.identities is not None and len(set(samples.identities)) > 1:
        _, whose = np.unique(np.array([*samples.identities, "\0"], object).astype(str), return_inverse=True)
        return whose[places], "as the data set names them"
    parent = np.arange(len(samples.names) + 1)

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = int(parent[place])
        return place

    for first, second in places[genuine]:
        parent[root(int(first))] = root(int(second))
    whose = np.array([root(place) for place in range(len(parent))])
    return whose[places], "as genuine comparisons connect samples"


def _evaluated(
    options: EvaluateOptions,
    samples: Samples,
    methods: Sequence[Method],
    pairs: Pairs,
    compared: Comparisons,
    places: NDArray[np.int64],
) -> Evaluation:
    rates, limits = options.rates, options.x_max
    starting = bool(options.starting_error)
    curves = [
        [_curve(compared, column, rate, starting, options.protocol) for rate in rates] for column in range(len(methods))
    ]
    for place, rate in enumerate(rates):
        _warn_of_rate(curves[0][place], rate, compared, starting)
    areas, whose = None, ""
    if options.bootstrap:
        numbers, whose = _people(places, compared.genuine, samples)
        _, dense = np.unique(numbers, return_inverse=True)
        bootstrap = Bootstrap(compared, dense.reshape(numbers.shape))
        with progress_bar(options.bootstrap, 0, options.quiet, "rounds") as bar:
            drawn = bootstrap.rounds(
                options.bootstrap, options.seed, rates, limits, options.protocol, starting, bar.update
            )
        with np.errstate(invalid="ignore", divide="ignore"):
            areas = drawn.pauc / (drawn.e0[:, None, :, None] * np.array(limits))
    results: list[dict[str, Any]] = []
    written: list[dict[str, Any]] = []
    points: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    for (column, method), (place, rate) in ((one, other) for one in enumerate(methods) for other in enumerate(rates)):
        curve = curves[column][place]
        named = {"quality": method.name, "error": "fnmr", _rate_name(starting): rate, "protocol": options.protocol}
        shared = {
            "threshold": curve.threshold,
            "fmr_reached": curve.fmr,
            "e0": curve.e0,
            "n_genuine": int(compared.genuine.sum()),
            "n_impostor": int((~compared.genuine).sum()),
            "n_without_score": curve.without_score,
        }
        for number, limit in enumerate(limits):
            low, high = _interval(None if areas is None else areas[:, column, place, number])
            results.append({**named, "x_max": limit, **shared, **curve.areas(limit), "ci_low": low, "ci_high": high})
        for error in ("fnmr", "fmr"):
            written += _written(compared, column, rate, starting, options.protocol, error, named)
        key: dict[str, Any] = {"quality": method.name, _rate_name(starting): rate}
        points += ({**key, **point} for point in _points(compared, column, method, rate, starting))
    if areas is not None:
        for (first, one), (second, other) in combinations(enumerate(methods), 2):
            for place, rate in enumerate(rates):
                for number, limit in enumerate(limits):
                    both = [curves[index][place].areas(limit)["pauc_normalised"] for index in (first, second)]
                    low, high = _interval(areas[:, first, place, number] - areas[:, second, place, number])
                    key = {"first": one.name, "second": other.name, _rate_name(starting): rate, "x_max": limit}
                    differences.append({**key, "difference": both[0] - both[1], "ci_low": low, "ci_high": high})
    about = {
        "grafiqs": version("grafiqs"),
        "scores": {name: str(path) for name, path in options.named().items()},
        "methods": [{"quality": method.name, "direction": method.direction} for method in methods],
        "comparisons": pairs.said,
        "seed": options.seed,
        "bootstrap": {"rounds": options.bootstrap, "level": 0.95, "of": "pauc_normalised", "identities": whose},
    }
    return Evaluation(results, written, points, differences, about)


def _rate_name(starting: bool) -> str:
    return "starting_error" if starting else "fmr"


def _curve(
    compared: Comparisons, column: int, rate: float, starting: bool, protocol: str, error: str = "fnmr"
) -> Curve:
    return edc(
        compared.similarity,
        compared.genuine,
        compared.quality[:, column],
        fmr=None if starting else rate,
        starting_error=rate if starting else None,
        protocol=protocol,
        error=error,
    )


def _written(
    compared: Comparisons, column: int, rate: float, starting: bool, protocol: str, error: str, named: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The steps of a curve; of a long one, the last of each of _STEPS ranges."""
    if error == "fmr" and compared.genuine.all():
        return
    curve = _curve(compared, column, rate, starting, protocol, error)
    ranges = np.floor(curve.discarded * _STEPS)
    kept = np.append(ranges[1:] != ranges[:-1], True)
    kept[0] = True
    for x, y in zip(curve.discarded[kept].tolist(), curve.error_rate[kept].tolist(), strict=True):
        yield {**named, "error": error, "discarded": x, "error_rate": y}


def _points(
    compared: Comparisons, column: int, method: Method, rate: float, starting: bool
) -> Iterator[dict[str, Any]]:
    sign = 1.0 if method.direction == "higher" else -1.0
    for point in operating_points(
        compared.similarity,
        compared.genuine,
        sign * compared.quality[:, column],
        fmr=None if starting else rate,
        starting_error=rate if starting else None,
        direction=method.direction,
        shares=SHARES,
    ):
        yield {
            "discard": point.discard,
            "discarded": point.discarded,
            "score_threshold": point.score_threshold,
            "fnmr": point.fnmr,
        }


def _interval(values: NDArray[np.float64] | None) -> tuple[float, float]:
    """The middle 95 % of the rounds; NaN if there are none."""
    if values is None or np.isnan(values).all():
        return math.nan, math.nan
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def _warn_of_rate(curve: Curve, rate: float, compared: Comparisons, starting: bool) -> None:
    impostors = int((~compared.genuine).sum())
    if not starting and rate * impostors < 1:
        log.warning(
            "warning: %d impostors cannot resolve an FMR of %g: the threshold lies above all of them, and the FMR "
            "reached is %g",
            *(impostors, rate, curve.fmr),
        )
    if not curve.e0:
        log.warning(
            "warning: no genuine comparison fails at the threshold of %g: there is nothing to gain by discarding", rate
        )
