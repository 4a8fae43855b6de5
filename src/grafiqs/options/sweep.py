"""The options of `sweep`: those of a run, and which seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

from grafiqs.errors import RequestError
from grafiqs.options.extract import Options
from grafiqs.options.field import SEED, flag, option

VARYING = ("random_seed", "identity_selection_seed", "skip_identities")
"""The options in which the runs of a sweep differ."""

ALONE = ("store", "part", "engine", "ray_address", "ray_cpus")
"""The options of a single run that a sweep does not take."""

_SEEDS = {**SEED, "metavar": "SEEDS"}


@dataclass(frozen=True, kw_only=True)
class SweepOptions(Options):
    """Many runs that differ in their seeds. Raises RequestError when the values do not fit together.

    >>> options = SweepOptions(image_path="faces", identity_selection_seeds=[111, 333], random_seeds=[222, 444])
    >>> list(options.runs())
    ['identities-111_samples-222', 'identities-333_samples-444']
    """

    # fmt: off
    output_dir: Path = option(
        "output", "the folder of the run folders, one for each subset; a sweep that was stopped there is resumed",
        default=Path("grafiqs_sweep"), metavar="DIR", decides=False)
    overwrite: bool = option(
        "output", "remove the sweep that the folder holds, all its runs, whatever their options, and start over",
        default=False, decides=False)

    random_seeds: tuple[int, ...] = option(
        "sweep", "a subset for each of these seeds of the sample draw, e.g. 222,444", default=(), **_SEEDS,
        excludes={"random_seed": None})
    identity_selection_seeds: tuple[int, ...] = option(
        "sweep", "a subset for each of these seeds of the identity draw, which is at random then; with as many "
        "--random-seeds, the first goes with the first, and so on; one goes with all", default=(), **_SEEDS,
        excludes={"identity_selection_seed": None})
    crossed: bool = option(
        "sweep", "combine every one of these seeds with every one of those", default=False,
        requires=("random_seeds", "identity_selection_seeds"), which="which it combines")
    replicates: int | None = option(
        "sweep", "K subsets instead: the first by the seeds of --random-seed and --identity-selection-seed, each "
        "further one by seeds that are higher by 1", default=None, metavar="K", minimum=1, maximum=1000,
        excludes={"random_seeds": None, "identity_selection_seeds": None})
    disjoint: bool = option(
        "sweep", "replicates that share no identity: one random order of all, by the identity seed, is cut into K "
        "times N; the seeds are the same in all", default=False, requires=("replicates", "num_identities"),
        which="how many, and how large")
    # fmt: on

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.engine != "local":
            raise RequestError("a sweep is made by one process: leave --engine ray out, or make its runs by 'extract'")
        if self.part is not None or self.store != "tree":
            raise RequestError(
                "a sweep is made by one process, and its runs share files of single gradients: leave out "
                f"{'--part' if self.part is not None else '--store shards'}; 'extract' makes one run of it with that, "
                "and 'export' turns a finished run into another store"
            )
        lists = [name for name in ("random_seeds", "identity_selection_seeds") if getattr(self, name)]
        for name in lists:
            seeds = getattr(self, name)
            twice = [seed for seed in seeds if seeds.count(seed) > 1]
            if twice:
                raise RequestError(f"{flag(name)} names {twice[0]} twice: that would be the same subset again")
        if not lists and self.replicates is None:
            raise RequestError(
                "a sweep needs seeds: give --random-seeds, --identity-selection-seeds or both, or --replicates"
            )
        if self.identity_selection_seeds or self.disjoint:
            object.__setattr__(self, "random_identity_selection", True)
        samples, identities = len(self.random_seeds), len(self.identity_selection_seeds)
        if samples > 1 and identities > 1 and samples != identities and not self.crossed:
            raise RequestError(
                f"{identities} --identity-selection-seeds and {samples} --random-seeds make no pairs: give as many of "
                f"both, or --crossed for all {samples * identities} combinations"
            )
        self.runs()

    def runs(self) -> dict[str, Options]:
        """The options of each run, by the name of its folder."""
        shared = {field.name: getattr(self, field.name) for field in fields(Options)}
        found: dict[str, Options] = {}
        for own in self._varied():
            run = Options(**{**shared, **own})
            identities = [f"identities-{run.identity_seed}"] if self.random_identity_selection else []
            skipped = [f"skip-{run.skip_identities}"] if run.skip_identities or self.disjoint else []
            name = "_".join([*identities, *skipped, f"samples-{run.random_seed}"])
            object.__setattr__(run, "output_dir", self.output_dir / name)
            found[name] = run
        return found

    def _varied(self) -> Iterator[dict[str, Any]]:
        """What is each run's own."""
        if self.replicates is not None:
            for number in range(self.replicates):
                if self.disjoint:
                    yield {"skip_identities": self.skip_identities + number * (self.num_identities or 0)}
                else:
                    own = self.identity_selection_seed
                    yield {
                        "random_seed": self.random_seed + number,
                        "identity_selection_seed": None if own is None else own + number,
                    }
            return
        samples = self.random_seeds or (self.random_seed,)
        identities: tuple[int | None, ...] = self.identity_selection_seeds or (self.identity_selection_seed,)
        one = len(samples) == 1 or len(identities) == 1
        pairs = product(identities, samples) if self.crossed or one else zip(identities, samples, strict=True)
        for identity, sample in pairs:
            yield {"random_seed": sample, "identity_selection_seed": identity}
