"""Ordinary photos in, aligned crops out: a tree that mirrors the data set, resumed where it stopped."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from grafiqs.datasets.dataset import Dataset, Sample
from grafiqs.disk import inside
from grafiqs.disk.names import shown
from grafiqs.disk.output import Output
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.faces.cut import cut_out
from grafiqs.faces.detector import Detector
from grafiqs.faces.face import Face, Faces
from grafiqs.faces.landmarks import Landmarks
from grafiqs.faces.opencv import one_thread, opencv_version
from grafiqs.faces.template import landmarks
from grafiqs.images.decoding import picture
from grafiqs.images.futile import refuse_futile
from grafiqs.images.remarks import Remark, Remarks, UnalignedError, remark_on, unaligned
from grafiqs.options.align import AlignOptions
from grafiqs.options.dataset import DataSetOptions
from grafiqs.options.subset import SubsetOptions
from grafiqs.progress import progress_bar
from grafiqs.run import aligned
from grafiqs.run.aligned import Alignment, AlignmentFolder
from grafiqs.run.journal import Aligned, Crop, Failed
from grafiqs.run.tables import FACES, FAILURES
from grafiqs.select import Subset, left_out, open_dataset, select
from grafiqs.workers import processors
from grafiqs.workers.ahead import mapped

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AlignSummary:
    """The result of an alignment: how many pictures became crops, how many did not, and where it all lies.

    `crops` is how many there are: more than pictures if every face became one.
    """

    output: Path
    aligned: int
    failed: int
    crops: int


@dataclass(frozen=True)
class _Cut:
    """What became of a picture: its checksum, its faces with their crops, and what is to be said of it."""

    sha256: str
    faces: list[tuple[Face, NDArray[np.uint8]]]
    remark: Remark


@dataclass(frozen=True)
class _Cutter:
    """From a sample of a data set to its crops, with the faces that are to be cut out of a picture."""

    dataset: Dataset
    faces_in: Callable[[str, NDArray[np.uint8]], list[Face]]
    size: tuple[int, int]

    def __call__(self, location: str) -> _Cut:
        """Read, decode, find and cut out; may run on any thread. Raises UnreadableSampleError."""
        data = self.dataset.read(location)
        whole = picture(data)
        with unaligned(whole):
            faces = self.faces_in(location, whole.pixels)
            crops = [(faces[0], cut_out(whole.pixels, faces[0], self.size))]
        for face in faces[1:]:
            with suppress(UnreadableSampleError):  # half a face at the border, say: the photo has another
                crops.append((face, cut_out(whole.pixels, face, self.size)))
        remark = replace(remark_on(whole, faces[0]), unsure=any(face.unsure for face, _ in crops))
        return _Cut(hashlib.sha256(data).hexdigest(), crops, remark)

    def failure(self, location: str) -> str | None:
        """Why a sample cannot be aligned, or None."""
        try:
            self(location)
        except UnreadableSampleError as error:
            return str(error)
        return None


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
    cutter = _Cutter(dataset, _faces_in(faces, options), options.input_size)
    plan = _plan(options, dataset, faces, subset)
    with one_thread():
        if not options.keep_going and (options.overwrite or not output.is_used()):  # what is resumed began well once
            refuse_futile(cutter.failure, [sample.location for sample in subset.samples])
        with AlignmentFolder(output, plan, options.overwrite).opened() as folder:
            folder.begin()
            return _run(folder, cutter, subset, options)


def _faces(options: AlignOptions) -> Faces:
    if options.detector is not None:
        return Detector(options.detector)
    assert options.landmarks is not None  # noqa: S101 - the options have one of the two
    return Landmarks(options.landmarks)


def _faces_in(faces: Faces, options: AlignOptions) -> Callable[[str, NDArray[np.uint8]], list[Face]]:
    """What gives the faces of a sample's picture that are to be cut out."""
    if options.all_faces and isinstance(faces, Detector):
        return lambda _, pixels: faces.faces(pixels)
    return lambda location, pixels: [faces.face(location, pixels)]


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
        options={**options.reading(), aligned.EVERY_FACE: options.all_faces},
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


def _run(folder: AlignmentFolder, cutter: _Cutter, subset: Subset, options: AlignOptions) -> AlignSummary:
    """Align what is pending, then write the tables."""
    root, total = options.output, len(subset.samples)
    pending = folder.journal.pending()
    if len(pending) < total:
        log.info("Resuming: %d of %d images are done already", total - len(pending), total)
    remarks = Remarks()

    def work(index: int) -> tuple[Aligned | Failed, Remark | None]:
        return _outcome(index, subset.samples[index], cutter, folder)

    threads = processors.usable()
    with folder.working():
        with (
            ThreadPoolExecutor(threads) as pool,
            closing(mapped(pool, work, pending, 4 * threads)) as done,
            progress_bar(total, total - len(pending), options.quiet) as bar,
        ):
            for outcome, remark in done:
                folder.journal.append(outcome)
                if remark is not None:
                    remarks.add(subset.samples[outcome.index].location, remark, has_face=isinstance(outcome, Aligned))
                bar.update()
        counts = folder.finish()
    more = f", {counts.crops} faces" * options.all_faces
    log.info("%d of %d images are aligned%s: %s", counts.aligned, total, more, shown(root / FACES.name))
    for warning in remarks.warnings():
        log.warning("warning: %s", warning)
    if counts.failed:
        log.warning("%d images could not be aligned; %s says why", counts.failed, shown(root / FAILURES.name))
    return AlignSummary(root, counts.aligned, counts.failed, counts.crops)


def _outcome(
    index: int, sample: Sample, cutter: _Cutter, folder: AlignmentFolder
) -> tuple[Aligned | Failed, Remark | None]:
    """Align one sample, write its crops, and remove what is there of others; may run on any thread."""
    root, names = folder.root, folder.crops
    if names.is_folder(sample):
        return Failed(index, "its crop cannot be written: a folder of other samples has its name"), None
    try:
        cut = cutter(sample.location)
        crops = [_written(root, names.path(sample, number), *each) for number, each in enumerate(cut.faces)]
    except UnreadableSampleError as error:
        names.remove(root, sample)
        return Failed(index, str(error)), error.remark if isinstance(error, UnalignedError) else None
    names.remove(root, sample, len(crops))
    return Aligned(index, cut.sha256, crops), cut.remark


def _written(root: Path, path: str, face: Face, crop: NDArray[np.uint8]) -> Crop:
    """Write one crop. Raises UnreadableSampleError for a name that no crop can have."""
    _, encoded = cv2.imencode(".png", crop[:, :, ::-1])
    content = encoded.tobytes()
    try:
        with inside.whole(root, path) as file:
            file.write(content)
    except OSError as error:
        if error.errno in inside.NAME_ERRORS:
            raise UnreadableSampleError(f"its crop cannot be written: {error.strerror}") from error
        raise
    return Crop(face.row(), hashlib.sha256(content).hexdigest(), len(content))
