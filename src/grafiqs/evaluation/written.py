"""An evaluation as files (edc.json, edc.csv), read back from the first, and as lines for people."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafiqs.disk import files
from grafiqs.disk.names import encoded, shown
from grafiqs.disk.stated import understood
from grafiqs.errors import RequestError
from grafiqs.evaluation.compared import RANDOM
from grafiqs.evaluation.document import parsed
from grafiqs.evaluation.result import FORMAT, Evaluation
from grafiqs.printed import table

JSON, CSV = "edc.json", "edc.csv"

_MOST = 2**27
"""The most bytes of edc.json that are read: those of some thousand curves."""

_OTHERWISE = "'grafiqs evaluate' writes such a file: give its --output-dir, or evaluate again"


def write(found: Evaluation, folder: Path) -> None:
    """Write edc.json, with all of it, and edc.csv, with a row for each area. Raises RequestError when that fails."""
    text = io.StringIO(newline="")
    document = found.to_json()
    rows = csv.DictWriter(text, list(document["results"][0]), lineterminator="\n")
    rows.writeheader()
    rows.writerows(document["results"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with files.whole(folder / JSON) as file:
            file.write(encoded(json.dumps(document, indent=1) + "\n"))
        with files.whole(folder / CSV) as file:
            file.write(encoded(text.getvalue()))
    except OSError as error:
        raise RequestError(f"cannot write to {shown(folder)}: {error.strerror}; give another --output-dir") from error


def read(path: Path) -> Evaluation:
    """The evaluation that `write` wrote: `path` is its edc.json, or the folder that holds it. All of it is checked.

    As before it was written, what is undefined is NaN, and what is not there None; the `rounds` are gone.
    Raises RequestError when there is none, it is damaged, or it was written before edc.json said which runs it is of.
    """
    place = path / JSON if path.is_dir() else path
    try:
        with files.opened(place) as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        raise RequestError(f"cannot read the evaluation {shown(place)}: {error.strerror}; {_OTHERWISE}") from error
    if len(data) > _MOST:
        raise RequestError(f"{shown(place)} is larger than any evaluation: {_OTHERWISE}")
    found = understood(place, data, FORMAT, parsed, _OTHERWISE)
    if found is None:
        raise RequestError(
            f"{shown(place)} was written by an earlier version of grafiqs, and does not say which runs it is of: run "
            "'grafiqs evaluate' again"
        )
    return found


def lines(found: Evaluation) -> Iterator[str]:
    """Areas, differences to the best method, and operating points, as tables: for each target one of each."""
    eer = found.about["eer"]
    directions = {method["quality"]: method["direction"] for method in found.about["methods"]}
    yield f"Equal error rate: {_share(eer)}"
    for target in found.targets():
        rows = found.of(found.results, target, error="fnmr")
        first, furthest = rows[0], rows[-1]["x_max"]
        names = list(dict.fromkeys(row["quality"] for row in rows))
        yield ""
        yield (
            f"{found.said(target)}: threshold {first['threshold']:.4f}, FMR reached {_share(first['fmr_reached'])}, "
            f"FNMR {_share(first['e0'])}{_interval(first['e0_low'], first['e0_high'])} of {first['n_genuine']:,} "
            f"genuine comparisons ({first['protocol']})"
        )
        if not first["e0"]:
            yield "No genuine comparison fails: there is nothing to gain by discarding."
            continue
        yield "Area under the curve relative to no gain (1), smaller is better:"
        head = ["", *(f"up to {limit:g}" for limit in dict.fromkeys(row["x_max"] for row in rows))]
        areas = {name: [row for row in rows if row["quality"] == name] for name in names}
        yield from table(head, [[shown(name), *map(_area, own)] for name, own in areas.items()])
        best = min(
            (name for name in names if name != RANDOM),
            default=RANDOM,
            key=lambda name: _last(areas[name][-1]["pauc_normalised"]),
        )
        against = list(_against(found.of(found.differences, target, x_max=furthest), best))
        if against:
            yield f"Difference to {shown(best)} up to {furthest:g}, * if its interval of 95 % leaves out 0:"
            yield from table(["", "area more"], against)
        points = found.of(found.operating_points, target)
        shares = list(dict.fromkeys(row["discard"] for row in points))
        yield "FNMR left when this share of the genuine comparisons is discarded; in brackets the scores to discard,"
        known = "; q: the quality there" * any(row["quality_threshold"] is not None for row in points)
        yield f"and the share that they come to, if equal scores make it less{known}:"
        cells = {name: [_point(row, directions[name]) for row in points if row["quality"] == name] for name in names}
        body = [[shown(name), *own] for name, own in cells.items()]
        yield from table(["", *(f"{share:.0%}" for share in shares)], body)


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f" [{100 * low:.3g}, {100 * high:.3g}]"


def _against(differences: list[dict[str, Any]], best: str) -> Iterator[list[str]]:
    """How much more the area of each other method is than that of the best."""
    for row in differences:
        if best in (row["first"], row["second"]) and not math.isnan(row["difference"]):
            is_first = row["second"] == best
            sign = 1 if is_first else -1
            low, high = sorted((sign * row["ci_low"], sign * row["ci_high"]))
            other = row["first"] if is_first else row["second"]
            mark = " *" if low > 0 or high < 0 else "  "
            yield [shown(other), f"{sign * row['difference']:.3f} [{low:.3f}, {high:.3f}]{mark}"]


def _last(value: float) -> float:
    """What sorts behind all numbers if it is none."""
    return math.inf if math.isnan(value) else value


def _area(row: dict[str, Any]) -> str:
    interval = "" if math.isnan(row["ci_low"]) else f" [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
    return "-" if math.isnan(row["pauc_normalised"]) else f"{row['pauc_normalised']:.3f}{interval}"


def _point(row: dict[str, Any], direction: str) -> str:
    limit = row["score_threshold"]
    left = _share(row["fnmr"])
    if row["quality"] == RANDOM:
        return left
    if limit is None:
        return f"{left} (none)"
    less = f": {100 * row['discarded']:.3g} %" if row["discarded"] < row["discard"] - 0.001 else ""
    quality = "" if row["quality_threshold"] is None else f", q {row['quality_threshold']}"
    return f"{left} ({'>' if direction == 'lower' else '<'}{limit:.5g}{quality}{less})"


def _share(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{100 * value:.3g} %"
