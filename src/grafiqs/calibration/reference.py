"""A reference: how the scores of a run are distributed, and for which network and input that holds. NumPy alone."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from grafiqs.backbones.catalogue import DIRECTIONS, EMBEDDING_NORM, QUALITIES, QUALITY
from grafiqs.calibration.distribution import Distribution
from grafiqs.disk import files
from grafiqs.disk.names import encoded, shown
from grafiqs.disk.stated import compared, understood
from grafiqs.errors import RequestError

log = logging.getLogger(__name__)

NAME = "reference.json"
"""What the file is called in a run folder."""

FORMAT = 1
"""Version of the file."""

_MOST = 2**24
"""The most bytes that such a file has, generously."""

_LARGEST = 1e100
"""The size of scores that no network gives; what is computed of smaller ones stays finite."""

_KINDS: dict[str, Any] = {
    "weights_sha256": str,
    "backbone": dict,
    "norms": str,
    "loss": str,
    "preprocessing": dict,
    "precision": str,
    "flip": bool | None,
}
"""What a reference holds for, and what each of them is."""

_ALIGNMENT = "alignment"

_EXACT = {"float32", "float64"}
"""Precisions whose scores agree to more digits than a quality has."""

_OTHERWISE = "references are made by 'grafiqs calibrate': give such a file, or make it again"


@dataclass(frozen=True)
class Reference:
    """What makes qualities of scores. Raises ValueError for what cannot be one.

    `distributions` and `directions` are by score; `layer` is the score that `quality` alone means, if there is one.
    `ranking` says how well the scores predict errors, the best first, a row each: `quality` (the score's name),
    `direction`, `pauc_normalised`, `ci_low`, `ci_high`, and whether it `predicts` them with certainty, or is
    `reversed` (None if too little is known). `holds_for` is made by `holds_for`; `about` says what it was
    made of. `data` are the bytes of its file, if it has one.
    """

    distributions: dict[str, Distribution]
    directions: dict[str, str]
    layer: str | None
    ranking: list[dict[str, Any]]
    holds_for: dict[str, Any]
    about: dict[str, Any]
    data: bytes = field(default=b"", repr=False, compare=False)

    def __post_init__(self) -> None:
        known = self.distributions
        if not known or self.directions != {name: DIRECTIONS.get(name) for name in known}:
            raise ValueError("its scores and directions are not those of a run")
        if any(max(map(abs, each.quantiles)) > _LARGEST for each in known.values()):
            raise ValueError("it has scores that no network gives")
        if self.layer is not None and self.layer not in known:
            raise ValueError("its layer is not among its scores")
        _check_holds_for(self.holds_for)
        if not isinstance(self.about, dict) or not isinstance(self.ranking, list):
            raise ValueError("it does not say what it was made of")
        counts = {each.count for each in known.values()}
        if len(counts | {self.about["images"]} if "images" in self.about else counts) > 1:
            raise ValueError("its scores are of different numbers of images")
        if len({row["quality"] for row in self.ranking}) < len(self.ranking):
            raise ValueError("its ranking is not one")
        for row in self.ranking:
            figures = [row[name] for name in ("pauc_normalised", "ci_low", "ci_high")]
            verdicts = [row["predicts"], row["reversed"]]
            if row["quality"] not in known or not all(map(_is_number_or_none, figures)):
                raise ValueError("its ranking is not one")
            if not all(verdict is None or type(verdict) is bool for verdict in verdicts):
                raise ValueError("its ranking is not one")

    @cached_property
    def file(self) -> bytes:
        """The bytes of its file."""
        return self.data or encoded(self.to_json())

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of its file."""
        return hashlib.sha256(self.file).hexdigest()

    def to_json(self) -> str:
        """The text of its file."""
        document = {
            "format": FORMAT,
            "layer": self.layer,
            "ranking": self.ranking,
            "holds_for": self.holds_for,
            "about": self.about,
            "directions": self.directions,
            "distributions": {
                name: {"count": each.count, "quantiles": each.quantiles} for name, each in self.distributions.items()
            },
        }
        return json.dumps(document, indent=1, allow_nan=False) + "\n"

    def quality(self, name: str, score: float) -> int:
        """The quality, 0 to 100, of a score that is finite and in `distributions` under this name; higher is better."""
        return int(self.distributions[name].quality(score, self.directions[name]))

    def qualities(self, scores: Mapping[str, float]) -> dict[str, int]:
        """The qualities of an image by the names of their columns, from its scores by name.

        `quality_<score>` for each that it has a distribution of, and `quality` for that of `layer`.
        """
        own = {name: self.quality(name, score) for name, score in scores.items() if name in self.distributions}
        found = {QUALITIES[name]: value for name, value in own.items()}
        return found | {QUALITY: own[self.layer]} if self.layer in own else found

    def source(self, scores: Iterable[str]) -> dict[str, Any]:
        """What decides the qualities of a run with these scores, as JSON values."""
        return {
            "sha256": self.sha256,
            "layer": self.layer,
            "scores": [name for name in scores if name in self.distributions],
        }

    def differences(self, asked: Mapping[str, Any]) -> list[str]:
        """What differs between what it holds for and what is `asked` (`holds_for` makes it), a line each.

        The precision does not count: it moves scores by half a percent or so, which the self-check sees to.
        """
        own, other = dict(self.holds_for), dict(asked)
        for each in (own, other):
            del each["precision"]
            if None in (self.holds_for["flip"], asked["flip"]):  # without embeddings it is the same
                del each["flip"]
        if _ALIGNMENT not in own["preprocessing"]:
            other["preprocessing"] = _any_alignment(other["preprocessing"])
        words = ("in the reference", "here")
        return [line for name in own for line in compared(name, own[name], other[name], words)]

    def refuse_other(self, asked: Mapping[str, Any], place: str | Path) -> None:
        """Raise RequestError with what differs if it does not hold for what is asked; `place` is its file's.

        `asked` is made by `holds_for`. Another precision is a warning.
        """
        differences = self.differences(asked)
        if differences:
            aligned = all(line.startswith(f"preprocessing.{_ALIGNMENT}") for line in differences)
            alike = "; if the faces of both are aligned alike, make it with --any-alignment" * aligned
            raise RequestError(
                f"the reference {shown(place)} does not hold for these scores, whose qualities by it would mean "
                "nothing: give another --reference, or make one by 'grafiqs calibrate' from a run like this "
                f"one{alike}. What differs:\n" + "\n".join(f"  - {line}" for line in differences)
            )
        own, other = self.holds_for["precision"], asked["precision"]
        if own != other and not {own, other} <= _EXACT:
            log.warning(
                "warning: the reference was made in %s, here %s is asked for: scores differ by half a percent or so",
                *(shown(own), shown(other)),
            )

    def need_holding(self, asked: Mapping[str, Any], scores: Iterable[str], place: str | Path) -> None:
        """The same, and raise RequestError when it is of none of these scores; warns when some get no quality."""
        self.refuse_other(asked, place)
        given = tuple(scores)
        without = [name for name in given if name not in self.distributions]
        if len(without) == len(given):
            raise RequestError(
                f"the reference {shown(place)} is of {', '.join(self.distributions)}, and the scores here are "
                f"{', '.join(without)}: give --layers that both have, or another --reference"
            )
        if without:
            log.warning("warning: the reference has no scores of %s: they get no quality", ", ".join(without))
        if self.layer is None:
            log.warning(
                "warning: the reference %s names no layer: %s. So there is no single quality; those of each score say "
                "where it stands, and not whether a face will be recognised",
                *(shown(place), shown(self.about.get("layer", "none was shown to predict errors"))),
            )
        elif self.layer not in given:
            remedy = " (--embeddings computes it)" * (self.layer == EMBEDDING_NORM)
            log.warning(
                "warning: the reference's layer is %s, which is not a score here%s: there is no single quality",
                *(self.layer, remedy),
            )
        elif not any(row["quality"] == self.layer and row["predicts"] for row in self.ranking):
            log.warning(
                "warning: the reference's layer, %s, was chosen by hand, and is not shown to predict errors", self.layer
            )

    def said(self) -> str:
        """What it is, in words."""
        scores = ", ".join(self.distributions)
        layer = "quality has no layer" if self.layer is None else f"quality is that of {self.layer}"
        count = max(each.count for each in self.distributions.values())
        return f"{count:,} images, {scores}; {layer} (SHA-256 {self.sha256})"


def holds_for(
    *,
    weights_sha256: str,
    backbone: Mapping[str, Any],
    norms: str,
    loss: str,
    preprocessing: Mapping[str, Any],
    precision: str,
    flip: bool | None = None,
    any_alignment: bool = False,
) -> dict[str, Any]:
    """What a reference holds for, as JSON values, from the sections of a manifest, or the parts of a network.

    `backbone` is that of `Checkpoint.source()`; `preprocessing` has an `alignment`, unless any is right; `flip` is None
    without embeddings.
    """
    return {
        "weights_sha256": weights_sha256,
        "backbone": dict(backbone),
        "norms": norms,
        "loss": loss,
        "preprocessing": _any_alignment(preprocessing) if any_alignment else dict(preprocessing),
        "precision": precision,
        "flip": flip,
    }


def _any_alignment(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in preprocessing.items() if name != _ALIGNMENT}


def read_reference(path: str | Path) -> Reference:
    """The reference in a file. Raises RequestError for anything else."""
    path = Path(path)
    try:
        with files.opened(path) as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        raise RequestError(f"cannot read the reference {shown(path)}: {error.strerror}; {_OTHERWISE}") from error
    if len(data) > _MOST:
        raise RequestError(f"{shown(path)} is larger than any reference: {_OTHERWISE}")
    return understood(path, data, FORMAT, lambda document: _parsed(document, data), _OTHERWISE)


def _parsed(document: dict[str, Any], data: bytes) -> Reference:
    """The reference that a document states. Raises ValueError, TypeError, KeyError or AttributeError otherwise."""
    if document.keys() != Reference.__dataclass_fields__.keys() - {"data"}:
        raise ValueError("it is not a reference")
    found = {}
    for name, stated in document.pop("distributions").items():
        quantiles, count = stated["quantiles"], stated["count"]
        if type(count) is not int or not all(type(each) in (int, float) for each in quantiles):
            raise ValueError("its quantiles are not numbers")
        found[name] = Distribution(tuple(map(float, quantiles)), count)
    return Reference(found, **document, data=data)


def _check_holds_for(stated: dict[str, Any]) -> None:
    """Raise ValueError or AttributeError for what a reference cannot hold for."""
    if stated.keys() != _KINDS.keys() or not all(isinstance(stated[name], kind) for name, kind in _KINDS.items()):
        raise ValueError("it does not say what it holds for")


def _is_number_or_none(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and math.isfinite(value))
