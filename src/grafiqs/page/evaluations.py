"""Evaluations of the runs on a page: which are of them, and what the page shows of each, as JSON values."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from grafiqs.disk import files
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.evaluation.written import JSON, read
from grafiqs.options.evaluate import FOLDER
from grafiqs.run.finished import SCORES
from grafiqs.run.results import Run

log = logging.getLogger(__name__)


def evaluations(given: Sequence[str], runs: Mapping[str, Run]) -> list[dict[str, Any]]:
    """The evaluations that are `given`, or else that in the usual folder, if it is of one of these runs.

    Raises RequestError for one that is given, and cannot be read or is of none of them.
    """
    own = {name: files.sha256(run.folder / SCORES) for name, run in runs.items()}
    if given:
        return [_read(path, own) for path in {os.path.realpath(path): Path(path) for path in given}.values()]
    if not files.exists(FOLDER / JSON):
        return []
    try:
        return [_read(FOLDER, own)]
    except RequestError as error:
        log.info("No evaluation is shown: %s", error)
        return []


def _read(path: Path, own: Mapping[str, str]) -> dict[str, Any]:
    document = read(path).to_json()
    prefixes = {run["scores_sha256"]: shown(run["prefix"]) for run in document["runs"]}
    of = [prefixes.get(sha256) for sha256 in own.values()]
    named = [name for name, prefix in zip(own, of, strict=True) if prefix is not None]
    if not named:
        raise RequestError(
            f"the evaluation {shown(path)} is of other scores than those of {shown(', '.join(own))}: give another "
            "--evaluation, or run 'grafiqs evaluate' again"
        )
    log.info("Evaluation %s: of %s", shown(path), shown(", ".join(named)))
    return {
        "name": shown(path),
        "of": of,
        "comparisons": shown(document["comparisons"]),
        "eer": document["eer"],
        "directions": {shown(method["quality"]): method["direction"] for method in document["methods"]},
        **{part: list(_rows(document[key])) for part, key in _PARTS.items()},
    }


_PARTS = {"results": "results", "curves": "curves", "points": "operating_points"}
"""What the page calls the parts of an evaluation."""


def _rows(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows that are of FNMR."""
    for row in rows:
        if row.get("error", "fnmr") == "fnmr":
            yield {**row, "quality": shown(row["quality"])}
