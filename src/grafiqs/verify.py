"""Proof that a run is what its manifest says: every file, every score, and the subset itself; an alignment likewise."""

from __future__ import annotations

import filecmp
import hashlib
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Container, Iterator
from pathlib import Path

import numpy as np

from grafiqs.datasets.dataset import Dataset
from grafiqs.disk import files
from grafiqs.disk.names import shown
from grafiqs.disk.output import LOCK
from grafiqs.errors import RequestError, StoppedError, UnreadableSampleError
from grafiqs.options.subset import SubsetOptions
from grafiqs.progress import progress_bar
from grafiqs.run import aligned, finished, parquet, sums
from grafiqs.run import manifest as manifests
from grafiqs.run import sweep as sweeps
from grafiqs.run.journal import Failed, Outcome, Scored
from grafiqs.run.manifest import Manifest, subset_differences
from grafiqs.run.parquet import need_pyarrow
from grafiqs.run.place import place_of
from grafiqs.run.store import Store
from grafiqs.run.tables import FAILURES, IMAGE_SUMS, SUMS
from grafiqs.select import Subset, of_identities, open_dataset, select

log = logging.getLogger(__name__)

_SHOWN = 20
"""Problems that are logged one by one; the rest are counted."""


def verify_run(
    folder: Path, image_path: Path | None = None, quiet: bool = False, root: Path | None = None
) -> list[str]:
    """Check the finished run, alignment or sweep in `folder`, with its data set if that is available.

    Returns what is wrong.

    `image_path` says where the data set is now, and `root` where the paths in a list begin; by default both are looked
    for where they were. Problems are logged as warnings. Raises RequestError when `folder` is not a run folder, or
    cannot be read, and StoppedError when the temporary folder takes no tables to compare.

    >>> from grafiqs import extract_gradients
    >>> from grafiqs.options.extract import Options
    >>> _ = extract_gradients(Options(image_path="faces", weights="weights.pth", output_dir="run", quiet=True))
    >>> verify_run(Path("run"), quiet=True)
    []
    """
    if not manifests.is_run(folder) and files.exists(folder / sweeps.NAME):
        return _sweep(folder, image_path, quiet, root)
    check = _alignment if not manifests.is_run(folder) and files.exists(folder / aligned.NAME) else _run
    problems, said = check(folder, image_path, root, quiet)
    for problem in problems[:_SHOWN]:
        log.warning("%s", problem)
    if len(problems) > _SHOWN:
        log.warning("... and %d more", len(problems) - _SHOWN)
    if problems:
        log.warning("%s is not what its manifest says: %d problems", shown(folder), len(problems))
    else:
        for line in said:
            log.info("%s", line)
    return problems


def _sweep(folder: Path, image_path: Path | None, quiet: bool, root: Path | None) -> list[str]:
    """Check a sweep and every run of it; returns what is wrong."""
    sweep = sweeps.read(folder)
    if not files.exists(folder / sweeps.TABLE):
        problem = f"the sweep in {shown(folder)} is not finished: the command that began it resumes it"
        log.warning("%s", problem)
        return [problem]
    found: list[str] = []
    counts: dict[str, dict[str, int]] = {}
    for name in sweep.runs:
        log.info("%s:", shown(name))
        if manifests.is_run(folder / name):
            problems = verify_run(folder / name, image_path, quiet, root)
            manifest = manifests.read(folder / name)
            others = sweep.contradictions(name, manifest)
            if not problems:
                kinds = Counter(type(outcome) for outcome in finished.read(folder / name, manifest, "none"))
                counts[name] = sweeps.counts_of(manifest, kinds[Scored], kinds[Failed])
        else:
            problems, others = [], ["there is no such run: the command that made the sweep makes it again"]
        for line in others:
            log.warning("%s: %s", shown(name), line)
        found += [f"{name}: {line}" for line in (*problems, *others)]
    if not found and b"".join(sweeps.table(sweep, counts)) != files.read(folder / sweeps.TABLE):
        found.append(f"{sweeps.TABLE} does not say what the runs are: remove it, and the same command writes it again")
        log.warning("%s", found[-1])
    return found


def _run(folder: Path, image_path: Path | None, root: Path | None, quiet: bool) -> tuple[list[str], list[str]]:
    """What is wrong with a run, and what to say if nothing is."""
    manifest = manifests.read(folder)
    if manifest.has_parquet:
        need_pyarrow("a run made with --store shards")
    place, root = place_of(manifest.data_set, manifest.options["root"] is not None, image_path, root)
    options = manifest.to_options(image_path=place, root=root) if os.path.exists(place) else None
    counts: Counter[type[Outcome]] = Counter()
    problems = list(_problems(folder, manifest, options, counts, quiet))
    if options is None:
        at_hand = f"The data set {shown(place)} is not available: the subset was not derived again (--image-path)"
    else:
        at_hand = f"The subset derived again from {shown(place)} is the same: SHA-256 {manifest.subset.sha256}"
    identities, images, scored = manifest.subset.identities, len(manifest.subset.samples), counts[Scored]
    verified = (
        f"Verified: {identities} identities, {images} images, {scored} scored, {counts.total() - scored} failed, "
        f"{scored * len(manifest.dumps)} {'gradients in shards' if manifest.has_parquet else 'gradient files'}: all as "
        "the manifest says"
    )
    return problems, [at_hand, verified]


def _alignment(folder: Path, image_path: Path | None, root: Path | None, _quiet: bool) -> tuple[list[str], list[str]]:
    """What is wrong with an alignment, its crops, tables and photos, and what to say if nothing is."""
    manifest = aligned.read(folder)
    place, root = place_of(manifest.data_set, manifest.data_set["root"] is not None, image_path, root)
    at_hand = os.path.exists(place) and (root is None or os.path.isdir(root))
    problems: list[str] = []
    try:
        if not (folder / SUMS).exists():
            problems.append("the alignment is not finished: the command that began it resumes it")
        else:
            problems += aligned.problems(folder, manifest)
            if at_hand:
                options = SubsetOptions(image_path=place, root=root, **manifest.reading)
                problems += _picture_problems(folder, manifest.subset, options)
    except (OSError, ValueError) as error:
        problems.append(f"the tables cannot be followed further: {files.reason(error)}")
    said = f"Verified: {len(manifest.subset.samples)} images, crops and tables as {aligned.NAME} and the checksums say"
    missing = f"The data set {shown(place)} is not available: the pictures were not looked at (--image-path)"
    return problems, [said] if at_hand else [missing, said]


def _picture_problems(folder: Path, subset: Subset, options: SubsetOptions) -> Iterator[str]:
    """Samples that are no longer those of the data set, and pictures that are no longer the ones that were aligned."""
    try:
        dataset = open_dataset(options)
        yield from subset_differences(subset, select(dataset, options))
    except RequestError as error:
        yield f"the data set cannot be listed again: {error}"
        return
    for checksum, location in sums.read(folder / IMAGE_SUMS.name):
        yield from _image_problems(dataset, location, checksum, "aligned")


def _image_problems(dataset: Dataset, location: str, sha256: str, what: str) -> Iterator[str]:
    """Check that an image is still the one that was read."""
    try:
        if hashlib.sha256(dataset.read(location)).hexdigest() != sha256:
            yield f"the image {shown(dataset.root / location)} is no longer the one that was {what}"
    except UnreadableSampleError as error:
        yield f"the image {shown(dataset.root / location)} cannot be read: {error}"


def _problems(
    folder: Path, manifest: Manifest, options: SubsetOptions | None, counts: Counter[type[Outcome]], quiet: bool
) -> Iterator[str]:
    """What is wrong with a run; counts its outcomes on the way."""
    if not finished.is_finished(folder):
        yield "the run is not finished: the command that began it resumes it"
        return
    dataset: Dataset | None = None
    if options is not None:
        try:
            dataset = open_dataset(options)
            subset = select(dataset, options)
            if (identities := manifest.export.get("identities")) is not None:
                subset = of_identities(subset, identities)
            yield from subset_differences(manifest.subset, subset)
            if manifest.pairs != [list(pair) for pair in subset.pairs(dataset)]:
                yield "the pairs to compare are no longer those of the data set"
        except RequestError as error:
            yield f"the subset cannot be derived again: {error}"
    samples, store = manifest.subset.samples, manifest.store(folder)
    pages = [finished.REPORT] if finished.is_page(folder / finished.REPORT) else []
    own = {LOCK, manifests.NAME, *pages, *finished.names(manifest), *store.whole_files()}
    try:
        changed = finished.changed(folder, manifest)
        yield from (f"{name} {how} since the run finished" for name, how in changed.items())
        damaged = dict(_whole_file_problems(folder, manifest))
        yield from damaged.values()
        with progress_bar(len(samples), 0, quiet) as bar:
            for outcome in finished.read(folder, manifest, "known"):
                bar.update()
                counts[type(outcome)] += 1
                if isinstance(outcome, Scored):
                    own.update(path for _, path in store.sums_of(outcome.index, outcome.files_sha256))
                    yield from _file_problems(manifest, store, outcome, damaged.keys())
                    if dataset is not None:
                        yield from _image_problems(
                            dataset, samples[outcome.index].location, outcome.image_sha256, "scored"
                        )
        if not changed:
            yield from _rendering_problems(folder, manifest)
    except (OSError, ValueError) as error:
        yield f"the tables cannot be followed further: {files.reason(error)}"
        return
    yield from files.strangers(folder, own)


def _rendering_problems(folder: Path, manifest: Manifest) -> Iterator[str]:
    """Write all tables once more, elsewhere, from what they say, and compare."""
    try:
        with tempfile.TemporaryDirectory() as elsewhere:
            reference = finished.reference_of(folder, manifest)
            whole = finished.whole_files(folder, manifest)
            read = finished.read(folder, manifest, "known")
            finished.write(folder, manifest, read, reference, Path(elsewhere), whole)
            for name in finished.names(manifest)[len(finished.stated(manifest)) :]:
                if not _is_same(folder / name, Path(elsewhere) / name):
                    says = f"what {finished.SCORES} and {FAILURES.name} say"
                    if name == finished.SCORES:
                        says = "what its scores come to: its qualities, or lengths of embeddings, were changed"
                    yield f"{name} does not say {says}"
    except OSError as error:  # every table of the run was read before
        raise StoppedError(
            f"the temporary folder does not take the tables, to compare them: {error.strerror or error}; "
            "make room there, or name another by the variable TMPDIR"
        ) from error


def _is_same(there: Path, here: Path) -> bool:
    """Whether two tables say the same: other versions of pyarrow may write the same in other bytes."""
    return filecmp.cmp(there, here, shallow=False) or (there.name == parquet.NAME and parquet.is_same(there, here))


def _whole_file_problems(folder: Path, manifest: Manifest) -> Iterator[tuple[str, str]]:
    """The files that hold the gradients of several samples and do not have their checksums, each with what is wrong."""
    for checksum, path in finished.whole_files(folder, manifest):
        try:
            if files.sha256(folder / path) != checksum:
                yield path, f"{shown(path)} does not have its checksum: its bytes were changed"
        except OSError as error:
            yield path, f"{shown(path)}: {error.strerror}"


def _file_problems(manifest: Manifest, store: Store, scored: Scored, damaged: Container[str]) -> Iterator[str]:
    """Check the gradient files of one sample, and its embedding; of `damaged` files it is said that they are."""
    sample = manifest.subset.samples[scored.index]
    if not np.isfinite(finished.vector(scored.embedding)).all():
        yield f"{finished.EMBEDDINGS} holds values that are not finite for {shown(sample.location)}"
    scores = dict(zip(manifest.layers, scored.scores, strict=True))
    for layer, checksum in zip(manifest.dumps, scored.files_sha256, strict=True):
        if not checksum and store.path(layer, scored.index) in damaged:
            continue
        try:
            gradient = store.verified(layer, scored.index, checksum)
        except UnreadableSampleError as error:
            yield str(error)
            continue
        name = store.place(layer, scored.index)
        if not np.isfinite(gradient).all():
            yield f"{name} holds values that are not finite"
            continue
        total = float(np.abs(gradient).sum(dtype=np.float64))
        if not abs(total - scores[layer]) <= _tolerance(total, gradient.size, manifest):
            yield f"{name} sums to {total}, and its score is {scores[layer]}"


def _tolerance(total: float, size: int, manifest: Manifest) -> float:
    """How far a score may lie from the sum over its file: the order of a float64 sum, and the file's rounding."""
    exact = manifest.dtype == "float32" and manifest.computation["precision"] != "float64"
    rounding = {"float32": total * 2**-24 + size * 2**-150, "float16": total * 2**-11 + size * 2**-25}[manifest.dtype]
    return total * 1e-12 + (0.0 if exact else rounding)
