"""The options of `calibrate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grafiqs.backbones.catalogue import DIRECTIONS
from grafiqs.errors import RequestError
from grafiqs.options.evaluate import ProtocolOptions
from grafiqs.options.field import option, settle

_FEWEST_ROUNDS = 100


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions(ProtocolOptions):
    """Which run to make a reference of, and how to rank its scores. Raises RequestError for values that cannot be.

    >>> CalibrateOptions(run="run").output
    PosixPath('reference.json')
    """

    # fmt: off
    run: Path = option(
        "run", "a finished run folder; a run with --embeddings can rank its scores", metavar="RUN")

    layer: str | None = option(
        "reference", "the score that quality alone means, chosen by hand (default: the layer, or the loss, that "
        "predicts errors best, if one does with a certainty of 95 %, all scores counted)",
        default=None, choices=tuple(DIRECTIONS))
    any_alignment: bool = option(
        "reference", "let the reference hold for faces however they were aligned: for runs of crops that were aligned "
        "before, as those of photos under --align are", default=False)

    fmr: float = option(
        "error", "the false match rate that sets the threshold of similarity", default=0.01, metavar="RATE",
        minimum=0, maximum=0.5)
    x_max: float = option(
        "error", "up to which share discarded the area under the curve is taken", default=0.3, metavar="SHARE",
        minimum=0.001, maximum=1)

    output: Path = option(
        "output", "the file of the reference", default=Path("reference.json"), metavar="FILE")
    overwrite: bool = option("output", "replace the reference that is there", default=False)
    quiet: bool = option("output", "print warnings and errors only", default=False)
    # fmt: on

    def __post_init__(self) -> None:
        settle(self)
        if 0 < self.bootstrap < _FEWEST_ROUNDS:
            raise RequestError(
                f"--bootstrap is {self.bootstrap}: an interval takes {_FEWEST_ROUNDS} rounds at least, or none (0)"
            )
