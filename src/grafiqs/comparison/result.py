"""What a comparison found."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

FORMAT = 1
"""Version of compare.json."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Comparison:
    """All that was computed, as the rows of compare.json (docs/compare.md).

    `networks`: the runs whose scores are on one scale; `runs`: what each run is; `pairs`: what each two share;
    `scores`: the distribution of each score of each run; `over_runs`: the mean of each statistic over the runs of a
    network, with its interval; `distances`: Kolmogorov-Smirnov, between runs of one network; `layers`: rank
    correlations between the scores of each run, `layers_over_runs` their means; `correlations`: between each
    two runs, on shared samples; `between_networks`: between each two networks, on the samples of all their runs.
    """

    networks: Rows
    runs: Rows
    pairs: Rows
    scores: Rows
    over_runs: Rows
    distances: Rows
    layers: Rows
    layers_over_runs: Rows
    correlations: Rows
    between_networks: Rows

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON values: what is undefined is None."""
        return {"format": FORMAT, **{field.name: _plain(getattr(self, field.name)) for field in fields(self)}}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
