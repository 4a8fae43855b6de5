"""One page that shows runs: read them, fit what is shown of each into its size, write the page."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from grafiqs.compare import compared
from grafiqs.comparison import runs as comparisons
from grafiqs.datasets.dataset import Dataset
from grafiqs.disk import files
from grafiqs.disk.names import encoded, shown
from grafiqs.errors import RequestError
from grafiqs.images.heat import coloured
from grafiqs.options.report import ReportOptions
from grafiqs.page.content import text
from grafiqs.page.evaluations import evaluations
from grafiqs.page.fitted import Fitted
from grafiqs.page.page import as_json, rendered
from grafiqs.progress import progress_bar
from grafiqs.run import finished
from grafiqs.run.finished import REPORT, is_page, refuse_inside_run
from grafiqs.run.place import place_of
from grafiqs.run.results import Run, open_run
from grafiqs.select import open_dataset

__all__ = ["Report", "ReportOptions", "report"]

log = logging.getLogger(__name__)

_MEGABYTE = 1_000_000

_SAID = 2000
"""Bytes of what is said of a run's pictures, but for the place of its data set."""


@dataclass(frozen=True)
class Report:
    """A page that was written: where, its bytes, and how many pictures it lacks as something was changed since."""

    path: Path
    bytes: int
    changed: int


def report(options: ReportOptions) -> Report:
    """Write the page that `options` ask for; what it leaves out is logged.

    Raises RequestError for what is not a finished run, or one that is damaged or given twice, for an evaluation of
    other runs, a place of the data set that holds nothing, and when the page cannot be written, or would take the
    place of something else.

    >>> from grafiqs import Options, extract_gradients
    >>> _ = extract_gradients(Options(image_path="faces", weights="weights.pth", output_dir="run", quiet=True))
    >>> report(ReportOptions(runs=["run"], quiet=True)).path
    PosixPath('run/report.html')
    """
    given, said = comparisons.folders(options.named())
    for line in said:
        log.info("%s", line)
    given = {text(name): folder for name, folder in given.items()}
    runs = {name: _opened(folder) for name, folder in given.items()}
    own = next(iter(given.values())) / REPORT if len(given) == 1 else None
    output = options.output or own or Path(REPORT)
    _need_place(output, own)
    sources = {name: _source(run, options) for name, run in runs.items() if options.faces}
    limit = int(options.max_size * _MEGABYTE)
    title = ", ".join(map(shown, given if len(given) <= 3 else (*list(given)[:3], "...")))
    values: dict[str, Any] = {
        "faces": options.faces,
        "colours": coloured(np.linspace(0, 1, 256)[None])[0].tolist(),
        "evaluations": evaluations(options.evaluation, runs),
        "comparison": _comparison(given) if len(runs) > 1 else None,
        "runs": [],
    }
    parts = _parts(runs, sources, limit - _size(title, values))
    values["runs"] = [part.values for part in parts]
    size = _size(title, values) + sum(map(_said, runs.values()))
    if size > limit:
        raise RequestError(
            f"the page has {size / _MEGABYTE:.2f} MB without any picture, and --max-size is {options.max_size:g}: "
            "allow more"
        )
    changed = _add_pictures(parts, sources, limit - size, options)
    page = encoded(rendered(title, values))
    _write(output, page)
    log.info("Written: %s (%.1f MB)", shown(output), len(page) / _MEGABYTE)
    return Report(output, len(page), changed)


def _size(title: str, values: dict[str, Any]) -> int:
    return len(encoded(rendered(title, values)))


def _said(run: Run) -> int:
    """The bytes of what may be said of a run's pictures: a name may take six for a character."""
    return _SAID + 6 * len(encoded(run.manifest.data_set["place"]))


def _parts(runs: Mapping[str, Run], sources: Mapping[str, Dataset | str], budget: int) -> list[Fitted]:
    """The runs as the page shows them, in their order; short ones have what they need, the others what is left."""
    found: dict[str, Fitted] = {}
    for number, name in enumerate(sorted(runs, key=lambda name: len(runs[name].scores))):
        run = runs[name]
        pictures = not isinstance(sources.get(name, ""), str) or (name in sources and bool(run.manifest.dumps))
        found[name] = _fitted(name, run, budget // (len(runs) - number) - _said(run), pictures)
        budget -= len(encoded(as_json(found[name].values))) + _said(run)
    return [found[name] for name in runs]


def _add_pictures(
    parts: Sequence[Fitted], sources: Mapping[str, Dataset | str], budget: int, options: ReportOptions
) -> int:
    """Add pictures to all runs, those with few faces first, so that what they leave is for the others.

    Returns how many could not be shown as something was changed since.
    """
    changed = 0
    with progress_bar(0, 0, options.quiet, "pictures") as bar:
        for number, part in enumerate(sorted(parts, key=lambda part: len(part.rows))):
            if not options.faces:
                part.say("Faces and heat maps were left out (--no-faces)")
                continue
            taken, missing = part.add_pictures(sources[part.name], budget // (len(parts) - number), bar.update)
            budget = max(0, budget - taken)
            changed += missing
    return changed


def _opened(folder: Path) -> Run:
    """A finished run, of which nothing was changed since it finished. Raises RequestError otherwise."""
    run = open_run(folder)
    finished.need_unchanged(folder, run.manifest)
    return run


def _need_place(output: Path, own: Path | None) -> None:
    """Raise RequestError when the page cannot be written, or would take the place of something else.

    In a run folder there is place for its `own` page alone.
    """
    if own is None or os.path.realpath(output) != os.path.realpath(own):
        refuse_inside_run(output.parent, "--output")
    if os.path.isdir(output):
        raise RequestError(f"{shown(output)} is a folder, and the page is a file: give another --output")
    try:
        if os.path.lexists(output) and not is_page(output):
            raise RequestError(
                f"{shown(output)} is there already, and not a page of 'grafiqs report': move it away, or give another "
                "--output"
            )
    except OSError as error:
        raise RequestError(f"cannot read {shown(output)}: {error.strerror}; give another --output") from error


def _source(run: Run, options: ReportOptions) -> Dataset | str:
    """The data set of a run, or why faces are not shown, in a sentence."""
    manifest = run.manifest
    place, root = place_of(manifest.data_set, manifest.options["root"] is not None, options.image_path, options.root)
    try:
        return open_dataset(manifest.to_options(image_path=place, root=root))
    except RequestError as error:
        if options.image_path is not None:
            raise
        return f"There are no faces, as the data set is not at hand ({error}); --image-path says where it is now"


def _fitted(name: str, run: Run, budget: int, pictures: bool) -> Fitted:
    try:
        return Fitted(name, run, budget, pictures)
    except RequestError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise finished.damaged(run.folder, error) from error


def _comparison(given: Mapping[str, Path]) -> dict[str, Any] | str:
    """What 'grafiqs compare' says of the runs, or why it says nothing."""
    try:
        return compared(comparisons.read(given, {})).to_json()
    except RequestError as error:
        log.warning("warning: the runs are not compared: %s", error)
        return str(error)


def _write(output: Path, page: bytes) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(output) as file:
            file.write(page)
    except OSError as error:
        raise RequestError(f"cannot write {shown(output)}: {error.strerror}; give another --output") from error
