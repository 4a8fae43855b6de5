"""Proof that a run is what its manifest says: every file, every score, and the subset itself."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from grafiqs.errors import RequestError
from grafiqs.names import shown
from grafiqs.run import files, tables
from grafiqs.run import journal as journals
from grafiqs.run import manifest as manifests
from grafiqs.run.folder import LOCK
from grafiqs.run.journal import Scored
from grafiqs.run.manifest import Manifest
from grafiqs.scan import scan
from grafiqs.select import select

log = logging.getLogger(__name__)

_SHOWN = 20
"""Problems that are logged one by one; the rest are counted."""


def verify_run(folder: Path, image_path: Path | None = None, quiet: bool = False) -> list[str]:
    """Check the finished run in `folder`, with its data set where that is at hand; returns what is wrong.

    `image_path` says where the data set is now; by default it is looked for where it was. Problems are
    logged as warnings. Raises RequestError when `folder` is no run folder.
    """
    manifest = manifests.read(folder)
    dataset = image_path or Path(manifest.options["image_path"])
    at_hand = dataset.is_dir()
    if image_path is not None and not at_hand:
        raise RequestError(f"the data set {shown(image_path)} does not exist: check --image-path")
    problems = list(_problems(folder, manifest, dataset if at_hand else None, quiet))
    for problem in problems[:_SHOWN]:
        log.warning("%s", problem)
    if len(problems) > _SHOWN:
        log.warning("... and %d more", len(problems) - _SHOWN)
    subset = manifest.subset
    if problems:
        log.warning("%s is not what its manifest says: %d problems", shown(folder), len(problems))
        return problems
    if at_hand:
        log.info("The subset derived again from %s is the same: SHA-256 %s", shown(dataset), subset.sha256)
    else:
        log.info("The data set %s is not at hand: the subset was not derived again", shown(dataset))
    failed = sum(1 for _ in tables.read_failures(folder))
    log.info(
        "Verified: %d identities, %d images, %d scored, %d failed, %d gradient files: all as the manifest says",
        *(subset.identities, len(subset.samples), len(subset.samples) - failed, failed),
        (len(subset.samples) - failed) * len(manifest.dumps),
    )
    return []


def _problems(folder: Path, manifest: Manifest, dataset: Path | None, quiet: bool) -> Iterator[str]:
    if (folder / journals.NAME).exists() or not (folder / tables.SUMS).exists():
        yield "the run is not finished: the command that began it goes on with it"
        return
    if dataset is not None:
        yield from _subset_problems(manifest, dataset)
    try:
        yield from (f"{name} was changed since the run finished" for name in tables.changed(folder, manifest))
        yield from _table_problems(folder, manifest, dataset, quiet)
    except (OSError, ValueError) as error:
        yield f"the tables cannot be followed further: {error}"
    yield from _strangers(folder, manifest)


def _subset_problems(manifest: Manifest, dataset: Path) -> Iterator[str]:
    options = manifest.to_options(image_path=dataset)
    try:
        subset = select(scan(dataset, options.image_extension, options.flat_structure), options)
    except RequestError as error:
        yield f"the subset cannot be derived again: {error}"
        return
    yield from manifest.subset_differences(subset)


def _table_problems(folder: Path, manifest: Manifest, dataset: Path | None, quiet: bool) -> Iterator[str]:
    """Check the rows of the tables against the subset, and the files and images of each row."""
    samples = manifest.subset.samples
    missing = {(sample.identity, sample.name) for sample in samples}
    texts = {layer: hashlib.sha256() for layer in manifest.layers}
    for scored in tqdm(
        tables.read(folder, manifest), total=len(samples), unit=" images", disable=quiet, dynamic_ncols=True
    ):
        sample = samples[scored.index]
        missing.discard((sample.identity, sample.name))
        yield from _file_problems(folder, manifest, scored)
        if dataset is not None:
            yield from _image_problems(dataset / sample.location, scored.image_sha256)
        for layer, score in zip(manifest.layers, scored.scores, strict=True):
            texts[layer].update(tables.text_row(manifest, sample.location, score))
    for layer, digest in texts.items():
        name = tables.field_format(layer)
        if digest.hexdigest() != files.sha256(folder / name):
            yield f"{name} does not say what {tables.SCORES} says"
    for failure in tables.read_failures(folder):
        if failure not in missing:
            yield f"{tables.FAILURES} lists {shown('/'.join(failure))}, which has a score or is not in the subset"
        missing.discard(failure)
    for identity, name in sorted(missing):
        yield f"{shown(f'{identity}/{name}')} is in the subset, but in no table"


def _file_problems(folder: Path, manifest: Manifest, scored: Scored) -> Iterator[str]:
    """Check the gradient files of one sample."""
    output = manifest.subset.samples[scored.index].output
    scores = dict(zip(manifest.layers, scored.scores, strict=True))
    sizes = manifest.file_sizes
    for layer, checksum in zip(manifest.dumps, scored.files_sha256, strict=True):
        shape = tuple(manifest.layers[layer])
        path = folder / layer / output
        name = shown(f"{layer}/{output}")
        try:
            size = os.stat(path).st_size
            if size != sizes[layer]:
                yield f"{name} has {size} bytes: it is not whole, or no gradient of this run"
                continue
            data = path.read_bytes()
            gradient = np.load(io.BytesIO(data), allow_pickle=False)
        except OSError as error:
            yield f"{name}: {error.strerror}"
            continue
        except (ValueError, EOFError) as error:
            yield f"{name} is no .npy file: {error}"
            continue
        if hashlib.sha256(data).hexdigest() != checksum:
            yield f"{name} does not have its checksum: its bytes were changed"
        if gradient.shape != shape or gradient.dtype != manifest.dtype:
            yield f"{name} is {gradient.dtype} {gradient.shape} instead of {manifest.dtype} {shape}"
        elif not np.isfinite(gradient).all():
            yield f"{name} holds values that are not finite"
        else:
            total = float(np.abs(gradient).sum(dtype=np.float64))
            if not abs(total - scores[layer]) <= _tolerance(total, gradient.size, manifest.dtype):
                yield f"{name} sums to {total}, and its score is {scores[layer]}"


def _tolerance(total: float, size: int, dtype: str) -> float:
    """How far a score may lie from the sum over its file: the order of a float64 sum, and the file's rounding."""
    rounding = {"float32": 0.0, "float16": total * 2**-11 + size * 2**-25}[dtype]
    return total * 1e-12 + rounding


def _image_problems(path: Path, checksum: str) -> Iterator[str]:
    try:
        if files.sha256(path) != checksum:
            yield f"the image {shown(path)} is no longer the one that was scored"
    except OSError as error:
        yield f"the image {shown(path)} cannot be read: {error.strerror}"


def _strangers(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Files in the run folder that are not of the run."""
    outputs = {sample.output for sample in manifest.subset.samples}
    own = {LOCK, manifests.NAME, *tables.names(manifest)}
    for place, _, names in os.walk(folder):
        inside = Path(place).relative_to(folder).as_posix()
        for name in names:
            path = name if inside == "." else f"{inside}/{name}"
            layer, _, output = path.partition("/")
            if path not in own and not (layer in manifest.dumps and output in outputs):
                yield f"{shown(path)} is not of this run"
