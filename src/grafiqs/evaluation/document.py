"""An evaluation from the document of edc.json: what each row has to hold, and how the rows belong together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from grafiqs.disk.names import encoded
from grafiqs.evaluation.result import Evaluation
from grafiqs.options.evaluate import DIRECTIONS, PROTOCOLS

Kind = Callable[[Any], Any]
"""What a value has to be: gives it as it was before it was written, or raises ValueError."""


def parsed(document: dict[str, Any]) -> Evaluation | None:
    """The evaluation that a document states; None if that is of a version before there were `runs` in it.

    Keys that are not known are passed over. Raises ValueError or OverflowError for what is no evaluation.
    """
    if {"curves", "methods"} <= document.keys() and "runs" not in document:
        return None
    about = _row("document", document, _ABOUT)
    results, curves, points, differences = (_rows(name, document, kinds) for name, kinds in _PARTS.items())
    evaluation = Evaluation(results, curves, points, differences, about)
    _check_about(about)
    _check_rows(evaluation)
    for row in evaluation.curves:
        _check_curve(row, {method["quality"]: method["direction"] for method in about["methods"]})
    return evaluation


def _row(name: str, stated: Any, kinds: Mapping[str, Kind]) -> dict[str, Any]:
    """The values of a row that are known. Raises ValueError when one is missing, or not what it has to be."""
    if type(stated) is not dict:
        raise ValueError(f"its {name} is not one")
    found = {}
    for key, kind in kinds.items():
        if key not in stated:
            raise ValueError(f"its {name} has no {key}")
        try:
            found[key] = kind(stated[key])
        except (ValueError, OverflowError) as error:
            inside = f": {error}" if str(error) else ""
            raise ValueError(f"the {key} of its {name} is not what belongs there{inside}") from error
    return found


def _rows(name: str, document: Mapping[str, Any], kinds: Mapping[str, Kind]) -> list[dict[str, Any]]:
    if type(document.get(name)) is not list:
        raise ValueError(f"it has no {name}")
    return [_row(f"{name}[{number}]", row, kinds) for number, row in enumerate(document[name])]


def _check_about(about: Mapping[str, Any]) -> None:
    """Raise ValueError when methods and runs do not belong to each other, and to what was given."""
    methods = {method["quality"] for method in about["methods"]}
    if len(methods) < len(about["methods"]):
        raise ValueError("two of its methods have one name")
    if len({run["name"] for run in about["runs"]}) < len(about["runs"]):
        raise ValueError("two of its runs have one name")
    for run in about["runs"]:
        alone = "" if len(about["scores"]) == 1 else None
        if run["name"] not in about["scores"] or run["prefix"] not in (alone, f"{run['name']}/"):
            raise ValueError("its runs are not those it was given")
        if not {run["prefix"] + score for score in run["scores"]} <= methods:
            raise ValueError("its runs have scores that are not among its methods")


def _check_rows(found: Evaluation) -> None:
    """Raise ValueError unless each method has its rows, once for each error, target and limit that there are."""
    target = ("fmr", "starting_error")
    _need_each("results", found.results, ("quality", "error", *target, "x_max"))
    _need_each("curves", found.curves, ("quality", "error", *target))
    _need_each("operating_points", found.operating_points, ("quality", *target, "discard"))
    methods = {method["quality"] for method in found.about["methods"]}
    if not methods or not methods == _values(found.results, "quality") == _values(found.operating_points, "quality"):
        raise ValueError("its rows are not of its methods")
    if _values(found.results, "quality", "error") != _values(found.curves, "quality", "error"):
        raise ValueError("its curves are not those of its results")
    if "fnmr" not in {row["error"] for row in found.results}:
        raise ValueError("it has no results of the error fnmr")
    if len(_values(found.results, "protocol") | _values(found.curves, "protocol")) > 1:
        raise ValueError("its rows are of two protocols")
    targets = _values(found.results, *target)
    if any((fmr is None) is (starting is None) for fmr, starting in targets):
        raise ValueError("its targets are not either a false match rate or a starting error")
    if not targets == _values(found.curves, *target) == _values(found.operating_points, *target):
        raise ValueError("its rows are of different targets")
    if not _values(found.differences, *target) <= targets:
        raise ValueError("its differences are of other targets")
    if not _values(found.differences, "first") | _values(found.differences, "second") <= methods:
        raise ValueError("its differences are not of its methods")


def _values(rows: Sequence[Mapping[str, Any]], *names: str) -> set[Any]:
    """What the rows have under these names: as tuples, of one name as it is."""
    return {tuple(row[name] for name in names) if len(names) > 1 else row[names[0]] for row in rows}


def _need_each(part: str, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Raise ValueError unless there is one row for each combination of the values under these names."""
    combinations = math.prod(len(_values(rows, name)) for name in names)
    if not len(rows) == len(_values(rows, *names)) == combinations:
        raise ValueError(f"its {part} are not one for each {', '.join(names)}")


def _check_curve(row: Mapping[str, Any], directions: Mapping[str, str]) -> None:
    """Raise ValueError unless a curve rises from nothing discarded, each step with its error rate and its score."""
    discarded, limits = row["discarded"], row["score_threshold"]
    if not discarded or discarded[0] != 0 or not _rise(discarded) or len(row["error_rate"]) != len(discarded):
        raise ValueError("it has curves that are none")
    if (limits is None) is (row["protocol"] == "fixed"):
        raise ValueError("it has scores to discard by for the protocol rethreshold, or none for fixed")
    if limits is not None:
        sign = 1 if directions[row["quality"]] == "higher" else -1
        known = [sign * limit for limit in limits if not math.isnan(limit)]
        if len(limits) != len(discarded) or not math.isnan(limits[0]) or not _rise(known):
            raise ValueError("it has curves whose scores are not those of their steps")


def _rise(numbers: Sequence[float]) -> bool:
    return all(one < other for one, other in pairwise(numbers))


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError
    encoded(value)  # lone surrogates cannot be written
    return value


def _one_of(*words: str) -> Kind:
    def kind(value: Any) -> str:
        if _text(value) not in words:
            raise ValueError
        return str(value)

    return kind


def _number(low: float = -math.inf, high: float = math.inf) -> Kind:
    def kind(value: Any) -> float:
        if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
            raise ValueError
        return float(value)

    return kind


def _count(high: int = 2**63) -> Kind:
    def kind(value: Any) -> int:
        if type(value) is not int or not 0 <= value <= high:
            raise ValueError
        return value

    return kind


def _null_or(kind: Kind, null: float | None = None) -> Kind:
    """Something, or null, which was `null` before it was written."""
    return lambda value: null if value is None else kind(value)


def _list_of(kind: Kind) -> Kind:
    def kinds(value: Any) -> list[Any]:
        if type(value) is not list:
            raise ValueError
        return list(map(kind, value))

    return kinds


def _places(value: Any) -> dict[str, str]:
    if type(value) is not dict:
        raise ValueError
    return {_text(name): _text(place) for name, place in value.items()}


_share = _number(0, 1)
_figure = _null_or(_number(), math.nan)
_figures = ("threshold", "fmr_reached", "e0", "pauc", "pauc_mean", "pauc_normalised", "pauc_relative")
_interval = {"ci_low": _figure, "ci_high": _figure}

_TARGET = {"fmr": _null_or(_share), "starting_error": _null_or(_share)}
_NAMED = {"quality": _text, "error": _one_of("fnmr", "fmr"), **_TARGET, "protocol": _one_of(*PROTOCOLS)}

_PARTS: dict[str, dict[str, Kind]] = {
    "results": {
        **_NAMED,
        "x_max": _share,
        **dict.fromkeys(_figures, _figure),
        **_interval,
        "e0_low": _figure,
        "e0_high": _figure,
        **dict.fromkeys(("n_genuine", "n_impostor", "n_without_score"), _count()),
    },
    "curves": {
        **_NAMED,
        "discarded": _list_of(_share),
        "error_rate": _list_of(_share),
        "score_threshold": _null_or(_list_of(_figure)),
        "worst": _figure,
    },
    "operating_points": {
        "quality": _text,
        **_TARGET,
        "discard": _share,
        "discarded": _share,
        "score_threshold": _null_or(_number()),
        "fnmr": _share,
        "quality_threshold": _null_or(_count(100)),
    },
    "differences": {
        "first": _text,
        "second": _text,
        **_TARGET,
        "x_max": _share,
        "difference": _figure,
        **_interval,
    },
}
"""The lists of rows, and what each of their keys is."""

_METHOD = {"quality": _text, "direction": _one_of(*DIRECTIONS)}
_RUN = {
    **dict.fromkeys(("name", "prefix", "folder", "subset_sha256", "weights_sha256", "scores_sha256"), _text),
    "scores": _list_of(_text),
}
_BOOTSTRAP = {"rounds": _count(), "level": _share, "of": _text, "identities": _text}

_ABOUT: dict[str, Kind] = {
    "grafiqs": _text,
    "scores": _places,
    "methods": _list_of(lambda row: _row("method", row, _METHOD)),
    "runs": _list_of(lambda row: _row("run", row, _RUN)),
    "comparisons": _text,
    "eer": _figure,
    "seed": _count(),
    "bootstrap": lambda row: _row("bootstrap", row, _BOOTSTRAP),
}
"""What stands beside them."""
