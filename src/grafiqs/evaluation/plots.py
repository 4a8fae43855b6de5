"""The curves as pictures, in the field's style: share discarded to the right, error rate upwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from grafiqs.disk.names import shown
from grafiqs.plotting import COLOURS, DASHES, save

if TYPE_CHECKING:
    from grafiqs.evaluation.result import Evaluation


def draw(found: Evaluation, folder: Path) -> None:
    """Write edc.svg and edc.png: a panel for each rate, a line for each method. Raises OSError when that fails."""
    rate = "fmr" if "fmr" in found.results[0] else "starting_error"
    values = list(dict.fromkeys(row[rate] for row in found.results))
    furthest = max(row["x_max"] for row in found.results)
    figure = Figure(figsize=(1.5 + 4.5 * len(values), 4.2), layout="constrained")
    for place, value in enumerate(values, start=1):
        axes = figure.add_subplot(1, len(values), place)
        results = {row["quality"]: row for row in found.results if row[rate] == value and row["x_max"] == furthest}
        for number, (name, row) in enumerate(results.items()):
            steps = [
                one for one in found.curves if one["quality"] == name and one[rate] == value and one["error"] == "fnmr"
            ]
            _line(axes, steps, furthest, number, f"{shown(name)} ({row['pauc_normalised']:.3f})", row["protocol"])
        first = next(iter(results.values()))
        axes.plot([0, first["e0"]], [first["e0"], 0], color="#777777", linewidth=0.8, linestyle=(0, (1, 2)))
        axes.set(xlim=(0, furthest), ylim=(0, None), xlabel="share of comparisons discarded", ylabel="FNMR")
        axes.set_title(f"{'FMR' if rate == 'fmr' else 'starting error'} {value:g}", fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, title="area to no gain", title_fontsize=7)
    save(figure, folder, "edc")


def _line(axes: Any, steps: list[dict[str, Any]], furthest: float, number: int, label: str, protocol: str) -> None:
    x = [one["discarded"] for one in steps if one["discarded"] <= furthest]
    y = [one["error_rate"] for one in steps if one["discarded"] <= furthest]
    axes.plot(
        [*x, furthest],
        [*y, y[-1]],
        drawstyle="steps-post" if protocol == "fixed" else "default",
        color=COLOURS[number % len(COLOURS)],
        linestyle=DASHES[number // len(COLOURS) % len(DASHES)],
        linewidth=1.4,
        label=label,
    )
