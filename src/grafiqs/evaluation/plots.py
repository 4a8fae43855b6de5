"""The curves as pictures, in the field's style: share discarded to the right, error rate upwards."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from grafiqs.evaluation.compared import RANDOM
from grafiqs.plotting import COLOURS, DASHES, label, save

if TYPE_CHECKING:
    from grafiqs.evaluation.result import Evaluation


def draw(found: Evaluation, folder: Path) -> None:
    """Write edc.svg and edc.png: a column for each target, FNMR above FMR, a line for each method.

    Raises StoppedError when that fails.
    """
    targets = found.targets()
    errors = list(dict.fromkeys(row["error"] for row in found.results))
    furthest = max(row["x_max"] for row in found.results)
    names = list(dict.fromkeys(row["quality"] for row in found.results))
    figure = Figure(figsize=(2.6 + 4.2 * len(targets), 0.6 + 3.4 * len(errors)), layout="constrained")
    panels = figure.subplots(len(errors), len(targets), squeeze=False, sharex=True)
    for (row, error), (column, target) in product(enumerate(errors), enumerate(targets)):
        axes = panels[row][column]
        for number, name in enumerate(names):
            for curve in found.of(found.curves, target, error=error, quality=name):
                _line(axes, curve, furthest, number)
        first = found.of(found.results, target, error=error)[0]
        axes.plot(
            *([0, first["e0"]], [first["e0"], 0]),
            color="#777777",
            linewidth=0.8,
            linestyle=(0, (1, 2)),
            label="best possible",
        )
        axes.set(xlim=(0, furthest), ylim=(0, None), ylabel=error.upper() if column == 0 else None)
        axes.grid(alpha=0.3)
        if row == 0:
            axes.set_title(found.said(target), fontsize=10)
        if row == len(errors) - 1:
            axes.set_xlabel("share of comparisons discarded")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    save(figure, folder, "edc")


def _line(axes: Any, curve: dict[str, Any], furthest: float, number: int) -> None:
    inside = sum(x <= furthest for x in curve["discarded"])
    x, y = curve["discarded"][:inside], curve["error_rate"][:inside]
    axes.plot(
        [*x, furthest],
        [*y, y[-1]],
        drawstyle="steps-post" if curve["protocol"] == "fixed" else "default",
        color="#888888" if curve["quality"] == RANDOM else COLOURS[number % len(COLOURS)],
        linestyle=DASHES[number // len(COLOURS) % len(DASHES)],
        linewidth=1.4,
        label=label(curve["quality"]),
    )
