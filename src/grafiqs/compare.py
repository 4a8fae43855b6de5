"""How runs of several seeds or networks agree, and what several seeds say together."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from grafiqs.calibration.reference import read_reference
from grafiqs.comparison import together
from grafiqs.comparison.result import Comparison, Rows
from grafiqs.comparison.runs import Compared, folders, read
from grafiqs.disk.names import shown
from grafiqs.options.compare import CompareOptions
from grafiqs.run.finished import refuse_inside_run

__all__ = ["CompareOptions", "Comparison", "compare"]

log = logging.getLogger(__name__)

_SHOWN = 3
"""As many runs or pairs are named in a warning."""


def compare(options: CompareOptions) -> Comparison:
    """Compare the runs that `options` name; what is not as it should be among replicates is logged as warnings.

    Nothing is written. Raises RequestError for what is not a finished run, one that is damaged or given twice, one that
    no reference holds for if there are some, and when the output folder lies in a run or its data set.

    >>> from grafiqs import Options, extract_gradients
    >>> for seed in (1, 2):
    ...     subset = {"image_path": "faces", "samples_per_identity": 3, "random_seed": seed}
    ...     _ = extract_gradients(Options(**subset, weights="weights.pth", output_dir=f"seed{seed}", quiet=True))
    >>> found = compare(CompareOptions(runs=["seed1", "seed2"]))
    >>> found.pairs[0]["identities"], found.pairs[0]["samples"]
    (3, 6)
    """
    refuse_inside_run(options.output_dir)
    given, said = folders(options.named())
    for line in said:
        log.info("%s", line)
    references = {Path(path): read_reference(path) for path in options.reference}
    for path, reference in references.items():
        log.info("Reference %s: %s", shown(path), reference.said())
    return compared(read(given, references, options.output_dir))


def compared(runs: Sequence[Compared]) -> Comparison:
    """The same of runs that are read; what is not as it should be among replicates is logged as warnings."""
    networks = together.networks(runs)
    pairs = list(combinations(runs, 2))
    scores = [row for run in runs for row in together.distributions(run)]
    layers = [row for run in runs for row in together.layers(run)]
    found = Comparison(
        networks=networks,
        runs=[{"run": run.name, **run.about} for run in runs],
        pairs=[together.pair(*pair) for pair in pairs],
        scores=scores,
        over_runs=list(together.over_runs(networks, scores)),
        distances=[row for pair in pairs for row in together.distances(*pair)],
        layers=layers,
        layers_over_runs=list(together.layers_over_runs(networks, layers)),
        correlations=[row for pair in pairs for row in together.correlations(*pair)],
        between_networks=list(together.between_networks(networks, runs)),
    )
    _warn(runs, found)
    return found


def _warn(runs: Sequence[Compared], found: Comparison) -> None:
    """Say what is not as it should be among replicates."""
    for network in found.networks:
        for setting, values in network["differ"].items():
            parts = [
                f"{shown(value)} ({_some([name for name, own in values.items() if own == value])})"
                for value in dict.fromkeys(values.values())
            ]
            log.warning("warning: runs of one network differ in %s: %s", setting, "; ".join(parts))
    _warn_of_scores(runs)
    _warn_of_images(found.pairs)
    _warn_of_differences(found)


def _warn_of_scores(runs: Sequence[Compared]) -> None:
    every = dict.fromkeys(score for run in runs for score in run.scores)
    for score in every:
        without = [run.name for run in runs if score not in run.scores]
        if without:
            log.warning("warning: the score %s is not in %s", shown(score), _some(without))


def _warn_of_images(pairs: Rows) -> None:
    """Samples are matched by name, and other data sets can have the same."""
    others = [row for row in pairs if row["other_images"]]
    if others:
        worst = max(others, key=lambda row: row["other_images"])
        log.warning(
            "warning: in %d of %d pairs of runs, shared samples are other files (SHA-256), copies made anew or other "
            "pictures: up to %d of %d (%s and %s)",
            *(len(others), len(pairs), worst["other_images"], worst["scored"]),
            *map(shown, (worst["first"], worst["second"])),
        )


def _warn_of_differences(found: Comparison) -> None:
    """A network gives the same file the same score, if it computes alike."""
    known = [row for row in found.correlations if row["largest_difference"] > 0]
    if known:
        worst = max(known, key=lambda row: row["largest_difference"])
        log.warning(
            "warning: one network gave the same images other scores: they differ by up to %.2g of their size (%s, %s "
            "and %s)",
            *(worst["largest_difference"], *map(shown, (worst["score"], worst["first"], worst["second"]))),
        )


def _some(names: Sequence[str]) -> str:
    listed = ", ".join(map(shown, names[:_SHOWN]))
    return f"{listed} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else listed
