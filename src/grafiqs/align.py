"""Ordinary photos in, aligned crops out: a tree that mirrors the data set, resumed where it stopped."""

from __future__ import annotations

import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import cv2

from grafiqs.datasets.dataset import Dataset, Sample
from grafiqs.disk import inside
from grafiqs.disk.names import shown
from grafiqs.disk.output import Output
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.faces.cut import cut_out
from grafiqs.faces.detector import Detector
from grafiqs.faces.face import Faces
from grafiqs.faces.landmarks import Landmarks
from grafiqs.faces.opencv import one_thread, opencv_version
from grafiqs.faces.template import landmarks
from grafiqs.images.decoding import decode
from grafiqs.options.align import AlignOptions
from grafiqs.options.dataset import DataSetOptions
from grafiqs.options.subset import SubsetOptions
from grafiqs.progress import progress_bar
from grafiqs.run import aligned
from grafiqs.run.aligned import Alignment, AlignmentFolder
from grafiqs.run.journal import Aligned, Failed
from grafiqs.run.tables import FACES, FAILURES
from grafiqs.select import Subset, left_out, open_dataset, select
from grafiqs.workers import processors
from grafiqs.workers.ahead import mapped

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlignSummary:
    """The result of an alignment: how many pictures became crops, how many did not, and where it all lies."""

    output: Path
    aligned: int
    failed: int


def align_faces(options: AlignOptions) -> AlignSummary:
    r"""Cut every picture of a data set to the aligned crop of its face; resumes what was stopped in the same folder.

    The crops are PNG files, of 112x112 pixels as a rule, under identity and sample name; align.csv has the face in
    each, failures.csv the pictures without one. Raises RequestError when the request is wrong, with nothing written,
    and StoppedError when it cannot go on, with everything done so far kept.

    >>> from grafiqs.faces.template import LANDMARKS
    >>> row = ",".join(map(str, LANDMARKS.ravel()))
    >>> with open("landmarks.csv", "w") as table:
    ...     _ = table.writelines(f"{identity}/0.png,{row}\n" for identity in ("ann", "bob", "cyd", "dee"))
    >>> done = align_faces(AlignOptions(image_path="faces", output="crops", landmarks="landmarks.csv", quiet=True))
    >>> done.aligned, done.failed
    (4, 15)
    """
    output = Output(options.output, aligned.NAME, "OUT", "alignment")
    output.refuse_inside(options.image_path)
    output.refuse_foreign()
    faces = _faces(options)
    dataset = open_dataset(options)
    subset = _everything(options, dataset)
    for level, line in left_out(dataset):
        log.log(level, "%s", line)
    faces.check(sample.location for sample in subset.samples)
    log.info("Dataset loaded: %d identities, %d total images", subset.identities, len(subset.samples))
    log.info("Faces: by %s", faces)
    plan = _plan(options, dataset, faces, subset)
    with AlignmentFolder(output, plan, options.overwrite).opened() as folder, one_thread():
        folder.begin()
        return _run(folder, faces, dataset, subset, options)


def _faces(options: AlignOptions) -> Faces:
    if options.detector is not None:
        return Detector(options.detector)
    assert options.landmarks is not None  # noqa: S101 - the options have one of the two
    return Landmarks(options.landmarks)


def _everything(options: AlignOptions, dataset: Dataset) -> Subset:
    """All samples of the data set."""
    shared = {field.name: getattr(options, field.name) for field in fields(DataSetOptions)}
    subset = select(dataset, SubsetOptions(**shared))
    if not subset.samples:
        raise RequestError(f"no identity of {shown(dataset.place)} holds an image")
    taken = {sample.identity.partition("/")[0] for sample in subset.samples} & aligned.OWN
    if taken:
        raise RequestError(f"the identity {min(taken)} has the name of a file that is written beside the identities")
    return subset


def _plan(options: AlignOptions, dataset: Dataset, faces: Faces, subset: Subset) -> Alignment:
    return Alignment(
        options=options.reading(),
        faces=faces.source(),
        crop={
            "size": list(options.input_size),
            "landmarks": landmarks(options.input_size).tolist(),
            "fit": "similarity, least squares",
            "resampling": "bilinear; large faces at a multiple of the size, reduced by area; black beyond the picture",
        },
        data_set={
            "form": dataset.form,
            "place": os.path.realpath(options.image_path),
            "root": None if options.root is None else os.path.realpath(options.root),
        },
        environments=[{"grafiqs": version("grafiqs"), "opencv": opencv_version()}],
        subset=subset,
    )


def _run(
    folder: AlignmentFolder, faces: Faces, dataset: Dataset, subset: Subset, options: AlignOptions
) -> AlignSummary:
    """Align what is pending, then write the tables."""
    root, total = options.output, len(subset.samples)
    pending = folder.journal.pending()
    if len(pending) < total:
        log.info("Resuming: %d of %d images are done already", total - len(pending), total)

    folders = {str(above) for sample in subset.samples for above in PurePosixPath(aligned.path_of(sample)).parents}

    def work(index: int) -> Aligned | Failed:
        sample = subset.samples[index]
        if aligned.path_of(sample) in folders:  # whichever of the two came first
            return Failed(index, "its crop cannot be written: a folder of other samples has its name")
        outcome = _outcome(index, sample, faces, dataset, options)
        if isinstance(outcome, Failed):
            inside.remove(root, aligned.path_of(sample))
        return outcome

    threads = processors.usable()
    with folder.working():
        with (
            ThreadPoolExecutor(threads) as pool,
            closing(mapped(pool, work, pending, 4 * threads)) as done,
            progress_bar(total, total - len(pending), options.quiet) as bar,
        ):
            for outcome in done:
                folder.journal.append(outcome)
                bar.update()
        counts = folder.finish()
    log.info("%d of %d images are aligned: %s", counts[Aligned], total, shown(root / FACES.name))
    if counts[Failed]:
        log.warning("%d images could not be aligned; %s says why", counts[Failed], shown(root / FAILURES.name))
    return AlignSummary(root, counts[Aligned], counts[Failed])


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
    try:
        with inside.whole(options.output, aligned.path_of(sample)) as file:
            file.write(content)
    except OSError as error:
        if error.errno in inside.NAME_ERRORS:
            return Failed(index, f"its crop cannot be written: {error.strerror}")
        raise
    picture_sha256, crop_sha256 = (hashlib.sha256(each).hexdigest() for each in (data, content))
    return Aligned(index, picture_sha256, face.row(), crop_sha256, len(content))
