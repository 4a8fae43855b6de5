"""The options of `report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grafiqs.errors import RequestError
from grafiqs.options.field import option, settle
from grafiqs.options.named import named


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Which runs to show, and what of them. Raises RequestError when two have one name, or there is none.

    >>> ReportOptions(runs=["grafiqs_output"]).named()
    {'grafiqs_output': PosixPath('grafiqs_output')}
    """

    # fmt: off
    runs: tuple[str, ...] = option(
        "runs", "finished run folders, or a folder of them, such as a sweep's; each may be given a name, as in "
        "small=runs/1 (default: what the folder is called)",
        metavar="RUN")
    evaluation: tuple[str, ...] = option(
        "runs", "edc.json of 'grafiqs evaluate', or its folder: curves, operating points, and what errors a threshold "
        "leaves (default: the folder evaluation, if it is one of these runs that was evaluated)", default=(),
        metavar="FILES", adds=True)

    image_path: Path | None = option(
        "pictures", "where the data set is now (default: where it was)", default=None, metavar="PATH",
        excludes={"faces": None})
    root: Path | None = option(
        "pictures", "where the paths in a list begin now (default: as they did)", default=None, metavar="DIR",
        excludes={"faces": None})
    faces: bool = option(
        "pictures", "show faces, and heat maps over them: real faces are personal data, and whoever gets the page gets "
        "them", default=True)
    max_size: float = option(
        "pictures", "megabytes that the page may have; what is left out for it is said, and is left out evenly over "
        "the scores, the best and worst last", default=20.0, metavar="MB", minimum=0.1, maximum=1000)

    output: Path | None = option(
        "output", "the page (default: report.html in the run's folder; of several runs, here)", default=None,
        metavar="FILE")
    quiet: bool = option("output", "print warnings and errors only", default=False)
    # fmt: on

    def __post_init__(self) -> None:
        settle(self)
        if not self.runs:
            raise RequestError("nothing to show: give run folders")
        self.named()

    def named(self) -> dict[str, Path]:
        """The folders by name. Raises RequestError when two have one name, or a name is empty."""
        return named(self.runs, "RUNS")
