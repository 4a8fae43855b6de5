"""A comparison as pictures, by matplotlib: distributions of the scores, and rank correlations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from grafiqs.backbones.catalogue import DIRECTIONS
from grafiqs.comparison.result import Comparison, Rows
from grafiqs.plotting import COLOURS, DASHES, label, save

_NAMED = 12
"""More runs have no legend."""

_WIDE = 20
"""Scores whose 5 % and 95 % lie further apart, as a ratio, are drawn on a logarithmic axis."""

_SHARES = np.linspace(0, 1, 101)

Row = dict[str, Any]


def draw(found: Comparison, folder: Path) -> None:
    """Write compare.svg and compare.png: a row for each network, a panel for each score, and their rank correlations.

    Raises StoppedError when that fails.
    """
    names = list(dict.fromkeys(row["score"] for row in found.scores if row["score"] in DIRECTIONS))  # no qualities
    between = found.between_networks
    heights = [2.6] * len(found.networks) + [0.9 + 0.25 * len(_pairs(between))] * bool(between)
    wide = 2.3 * len(names) + 1.2 + 0.5 * len(names)
    figure = Figure(figsize=(wide, sum(heights) + 0.4), layout="constrained")
    grid = figure.add_gridspec(
        len(heights), len(names) + 1, height_ratios=heights, width_ratios=[2.3] * len(names) + [1.2 + 0.5 * len(names)]
    )
    for place, network in enumerate(found.networks):
        runs = network["runs"]
        for column, name in enumerate(names):
            rows = [row for row in found.scores if row["run"] in runs and row["score"] == name]
            if rows:
                axes = figure.add_subplot(grid[place, column])
                _distributions(axes, name, rows, runs)
                if not column:
                    axes.set_ylabel(f"network {network['network']}: {label(network['backbone'])}\nshare below")
                    if len(runs) <= _NAMED:
                        axes.legend(fontsize=6, loc="lower right")
        own = [row for row in found.layers_over_runs if row["network"] == network["network"]]
        if own:
            _layers(figure.add_subplot(grid[place, len(names)]), own, len(runs))
    if between:
        _between(figure.add_subplot(grid[-1, : len(names)]), between, names)
    save(figure, folder, "compare")


def _distributions(axes: Any, name: str, rows: Rows, runs: Sequence[str]) -> None:
    """The empirical distribution of a score, a line a run; a run has one colour in every panel."""
    for row in rows:
        number = runs.index(row["run"])
        axes.plot(
            row["percentiles"],
            _SHARES,
            color=COLOURS[number % len(COLOURS)],
            linestyle=DASHES[number // len(COLOURS) % len(DASHES)],
            linewidth=1.2,
            label=label(row["run"]),
        )
    if min(row["min"] for row in rows) > 0 and max(row["q95"] for row in rows) > _WIDE * min(
        row["q05"] for row in rows
    ):
        axes.set_xscale("log")
    axes.set(ylim=(0, 1))
    axes.set_title(label(name), fontsize=9)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)


def _layers(axes: Any, rows: Rows, runs: int) -> None:
    """The rank correlations between the scores of a network."""
    names = list(dict.fromkeys(row[side] for row in rows for side in ("first", "second")))
    values = np.eye(len(names))
    for row in rows:
        first, second = names.index(row["first"]), names.index(row["second"])
        values[first, second] = values[second, first] = row["mean"]
    axes.set_title("rank correlation" + "\nmean over runs" * (runs > 1), fontsize=9)
    _matrix(axes, values, names, names)


def _between(axes: Any, rows: Rows, names: Sequence[str]) -> None:
    """The rank correlations between networks."""
    pairs = _pairs(rows)
    values = np.full((len(pairs), len(names)), math.nan)
    for row in rows:
        values[pairs.index((row["first"], row["second"])), names.index(row["score"])] = row["correlation"]
    axes.set_title("rank correlation between networks, on shared samples", fontsize=9)
    _matrix(axes, values, [f"networks {one} and {other}" for one, other in pairs], names)


def _pairs(rows: Rows) -> list[tuple[int, int]]:
    return list(dict.fromkeys((row["first"], row["second"]) for row in rows))


def _matrix(axes: Any, values: Any, down: Sequence[str], across: Sequence[str]) -> None:
    axes.imshow(values, cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto")
    axes.set_yticks(range(len(down)), [label(name) for name in down], fontsize=7)
    axes.set_xticks(range(len(across)), [label(name) for name in across], fontsize=7, rotation=30, ha="right")
    for place in np.ndindex(values.shape):
        if not math.isnan(values[place]):
            colour = "white" if abs(values[place]) > 0.7 else "black"
            axes.text(*place[::-1], f"{values[place]:.2f}", ha="center", va="center", fontsize=7, color=colour)
