"""Proof that a run is what its manifest says: every file, every score, and the subset itself; an alignment likewise."""

from __future__ import annotations

import base64
import filecmp
import hashlib
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from grafiqs import npy
from grafiqs.errors import RequestError, StoppedError, UnreadableSampleError
from grafiqs.formats.dataset import Dataset
from grafiqs.formats.lists import ListedFiles
from grafiqs.names import shown
from grafiqs.options.subset import SubsetOptions
from grafiqs.progress import progress_bar
from grafiqs.run import aligned, files, tables
from grafiqs.run import manifest as manifests
from grafiqs.run.journal import Failed, Outcome, Scored
from grafiqs.run.manifest import Manifest, subset_differences
from grafiqs.run.output import LOCK
from grafiqs.select import Subset, open_dataset, select

log = logging.getLogger(__name__)

_SHOWN = 20
"""Problems that are logged one by one; the rest are counted."""


def verify_run(
    folder: Path, image_path: Path | None = None, quiet: bool = False, root: Path | None = None
) -> list[str]:
    """Check the finished run or alignment in `folder`, with its data set where that is at hand; returns what is wrong.

    `image_path` says where the data set is now, and `root` where the paths in a list begin; by default both are looked
    for where they were. Problems are logged as warnings. Raises RequestError when `folder` is no run folder, or cannot
    be read, and StoppedError when the temporary folder takes no tables to compare.
    """
    if not manifests.is_run(folder) and aligned.is_alignment(folder):
        return _verify_alignment(folder, image_path, root)
    manifest = manifests.read(folder)
    place = image_path or Path(manifest.data_set["place"])
    is_list = manifest.data_set["form"] == ListedFiles.form
    _check_place(image_path, root, is_list)
    if root is None and manifest.options["root"] is not None and not os.path.isdir(place):
        root = Path(manifest.data_set["root"])
    at_hand = os.path.exists(place)
    options = manifest.to_options(image_path=place, root=root) if at_hand else None
    counts: Counter[type[Outcome]] = Counter()
    problems = list(_problems(folder, manifest, options, counts, quiet))
    if problems:
        _log_problems(folder, problems)
        return problems
    if options is None:
        log.info("The data set %s is not at hand: the subset was not derived again (--image-path)", shown(place))
    else:
        log.info("The subset derived again from %s is the same: SHA-256 %s", shown(place), manifest.subset.sha256)
    log.info(
        "Verified: %d identities, %d images, %d scored, %d failed, %d gradient files: all as the manifest says",
        *(manifest.subset.identities, len(manifest.subset.samples)),
        *(counts[Scored], counts[Failed], counts[Scored] * len(manifest.dumps)),
    )
    return []


def _log_problems(folder: Path, problems: list[str]) -> None:
    for problem in problems[:_SHOWN]:
        log.warning("%s", problem)
    if len(problems) > _SHOWN:
        log.warning("... and %d more", len(problems) - _SHOWN)
    log.warning("%s is not what its manifest says: %d problems", shown(folder), len(problems))


def _verify_alignment(folder: Path, image_path: Path | None, root: Path | None) -> list[str]:
    """Check the crops and tables of an alignment, its samples, and the pictures that they were made of."""
    document, subset = aligned.read(folder)
    data_set = document["data_set"]
    place, is_list = image_path or Path(data_set["place"]), data_set["form"] == ListedFiles.form
    _check_place(image_path, root, is_list)
    if root is None and data_set["root"] is not None and not os.path.isdir(place):
        root = Path(data_set["root"])
    at_hand = os.path.exists(place) and (root is None or os.path.isdir(root))
    options = {name: document["options"][name] for name in ("image_extension", "flat_structure")}
    problems: list[str] = []
    try:
        if not (folder / tables.SUMS).exists():
            problems.append("the alignment is not finished: the command that began it goes on with it")
        else:
            problems += aligned.problems(folder, subset)
            if at_hand:
                chosen = SubsetOptions(image_path=place, root=root, **options)
                problems += _picture_problems(folder, subset, chosen)
    except (OSError, ValueError) as error:
        problems.append(f"the tables cannot be followed further: {_reason(error)}")
    if problems:
        _log_problems(folder, problems)
        return problems
    if not at_hand:
        log.info("The data set %s is not at hand: the pictures were not looked at (--image-path)", shown(place))
    log.info("Verified: %d images, crops and tables as %s and the checksums say", len(subset.samples), aligned.NAME)
    return []


def _check_place(image_path: Path | None, root: Path | None, is_list: bool) -> None:
    """Raise RequestError where the data set is said to be now, and is not."""
    if root is not None and not (is_list and os.path.isdir(root)):
        why = "it is no folder that can be reached" if is_list else "the data set of this run is no list"
        raise RequestError(f"--root {shown(root)} is not where the paths in a list begin: {why}")
    if image_path is not None and not os.path.exists(image_path):
        raise RequestError(f"the data set {shown(image_path)} does not exist: check --image-path")


def _picture_problems(folder: Path, subset: Subset, options: SubsetOptions) -> Iterator[str]:
    """Samples that are no longer those of the data set, and pictures that are no longer the ones that were aligned."""
    try:
        dataset = open_dataset(options)
        yield from subset_differences(subset, select(dataset, options))
    except RequestError as error:
        yield f"the data set cannot be listed again: {error}"
        return
    for checksum, location in tables.read_sums(folder / tables.IMAGE_SUMS):
        try:
            if hashlib.sha256(dataset.read(location)).hexdigest() != checksum:
                yield f"the image {shown(dataset.root / location)} is no longer the one that was aligned"
        except UnreadableSampleError as error:
            yield f"the image {shown(dataset.root / location)} cannot be read: {error}"


def _problems(
    folder: Path, manifest: Manifest, options: SubsetOptions | None, counts: Counter[type[Outcome]], quiet: bool
) -> Iterator[str]:
    if not tables.is_finished(folder):
        yield "the run is not finished: the command that began it goes on with it"
        return
    dataset: Dataset | None = None
    if options is not None:
        try:
            dataset = open_dataset(options)
            subset = select(dataset, options)
            yield from manifest.subset_differences(subset)
            if manifest.pairs != [list(pair) for pair in subset.pairs(dataset)]:
                yield "the pairs to compare are no longer those of the data set"
        except RequestError as error:
            yield f"the subset cannot be derived again: {error}"
    outputs: set[str] = set()
    try:
        changed = tables.changed(folder, manifest)
        yield from (f"{name} was changed since the run finished" for name in changed)
        with progress_bar(len(manifest.subset.samples), 0, quiet) as bar:
            for outcome in tables.read(folder, manifest):
                bar.update()
                counts[type(outcome)] += 1
                if isinstance(outcome, Scored):
                    outputs.add(manifest.subset.samples[outcome.index].output)
                    yield from _file_problems(folder, manifest, outcome)
                    yield from _image_problems(manifest, outcome, dataset)
        if not changed:
            yield from _rendering_problems(folder, manifest)
    except (OSError, ValueError) as error:
        yield f"the tables cannot be followed further: {_reason(error)}"
        return
    own = {LOCK, manifests.NAME, *tables.names(manifest)}
    gradients = {f"{layer}/{output}" for layer in manifest.dumps for output in outputs}
    yield from files.strangers(folder, own | gradients)


def _reason(error: Exception) -> str:
    """Why a table cannot be read."""
    if isinstance(error, OSError) and error.filename:
        return f"{shown(Path(error.filename).name)}: {error.strerror}"
    return str(error)


def _rendering_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Write all tables once more, elsewhere, from what they say, and compare."""
    try:
        with tempfile.TemporaryDirectory() as elsewhere:
            tables.write(folder, manifest, tables.read(folder, manifest), into=Path(elsewhere))
            for name in tables.names(manifest):
                if not filecmp.cmp(folder / name, Path(elsewhere) / name, shallow=False):
                    yield f"{name} does not say what {tables.SCORES} and {tables.FAILURES} say"
    except OSError as error:  # every table of the run was read before
        raise StoppedError(
            f"the temporary folder does not take the tables, to compare them: {error.strerror or error}; "
            "make room there, or name another by the variable TMPDIR"
        ) from error


def _file_problems(folder: Path, manifest: Manifest, scored: Scored) -> Iterator[str]:
    """Check the gradient files of one sample, and its embedding."""
    if not np.isfinite(np.frombuffer(base64.b64decode(scored.embedding), "<f4")).all():
        location = manifest.subset.samples[scored.index].location
        yield f"{tables.EMBEDDINGS} holds values that are not finite for {shown(location)}"
    output = manifest.subset.samples[scored.index].output
    scores = dict(zip(manifest.layers, scored.scores, strict=True))
    for layer, checksum in zip(manifest.dumps, scored.files_sha256, strict=True):
        shape = tuple(manifest.layers[layer])
        path = folder / layer / output
        name = shown(f"{layer}/{output}")
        try:
            size = os.stat(path).st_size
            data = path.read_bytes() if size == manifest.file_sizes[layer] else b""
        except OSError as error:
            yield f"{name}: {error.strerror}"
            continue
        if not data:
            yield f"{name} has {size} bytes instead of {manifest.file_sizes[layer]}"
            continue
        if hashlib.sha256(data).hexdigest() != checksum:
            yield f"{name} does not have its checksum: its bytes were changed"
        gradient = npy.decoded_as(data, shape, manifest.dtype)
        if gradient is None:
            yield f"{name} is no .npy file of {manifest.dtype} {shape}"
        elif not np.isfinite(gradient).all():
            yield f"{name} holds values that are not finite"
        else:
            total = float(np.abs(gradient).sum(dtype=np.float64))
            if not abs(total - scores[layer]) <= _tolerance(total, gradient.size, manifest):
                yield f"{name} sums to {total}, and its score is {scores[layer]}"


def _tolerance(total: float, size: int, manifest: Manifest) -> float:
    """How far a score may lie from the sum over its file: the order of a float64 sum, and the file's rounding."""
    exact = manifest.dtype == "float32" and manifest.computation["precision"] != "float64"
    rounding = {"float32": total * 2**-24 + size * 2**-150, "float16": total * 2**-11 + size * 2**-25}[manifest.dtype]
    return total * 1e-12 + (0.0 if exact else rounding)


def _image_problems(manifest: Manifest, scored: Scored, dataset: Dataset | None) -> Iterator[str]:
    """Check that the image of one sample is still the one that was read, where the data set is at hand."""
    if dataset is None:
        return
    location = manifest.subset.samples[scored.index].location
    try:
        if hashlib.sha256(dataset.read(location)).hexdigest() != scored.image_sha256:
            yield f"the image {shown(dataset.root / location)} is no longer the one that was scored"
    except UnreadableSampleError as error:
        yield f"the image {shown(dataset.root / location)} cannot be read: {error}"
