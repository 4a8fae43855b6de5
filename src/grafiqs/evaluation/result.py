"""What an evaluation found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

FORMAT = 1
"""Version of edc.json; keys may be added to it."""


class Target(TypedDict):
    """What sets the threshold of similarity: a false match rate, or the FNMR before anything is discarded."""

    fmr: float | None
    starting_error: float | None


@dataclass(frozen=True)
class Evaluation:
    """All that was computed, as the rows of edc.json (docs/evaluation.md)."""

    results: list[dict[str, Any]]
    curves: list[dict[str, Any]]
    operating_points: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    about: dict[str, Any]
    rounds: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0, 0, 0)), repr=False, compare=False)
    """Areas relative to no gain of each round of the bootstrap (rounds, methods, targets, limits); not written."""

    def targets(self) -> list[Target]:
        """What set the thresholds, in order."""
        pairs = dict.fromkeys((row["fmr"], row["starting_error"]) for row in self.results)
        return [Target(fmr=fmr, starting_error=starting) for fmr, starting in pairs]

    def of(self, rows: list[dict[str, Any]], target: Target, **values: Any) -> list[dict[str, Any]]:
        """Those of the rows that are of a target, and have these values."""
        wanted = {**target, **values}.items()
        return [row for row in rows if wanted <= row.items()]

    @staticmethod
    def said(target: Target) -> str:
        """A target in words."""
        fmr, starting = target["fmr"], target["starting_error"]
        return f"FMR {fmr:g}" if fmr is not None else f"Starting error {starting:g}"

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON values: NaN is None."""
        parts = {
            "results": self.results,
            "curves": self.curves,
            "operating_points": self.operating_points,
            "differences": self.differences,
        }
        return {
            "format": FORMAT,
            **_plain(self.about),
            **{name: [_plain(row) for row in rows] for name, rows in parts.items()},
        }


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: list(map(_number, value)) if isinstance(value, list) else _number(value) for name, value in row.items()
    }


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
