"""Which scores predict recognition errors, of those that an evaluation compares; and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from grafiqs.backbones.catalogue import EMBEDDING_NORM
from grafiqs.evaluation.result import Evaluation
from grafiqs.printed import table

_LEVEL = 0.95
"""How sure the verdicts are, of all scores together (Bonferroni): the best of several is the best by chance, too."""

_FEWEST_ERRORS = 20
"""Of fewer genuine comparisons that fail, nothing is concluded."""

_UNDEFINED = 0.05
"""The largest share of rounds without an error: in more, all errors are of one person or two."""

_WITHOUT = 0.1
"""The largest share of comparisons with a sample that has no score."""

_GAIN = 0.9
"""Scores whose areas all lie above this, with that certainty, gain less than a tenth: they do not predict errors."""


@dataclass(frozen=True)
class Ranked:
    """A score, and the area under its curve of errors relative to no gain (1), with its interval of 95 %.

    `predicts` says whether it predicts errors, with certainty, as one of all that were ranked; `reversed` whether it
    does so the wrong way round, so that discarding by it keeps the errors. None if too little is known.
    """

    quality: str
    direction: str
    pauc_normalised: float | None
    ci_low: float | None
    ci_high: float | None
    predicts: bool | None
    reversed: bool | None
    is_useless: bool
    """Whether what it may gain is less than a tenth, with that certainty."""

    @property
    def is_layer(self) -> bool:
        """Whether it is a layer, or the loss."""
        return self.quality != EMBEDDING_NORM

    def figures(self) -> tuple[str, str]:
        """Area and interval in words."""
        area = "-" if self.pauc_normalised is None else f"{self.pauc_normalised:.3f}"
        known = self.ci_low is not None and self.ci_high is not None
        return area, f"{self.ci_low:.3f} to {self.ci_high:.3f}" if known else ""

    def row(self) -> dict[str, Any]:
        """As a reference keeps it."""
        names = ("quality", "direction", "pauc_normalised", "ci_low", "ci_high", "predicts", "reversed")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Ranking:
    """All scores, the one that predicts errors best first; `why` nothing can be concluded, or empty."""

    rows: tuple[Ranked, ...] = ()
    why: str = ""

    def of(self, name: str) -> Ranked | None:
        """The row of a score."""
        return next((row for row in self.rows if row.quality == name), None)

    @property
    def best(self) -> str | None:
        """The layer, or the loss, that predicts errors best, if one does."""
        return next((row.quality for row in self.rows if row.is_layer and row.predicts), None)

    def lines(self) -> Iterator[str]:
        """The areas, as a table."""
        return table(["", "area", "interval"], [[row.quality, *row.figures()] for row in self.rows])

    def verdict(self) -> str:
        """Why no layer can be taken for quality, if none can."""
        layers = [row for row in self.rows if row.is_layer]
        if self.best is not None:
            return ""
        if self.why:
            return f"it is not known which score predicts errors: {self.why}"
        wrong = [row.quality for row in layers if row.reversed]
        turned = f"; {', '.join(wrong)} the wrong way round: discarding by that keeps the errors" * bool(wrong)
        if all(row.is_useless for row in layers):
            return f"with this network these scores do not predict recognition errors{turned}"
        return (
            "it is not certain that any of these scores predicts recognition errors, and a run of more people may "
            f"tell{turned}"
        )


def ranking_of(found: Evaluation) -> Ranking:
    """The ranking of the scores of an evaluation at one target, and up to one share discarded."""
    directions = {method["quality"]: method["direction"] for method in found.about["methods"]}
    why = _why(found)
    rows = [row for row in found.results if row["error"] == "fnmr"]
    ranked = partial(_ranked, directions, found, 1 - (1 - _LEVEL) / max(1, len(rows)), bool(why))
    every = [ranked(column, row) for column, row in enumerate(rows)]
    known = sorted(every, key=lambda row: math.inf if row.pauc_normalised is None else row.pauc_normalised)
    return Ranking(tuple(known), why)


def _why(found: Evaluation) -> str:
    """Why nothing can be concluded, if that is so."""
    first = found.results[0]
    genuine, without = first["n_genuine"], max(row["n_without_score"] for row in found.results)
    failing = round(first["e0"] * genuine)
    if without > _WITHOUT * (genuine + first["n_impostor"]):
        return f"{without:,} comparisons are of samples without a score: these are the pairs of other images"
    if failing < _FEWEST_ERRORS:
        return (
            f"{failing} of {genuine:,} genuine comparisons fail at FMR {first['fmr']:g}, too few to tell; take a run "
            f"of more people, or of harder images{', or a lower --fmr' * (first['fmr'] > 0)}"
        )
    if not len(found.rounds):
        return "without --bootstrap nothing says whether these areas lie below 1 by chance"
    undefined = np.isnan(found.rounds).any(axis=(1, 2, 3)).mean()
    if undefined > _UNDEFINED:
        return f"in {100 * undefined:.0f} % of the rounds nobody fails, so that the errors are of one person or two"
    return ""


def _ranked(
    directions: dict[str, str], found: Evaluation, level: float, is_unknown: bool, column: int, row: dict[str, Any]
) -> Ranked:
    low = high = None
    if not is_unknown:
        outer = (50 * (1 - level), 50 * (1 + level))
        low, high = np.nanpercentile(found.rounds[:, column, 0, 0], outer)
    area, ci_low, ci_high = (
        row[name] if math.isfinite(row[name]) else None for name in ("pauc_normalised", "ci_low", "ci_high")
    )
    return Ranked(
        row["quality"],
        directions[row["quality"]],
        area,
        ci_low,
        ci_high,
        predicts=None if high is None else bool(high < 1),
        reversed=None if low is None else bool(low > 1),
        is_useless=low is not None and bool(low > _GAIN),
    )
