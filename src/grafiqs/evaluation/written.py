"""An evaluation as files (edc.json, edc.csv) and as lines for people."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grafiqs.disk.files import whole
from grafiqs.disk.names import encoded, shown
from grafiqs.errors import RequestError
from grafiqs.printed import table

if TYPE_CHECKING:
    from grafiqs.evaluation.result import Evaluation

JSON, CSV = "edc.json", "edc.csv"


def write(found: Evaluation, folder: Path) -> None:
    """Write edc.json, with all of it, and edc.csv, with a row for each area. Raises RequestError when that fails."""
    text = io.StringIO(newline="")
    if found.results:
        rows = csv.DictWriter(text, list(found.results[0]), lineterminator="\n")
        rows.writeheader()
        rows.writerows(found.results)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole(folder / JSON) as file:
            file.write(encoded(json.dumps(found.to_json(), indent=1) + "\n"))
        with whole(folder / CSV) as file:
            file.write(encoded(text.getvalue()))
    except OSError as error:
        raise RequestError(f"cannot write to {shown(folder)}: {error.strerror}; give another --output-dir") from error


def lines(found: Evaluation) -> Iterator[str]:
    """The areas and the operating points, as tables."""
    rate = "fmr" if found.results and "fmr" in found.results[0] else "starting_error"
    what = {"fmr": "FMR", "starting_error": "starting error"}[rate]
    for value in dict.fromkeys(row[rate] for row in found.results):
        rows = [row for row in found.results if row[rate] == value]
        first = rows[0]
        limits = list(dict.fromkeys(row["x_max"] for row in rows))
        yield ""
        yield (
            f"{what} {value:g}: threshold {first['threshold']:.4f}, FMR reached {_share(first['fmr_reached'])}, FNMR "
            f"{_share(first['e0'])} of {first['n_genuine']:,} genuine comparisons ({first['protocol']})"
        )
        yield "Area under the curve relative to no gain (1), smaller is better:"
        head = ["", *(f"up to {limit:g}" for limit in limits)]
        names = dict.fromkeys(row["quality"] for row in rows)
        by_name = {name: [row for row in rows if row["quality"] == name] for name in names}
        body = [[shown(name), *(_area(row) for row in own)] for name, own in by_name.items()]
        yield from table(head, body)
        points = [row for row in found.operating_points if row[rate] == value]
        shares = list(dict.fromkeys(row["discard"] for row in points))
        yield "FNMR left when this share of the comparisons is discarded, and the score at which to discard:"
        body = [[shown(name), *(_point(row) for row in points if row["quality"] == name)] for name in by_name]
        yield from table(["", *(f"{share:.0%}" for share in shares)], body)


def _area(row: dict[str, Any]) -> str:
    interval = "" if math.isnan(row["ci_low"]) else f" [{row['ci_low']:.3f}, {row['ci_high']:.3f}]"
    return "-" if math.isnan(row["pauc_normalised"]) else f"{row['pauc_normalised']:.3f}{interval}"


def _point(row: dict[str, Any]) -> str:
    limit = row["score_threshold"]
    return f"{_share(row['fnmr'])} at {'-' if limit is None else f'{limit:.4g}'}"


def _share(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{100 * value:.3g} %"
