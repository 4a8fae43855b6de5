"""A comparison as a file (compare.json) and as lines for people."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafiqs.comparison.result import Comparison, Rows
from grafiqs.disk.files import whole
from grafiqs.disk.names import encoded, shown
from grafiqs.errors import RequestError
from grafiqs.printed import table

JSON = "compare.json"

_RUNS = 20
"""More runs are not listed one by one."""

_PAIRS = 15
"""More pairs of runs are summed up: the file has them all."""

Row = dict[str, Any]


def write(found: Comparison, folder: Path) -> None:
    """Write compare.json, with all of it. Raises RequestError when that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole(folder / JSON) as file:
            file.write(encoded(json.dumps(found.to_json(), indent=1) + "\n"))
    except OSError as error:
        raise RequestError(f"cannot write to {shown(folder)}: {error.strerror}; give another --output-dir") from error


def lines(found: Comparison) -> Iterator[str]:
    """What a reader wants first: the runs, what they share, and the scores of each network over its runs."""
    yield from _runs(found)
    yield from _shared(found)
    for network in found.networks:
        yield ""
        runs = network["runs"]
        yield (
            f"Network {network['network']}: {shown(network['backbone'])}, weights {network['weights_sha256'][:8]}, "
            f"norms {network['norms']}, {_count(len(runs), 'run')}"
        )
        scores = [row for row in found.scores if row["run"] in runs]
        if len(runs) == 1:
            yield from _one_run(scores)
        else:
            yield from _over_runs(found, network, scores)
            yield from _distances([row for row in found.distances if row["first"] in runs])
        yield from _layers([row for row in found.layers_over_runs if row["network"] == network["network"]], len(runs))
    yield from _between_networks(found)


def _runs(found: Comparison) -> Iterator[str]:
    numbers = {run: row["network"] for row in found.networks for run in row["runs"]}
    yield ""
    yield "Runs, and the seeds of their draws:"
    head = ["", "network", "identities", "samples", "failed", "identity seed", "sample seed", "subset"]
    columns = ("identities", "samples", "failed", "identity_seed", "sample_seed")
    yield from table(
        head,
        [
            [
                shown(row["run"]),
                str(numbers[row["run"]]),
                *("-" if row[column] is None else str(row[column]) for column in columns),
                row["subset_sha256"][:8],
            ]
            for row in found.runs[:_RUNS]
        ],
    )
    if len(found.runs) > _RUNS:
        yield f"  ... and {len(found.runs) - _RUNS} more"


def _shared(found: Comparison) -> Iterator[str]:
    if not found.pairs:
        yield "One run: distances, intervals and correlations between networks take two or more."
        return
    yield ""
    if len(found.pairs) <= _PAIRS:
        yield "Shared, and the share of it in what either has (Jaccard):"
        body = [
            [_named(row), *(f"{row[what]:,} ({row[f'{what}_jaccard']:.2f})" for what in ("identities", "samples"))]
            for row in found.pairs
        ]
        yield from table(["", "identities", "samples"], body)
    else:
        yield f"Shared by each two runs, {len(found.pairs)} pairs, and the share of it in what either has (Jaccard):"
        body = []
        for what in ("identities", "samples"):
            body.append([what, *_spread([row[what] for row in found.pairs])])
            body.append([f"{what}, Jaccard", *_spread([row[f"{what}_jaccard"] for row in found.pairs])])
        yield from table(["", "least", "mean", "most"], body)
    known = [row["largest_difference"] for row in found.correlations if not math.isnan(row["largest_difference"])]
    if known and not any(known):
        yield "Images that runs of one network share have the same scores in all of them, to the bit."


def _one_run(scores: Rows) -> Iterator[str]:
    yield "Scores:"
    columns = {"mean": "mean", "std": "std", "5 %": "q05", "median": "median", "95 %": "q95", "between": "between"}
    body = [[shown(row["score"]), *(_number(row[column]) for column in columns.values())] for row in scores]
    yield from table(["", *columns], body)
    yield _meaning(scores)


def _over_runs(found: Comparison, network: Row, scores: Rows) -> Iterator[str]:
    own = [row for row in found.over_runs if row["network"] == network["network"]]
    columns = ("mean", "median", "std", "between")
    by_name = {(row["score"], row["statistic"]): row for row in own}
    names = list(dict.fromkeys(row["score"] for row in own))
    yield "Scores: mean over runs, and half of its interval of 95 % (Student's t):"
    body = [[shown(name), *(_interval(by_name[name, column]) for column in columns)] for name in names]
    yield from table(["", *columns], body)
    yield _meaning(scores)
    pairs = [row for row in found.pairs if row["first"] in network["runs"] and row["second"] in network["runs"]]
    most = max(row["samples_jaccard"] for row in pairs)
    people = max(row["identities_jaccard"] for row in pairs)
    if most or people:
        yield f"Runs share up to {people:.0%} of their identities and {most:.0%} of their samples: they are not"
        yield "independent, and the intervals too narrow."
    if len(network["runs"]) <= _RUNS:
        yield ""
        yield "Mean of each run:"
        means = {(row["run"], row["score"]): row["mean"] for row in scores}
        body = [[shown(run), *(_number(means.get((run, name))) for name in names)] for run in network["runs"]]
        yield from table(["", *map(shown, names)], body)


def _meaning(scores: Rows) -> str:
    row = max(scores, key=lambda row: int(row["single"]))
    single = f"; up to {row['single']:,} identities have one sample" if row["single"] else ""
    clipped = "; below 0 counts as 0" if any(row["clipped"] for row in scores) else ""
    return f"between: the share of the variance that lies between identities{single}{clipped}"


def _distances(distances: Rows) -> Iterator[str]:
    names = list(dict.fromkeys(row["score"] for row in distances))
    if not names:
        return
    yield ""
    yield (
        f"Kolmogorov-Smirnov distance of two runs, {_count(len(distances) // len(names), 'pair')}; beyond: above what "
        "chance gives in 5 %"
    )
    yield "of all cases if samples were independent (those of one identity are not):"
    body = []
    for name in names:
        own = [row for row in distances if row["score"] == name]
        worst = max(own, key=lambda row: row["distance"])
        beyond = sum(row["distance"] > row["critical"] for row in own)
        mean = sum(row["distance"] for row in own) / len(own)
        body.append([shown(name), f"{mean:.3f}", f"{worst['distance']:.3f}", _named(worst), f"{beyond} of {len(own)}"])
    yield from table(["", "mean", "largest", "of runs", "beyond"], body)


def _layers(rows: Rows, runs: int) -> Iterator[str]:
    """The lower triangle of the correlations."""
    if not rows:
        return
    names = list(dict.fromkeys(row[side] for row in rows for side in ("first", "second")))
    found = {(row["first"], row["second"]): row["mean"] for row in rows}
    yield ""
    yield f"Rank correlation (Spearman) between scores{', mean over runs' * (runs > 1)}:"
    body = [
        [shown(one), *(_two(found.get((other, one))) if other in names[:place] else "" for other in names[:-1])]
        for place, one in enumerate(names)
        if place
    ]
    yield from table(["", *map(shown, names[:-1])], body)


def _between_networks(found: Comparison) -> Iterator[str]:
    rows = found.between_networks
    if not rows:
        return
    names = list(dict.fromkeys(row["score"] for row in rows))
    pairs: dict[tuple[int, int], dict[str, Row]] = {}
    for row in rows:
        pairs.setdefault((row["first"], row["second"]), {})[row["score"]] = row
    yield ""
    yield "Rank correlation (Spearman) between networks, on the samples that runs of both have:"
    body = [
        [
            f"{one} and {other} ({_count(max(row['n'] for row in own.values()), 'sample')})",
            *(_two(own[name]["correlation"] if name in own else None) for name in names),
        ]
        for (one, other), own in pairs.items()
    ]
    yield from table(["", *map(shown, names)], body)


def _named(pair: Row) -> str:
    return f"{shown(pair['first'])}, {shown(pair['second'])}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _spread(values: list[float]) -> list[str]:
    """Least, mean and most."""
    known = [value for value in values if not math.isnan(value)]
    return [_number(each) for each in (min(known), sum(known) / len(known), max(known))] if known else ["-"] * 3


def _interval(row: Row) -> str:
    half = (row["ci_high"] - row["ci_low"]) / 2
    return _number(row["mean"]) if math.isnan(half) else f"{_number(row['mean'])} ± {_number(half, 2)}"


def _two(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.2f}"


def _number(value: float | None, digits: int = 4) -> str:
    if value is None or math.isnan(value):
        return "-"
    text = f"{value:.{digits}g}"
    return f"{value:,.0f}" if "e+" in text and abs(value) < 1e9 else text
