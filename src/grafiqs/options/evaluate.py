"""The options of `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.options.field import SEED, flag, option, settle, written
from grafiqs.options.named import named

DIRECTIONS = ("lower", "higher")
"""Which scores mean higher quality."""

FOLDER = Path("evaluation")
"""Where an evaluation goes, unless it is told otherwise."""

PROTOCOLS = ("fixed", "rethreshold")
"""Whether the threshold stays, or is found anew among the comparisons that are left."""


@dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
    """What is compared, and how errors are counted."""

    # fmt: off
    pairs: Path | None = option(
        "comparisons", "what to compare: CSV with columns a,b,genuine and perhaps similarity, lines 'path path 1', "
        "LFW's pairs.txt, or insightface's .bin (default: the pairs of the run's data set, or all genuine ones and "
        "as many impostors)", default=None, metavar="FILE")
    seed: int = option(
        "comparisons", "of the draws: impostors, the random baseline, the bootstrap", default=42, **SEED)
    protocol: str = option(
        "error", "fixed: one threshold, set before anything is discarded; rethreshold: it is set anew at every "
        "twentieth of all comparisons discarded, as CR-FIQA's published evaluation does. They give other numbers",
        default="fixed", choices=PROTOCOLS)
    bootstrap: int = option(
        "error", "rounds of the bootstrap over identities, for intervals of 95 %; 0 for none", default=1000,
        metavar="N", minimum=0, maximum=100_000)
    # fmt: on


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ProtocolOptions):
    """Which scores to evaluate, on which comparisons, how. Raises RequestError when the values do not fit together.

    >>> EvaluateOptions(scores=["run", "others=scores.txt"], direction="higher").named()
    {'run': PosixPath('run'), 'others': PosixPath('scores.txt')}
    """

    # fmt: off
    scores: tuple[str, ...] = option(
        "scores", "run folders, and any other method's tables: lines 'path score', or CSV with a path and columns of "
        "scores; each may be given a name, as in magface=scores.txt (default: what the file or folder is called)",
        metavar="SCORES")
    direction: tuple[str, ...] = option(
        "scores", "which scores of tables are better, lower or higher ones; by name where they differ, as in "
        "magface=higher,own=lower; a run knows it", default=(), metavar="DIRECTION")
    methods: tuple[str, ...] = option(
        "scores", "evaluate these alone, by name or column, such as image,loss (default: all)", default=(),
        metavar="NAMES")
    embeddings: Path | None = option(
        "scores", "embeddings (.npy) with a row for each score of the first SCORES (default: those of its run)",
        default=None, metavar="NPY")
    reference: Path | None = option(
        "scores", "say at which quality to discard, by this reference.json of the runs (default: each run's own)",
        default=None, metavar="FILE")

    fmr: tuple[float, ...] = option(
        "error", "false match rates that set the threshold of similarity", default=(0.01, 0.001), metavar="RATES",
        minimum=0, maximum=0.5)
    starting_error: tuple[float, ...] = option(
        "error", "set the threshold by the FNMR before anything is discarded, instead", default=(), metavar="RATES",
        minimum=0, maximum=0.5, excludes={"fmr": None})
    x_max: tuple[float, ...] = option(
        "error", "up to which share discarded the area under the curve is taken", default=(0.2, 0.3), metavar="SHARES",
        minimum=0.001, maximum=1)

    output_dir: Path = option(
        "output", "where edc.json, edc.csv, edc.svg and edc.png go", default=FOLDER, metavar="DIR")
    plots: bool = option("output", "draw the curves (edc.svg, edc.png)", default=True)
    quiet: bool = option("output", "print warnings and errors only", default=False)
    # fmt: on

    def __post_init__(self) -> None:
        settle(self)
        if not self.scores:
            raise RequestError("nothing to evaluate: give run folders or tables of scores")
        for name in ("fmr", "starting_error", "x_max"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise RequestError(f"{flag(name)} is {written(values)}: one of them is there twice")
        if not self.fmr and not self.starting_error:
            raise RequestError("--fmr names no rate, and there is no --starting-error")
        self.directions()

    @property
    def rates(self) -> tuple[float, ...]:
        """The rates that set thresholds: starting errors if there are any, else false match rates."""
        return self.starting_error or self.fmr

    @property
    def prefixed(self) -> bool:
        """Whether the one of SCORES is given a name, which then stands before those of its columns."""
        return list(self.named().values()) != [Path(text) for text in self.scores]

    def named(self) -> dict[str, Path]:
        """What is to be evaluated, by name. Raises RequestError when two have one name, or a name is empty."""
        return named(self.scores, "SCORES")

    def directions(self) -> dict[str, str]:
        """Which scores are better: of those of SCORES that are named, and under "" of all that do not say it.

        Raises RequestError for anything else.
        """
        names = list(self.named())
        found: dict[str, str] = {}
        for text in self.direction:
            name, equals, direction = text.rpartition("=")
            if direction not in DIRECTIONS or (equals and name not in names) or name in found:
                raise RequestError(
                    f"--direction is {shown(written(self.direction))!r}: it is lower or higher, or, by name, such as "
                    f"{shown(names[-1])}=higher; the names are {shown(', '.join(names))}"
                )
            found[name] = direction
        return found
