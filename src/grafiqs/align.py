"""Ordinary photos in, aligned crops out: a tree that mirrors the data set, resumed where it stopped."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import cv2

from grafiqs.cut import cut_out
from grafiqs.detector import Detector
from grafiqs.errors import RequestError, StoppedError, UnreadableSampleError
from grafiqs.face import Faces
from grafiqs.formats.dataset import Dataset, Sample
from grafiqs.images.decoding import decode
from grafiqs.landmarks import Landmarks
from grafiqs.names import shown
from grafiqs.opencv import one_thread, opencv_version
from grafiqs.options import AlignOptions, Options
from grafiqs.progress import progress_bar
from grafiqs.run import aligned, files, tables
from grafiqs.run import journal as journals
from grafiqs.run.folder import NAME_ERRORS, has_size
from grafiqs.run.journal import Aligned, Failed, Journal
from grafiqs.run.manifest import compared, subset_differences, subset_document
from grafiqs.run.output import Output
from grafiqs.select import Subset, left_out, open_dataset, select
from grafiqs.template import landmarks
from grafiqs.workers import processors
from grafiqs.workers.ahead import mapped

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlignSummary:
    """What an alignment came to: how many pictures became crops, how many did not, and where it all lies."""

    output: Path
    aligned: int
    failed: int


def align_faces(options: AlignOptions) -> AlignSummary:
    """Cut every picture of a data set to the aligned crop of its face; what was stopped in the same folder goes on.

    The crops are PNG files, of 112x112 pixels as a rule, under identity and sample name; align.csv has the face in
    each, failures.csv what has none. Raises RequestError when the request is wrong, with nothing written, and
    StoppedError when it cannot go on, with everything done so far kept.
    """
    output = Output(options.output, aligned.NAME, "OUT", "alignment")
    output.refuse_inside(options.image_path)
    output.refuse_foreign()
    faces = _faces(options)
    dataset = open_dataset(options)
    if dataset.ignored:
        log.warning("%s", left_out(dataset))
    subset = _everything(options, dataset)
    faces.check(sample.location for sample in subset.samples)
    log.info("Dataset loaded: %d identities, %d total images", subset.identities, len(subset.samples))
    log.info("Faces: by %s", faces)
    document = _document(options, dataset, faces, subset)
    with output.locked(), one_thread(), _opened(output, document, subset, options.overwrite) as journal:
        return _run(journal, faces, dataset, subset, options)


def _faces(options: AlignOptions) -> Faces:
    if options.detector is not None:
        return Detector(options.detector)
    assert options.landmarks is not None  # noqa: S101 - the options have one of the two
    return Landmarks(options.landmarks)


def _everything(options: AlignOptions, dataset: Dataset) -> Subset:
    """All samples of the data set."""
    shared = {name: getattr(options, name) for name in ("image_path", "root", "image_extension", "flat_structure")}
    subset = select(dataset, Options(**shared, allow_insufficient_samples=True))
    if not subset.samples:
        raise RequestError(f"no identity of {shown(dataset.place)} holds an image")
    taken = {sample.identity.partition("/")[0] for sample in subset.samples} & aligned.OWN
    if taken:
        raise RequestError(f"the identity {min(taken)} has the name of a file that is written beside the identities")
    return subset


# -- the folder --------------------------------------------------------------------------------------------


def _document(options: AlignOptions, dataset: Dataset, faces: Faces, subset: Subset) -> dict[str, Any]:
    """What align.json says."""
    return {
        "format": aligned.FORMAT,
        "options": {"image_extension": list(options.image_extension), "flat_structure": options.flat_structure},
        "faces": faces.source(),
        "crop": {
            "size": list(options.input_size),
            "landmarks": landmarks(options.input_size).tolist(),
            "fit": "similarity, least squares",
            "resampling": "bilinear; large faces at a multiple of the size, reduced by area; black beyond the picture",
        },
        "data_set": {
            "form": dataset.form,
            "place": os.path.realpath(options.image_path),
            "root": None if options.root is None else os.path.realpath(options.root),
        },
        "environments": [{"grafiqs": version("grafiqs"), "opencv": opencv_version()}],
        "subset": subset_document(subset),
    }


@contextmanager
def _opened(output: Output, document: dict[str, Any], subset: Subset, overwrite: bool) -> Iterator[Journal[Aligned]]:
    """The journal of the folder, with align.json in place: a new one, or that of the same alignment to go on with."""
    try:
        output.refuse_foreign()  # again: now nobody else can fill it
        if (output.root / aligned.NAME).exists():
            existing, others = aligned.read(output.root)
            if overwrite:
                _remove(output.root, others)
            else:
                _refuse_other(output, existing, document, subset, others)
                document = _continued(existing, document)
        with files.whole(output.root / aligned.NAME) as file:
            file.write(json.dumps(document, indent=1).encode() + b"\n")
        journal = Journal(output.root, len(subset.samples), Aligned, lambda done: tables.is_face(done.face))
    except OSError as error:
        raise output.unwritable(error) from error
    with closing(journal):
        for outcome in journal.outcomes():
            path = output.root / aligned.path_of(subset.samples[outcome.index])
            if isinstance(outcome, Aligned) and not has_size(path, outcome.crop_bytes):
                journal.forget(outcome.index)
        yield journal


def _continued(existing: dict[str, Any], here: dict[str, Any]) -> dict[str, Any]:
    """The same alignment, with the environment that it goes on in among those it has been in."""
    known = existing["environments"]
    if here["environments"][0] in known:
        return existing
    log.warning("this alignment began with other versions (%s), which may find other faces", known[-1])
    return {**existing, "environments": [*known, *here["environments"]]}


def _refuse_other(
    output: Output, existing: dict[str, Any], wanted: dict[str, Any], subset: Subset, others: Subset
) -> None:
    sections = ("options", "faces", "crop")
    differences = [line for name in sections for line in compared(name, existing.get(name), wanted[name])]
    differences += subset_differences(others, subset)
    if differences:
        raise RequestError(
            f"{shown(output.root)} holds other crops, and nothing is mixed. What differs:\n"
            + "".join(f"  - {line}\n" for line in differences)
            + "Give another OUT, or remove those crops with --overwrite."
        )


def _remove(root: Path, subset: Subset) -> None:
    """Remove the files of an alignment, and nothing else; align.json stays, so that this can be stopped."""
    paths = [aligned.path_of(sample) for sample in subset.samples]
    for name in (*aligned.TABLES, journals.NAME, *paths):
        _remove_file(root / name)
    folders = {folder for path in paths for folder in Path(path).parents}
    for folder in sorted(folders - {Path()}, key=lambda folder: -len(folder.parts)):
        with suppress(OSError):
            (root / folder).rmdir()  # fails, as it should, where something else lies in it


def _remove_file(path: Path) -> None:
    """Remove a file, and its unfinished form."""
    for name in (path, path.with_name(path.name + files.PART)):
        try:
            name.unlink(missing_ok=True)
        except OSError as error:
            if error.errno not in NAME_ERRORS:  # under such a name nothing was ever written
                raise


# -- the work ----------------------------------------------------------------------------------------------


def _run(
    journal: Journal[Aligned], faces: Faces, dataset: Dataset, subset: Subset, options: AlignOptions
) -> AlignSummary:
    """Work off what is pending, then write the tables."""
    root, total = options.output, len(subset.samples)
    pending = [index for index in range(total) if index not in journal]
    if len(pending) < total:
        log.info("Resuming: %d of %d images are done already", total - len(pending), total)

    folders = {str(folder) for sample in subset.samples for folder in PurePosixPath(aligned.path_of(sample)).parents}

    def work(index: int) -> Aligned | Failed:
        sample = subset.samples[index]
        if aligned.path_of(sample) in folders:  # whichever of the two came first
            return Failed(index, "its crop cannot be written: a folder of other samples has its name")
        outcome = _outcome(index, sample, faces, dataset, options)
        if isinstance(outcome, Failed):
            _remove_file(root / aligned.path_of(sample))
        return outcome

    try:
        threads = processors.usable()
        with (
            ThreadPoolExecutor(threads) as pool,
            closing(mapped(pool, work, pending, 4 * threads)) as done,
            progress_bar(total, total - len(pending), options.quiet) as bar,
        ):
            for outcome in done:
                journal.append(outcome)
                bar.update()
        counts = aligned.write_tables(root, subset, journal.outcomes())
        journal.tidy()
    except BrokenPipeError:  # of the progress bar
        raise
    except OSError as error:
        raise StoppedError(
            f"cannot write to {shown(root)}: {error.strerror or error}. {_kept(journal, total)}: mend that, "
            "and the same command goes on from there"
        ) from error
    except KeyboardInterrupt as stop:
        stop.args = (f"stopped. {_kept(journal, total)}: the same command goes on from there",)
        raise
    log.info("%d of %d images are aligned: %s", counts[Aligned], total, shown(root / tables.FACES))
    if counts[Failed]:
        log.warning("%d images could not be aligned; %s says why", counts[Failed], shown(root / tables.FAILURES))
    return AlignSummary(root, counts[Aligned], counts[Failed])


def _kept(journal: Journal[Aligned], total: int) -> str:
    return f"{sum(index in journal for index in range(total))} of {total} images are done and kept"


def _outcome(index: int, sample: Sample, faces: Faces, dataset: Dataset, options: AlignOptions) -> Aligned | Failed:
    """Align one sample and write its crop; may run on any thread."""
    try:
        data = dataset.read(sample.location)
        pixels = decode(data)
        face = faces.face(sample.location, pixels)
        crop = cut_out(pixels, face, options.input_size)
    except UnreadableSampleError as error:
        return Failed(index, str(error))
    _, encoded = cv2.imencode(".png", crop[:, :, ::-1])
    content = encoded.tobytes()
    path = options.output / aligned.path_of(sample)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(path) as file:
            file.write(content)
    except OSError as error:
        if error.errno in NAME_ERRORS:
            return Failed(index, f"its crop cannot be written: {error.strerror}")
        raise
    picture_sha256, crop_sha256 = (hashlib.sha256(each).hexdigest() for each in (data, content))
    return Aligned(index, picture_sha256, face.row(), crop_sha256, len(content))
