"""What an evaluation found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Evaluation:
    """All that was computed, as the rows of edc.json (docs/evaluation.md)."""

    results: list[dict[str, Any]]
    curves: list[dict[str, Any]]
    operating_points: list[dict[str, Any]]
    differences: list[dict[str, Any]]
    about: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON values: NaN is None."""
        parts = {
            "results": self.results,
            "curves": self.curves,
            "operating_points": self.operating_points,
            "differences": self.differences,
        }
        return {"format": 1, **self.about, **{name: [_plain(row) for row in rows] for name, rows in parts.items()}}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }
