"""The options of `compare`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grafiqs.errors import RequestError
from grafiqs.options.field import option, settle
from grafiqs.options.named import named


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Which runs to compare. Raises RequestError when two have one name, or there is none.

    >>> CompareOptions(runs=["runs/111", "other=runs/222"]).named()
    {'111': PosixPath('runs/111'), 'other': PosixPath('runs/222')}
    """

    # fmt: off
    runs: tuple[str, ...] = option(
        "runs", "finished run folders, or a folder of them, such as a sweep's; each may be given a name, as in "
        "small=runs/1 (default: what the folder is called)",
        metavar="RUN")
    reference: tuple[str, ...] = option(
        "runs", "give each run qualities by the one of these reference.json files, commas between them, that holds for "
        "it (default: by its own)", default=(), metavar="FILES", adds=True)

    output_dir: Path = option(
        "output", "where compare.json, compare.svg and compare.png go", default=Path("comparison"), metavar="DIR")
    plots: bool = option(
        "output", "draw the distributions and rank correlations (compare.svg, compare.png)", default=True)
    quiet: bool = option("output", "print warnings and errors only", default=False)
    # fmt: on

    def __post_init__(self) -> None:
        settle(self)
        if not self.runs:
            raise RequestError("nothing to compare: give run folders")
        self.named()

    def named(self) -> dict[str, Path]:
        """The folders by name. Raises RequestError when two have one name, or a name is empty."""
        return named(self.runs, "RUNS")
