"""Scores of photos, one after the other: what `grafiqs score` prints."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grafiqs.backbones.catalogue import EMBEDDING_NORM, LAYERS
from grafiqs.datasets import lists
from grafiqs.datasets.dataset import Readable
from grafiqs.datasets.left_out import UNPACKED_BY
from grafiqs.disk.files import whole
from grafiqs.disk.names import encoded, extension, shown
from grafiqs.errors import RequestError, StoppedError, UnreadableSampleError
from grafiqs.faces.opencv import one_thread
from grafiqs.images.remarks import Remarks
from grafiqs.images.unaligned import are_unaligned
from grafiqs.model.given import Stored
from grafiqs.model.in_hand import Model
from grafiqs.model.result import Result
from grafiqs.options.compute import ComputeOptions
from grafiqs.options.dataset import DataSetOptions, ReadingOptions
from grafiqs.options.score import STANDARD_INPUT, ScoreOptions
from grafiqs.run.finished import refuse_inside_run
from grafiqs.select import left_out, open_dataset

log = logging.getLogger(__name__)

_DATA_SETS = {*lists.EXTENSIONS, "zip", "tar", "rec", "idx", "bin", *UNPACKED_BY}
"""The extensions of files that hold photos, and are none."""

_IMAGES = (b"\x89PNG", b"\xff\xd8\xff")
"""What image files begin with, and paths do not."""

_LONGEST_PATH = 65_536

_LONGEST = 200
"""Bytes of the name of a photo in that of its heat maps: with a number, less than any file system takes."""

_JUDGED = 80
"""The most photos by which it is judged whether they are aligned crops."""


@dataclass(frozen=True)
class Photo:
    """A photo that was scored, or could not be; and why it should be taken again, if it should."""

    result: Result
    short: tuple[str, ...] = ()
    """What falls short, a reason each."""


def scored(options: ScoreOptions, model: Model, lines: Iterable[bytes]) -> Iterator[Photo]:
    """Score the photos that `options` name, in their order; `lines` are those of standard input.

    What should not be overlooked is logged at the end. Raises RequestError when the options ask for qualities that the
    model does not give.
    """
    limits = _Limits.of(options, model)
    remarks, others = Remarks(), 0
    judged: list[tuple[NDArray[np.uint8], tuple[int, int]]] = []
    gradients = options.heat_maps is not None
    with nullcontext() if model.faces is None else one_thread():
        for result in model.stream(_photos(options, lines), gradients=gradients):
            if result.remark is not None:
                remarks.add(result.path or "", result.remark, has_face=result.face is not None)
            if result.crop is not None and result.size is not None and model.faces is None:
                others += result.size != model.input_size
                if len(judged) < _JUDGED:
                    judged.append((result.crop, result.size))
            yield Photo(result, limits.short(result))
    for warning in remarks.warnings():
        log.warning("warning: %s", warning)
    if judged and are_unaligned(judged, model.input_size):
        whole = f"; {others} were resized whole, whatever is in them" if others else ""
        log.warning(
            "warning: these images do not look like crops of %dx%d aligned to the ArcFace template, which the networks "
            "expect%s: scores of unaligned faces mean little. --align DETECTOR.onnx finds and aligns them first",
            *(*model.input_size, whole),
        )
    elif others:
        log.info(
            "Images count as aligned crops, since there is no --align: %d were resized whole to %dx%d",
            *(others, *model.input_size),
        )


def load_model(options: ScoreOptions) -> Model:
    """The model that scores: paths of standard input as they come, one by one, unless a batch size is given."""
    own = {field.name: getattr(options, field.name) for field in fields(ComputeOptions)}
    if own["batch_size"] is None and STANDARD_INPUT in options.photos:
        own["batch_size"] = 1
    return Model(ComputeOptions(**own), options.reference)


@dataclass(frozen=True)
class _Limits:
    """What a photo must reach."""

    qualities: dict[str, float]
    scores: dict[str, float]

    @staticmethod
    def of(options: ScoreOptions, model: Model) -> _Limits:
        reference, qualities = model.reference, options.limits("min_quality")
        if qualities and reference is None:
            raise RequestError("--min-quality needs a --reference, as 'grafiqs calibrate' makes it, to give qualities")
        if "" in qualities and reference is not None:
            if reference.layer is None:
                raise RequestError(
                    "this reference goes by no layer, since none was shown to predict errors: name those that count, "
                    "as in --min-quality image=20"
                )
            if reference.layer in qualities:
                raise RequestError(
                    f"--min-quality gives {reference.layer} two limits, as a number alone is of the reference's layer: "
                    "leave one"
                )
            qualities[reference.layer] = qualities.pop("")
        given = model.names
        known = () if reference is None else tuple(name for name in given if name in reference.distributions)
        for flag, names, have in (
            ("--min-quality", qualities, known),
            ("--max-score", options.limits("max_score"), given),
        ):
            for name in names:
                if name not in have:
                    remedy = " (--embeddings computes it)" * (name == EMBEDDING_NORM)
                    raise RequestError(
                        f"{flag} goes by {shown(name)}{remedy}, and here are {', '.join(have) or 'none'}"
                    )
        return _Limits(qualities, options.limits("max_score"))

    def short(self, result: Result) -> tuple[str, ...]:
        """Why a photo falls short, if it does; one that could not be scored does."""
        if not self.qualities and not self.scores:
            return ()
        if result.error is not None:
            return (result.error,)
        low = [
            f"quality {result.quality[name]} by {name} is below {limit:g}"
            for name, limit in self.qualities.items()
            if result.quality[name] < limit
        ]
        high = [
            f"{name} {result.scores[name]:.4g} is above {limit:g}"
            for name, limit in self.scores.items()
            if result.scores[name] > limit
        ]
        return (*low, *high)


def _photos(options: ScoreOptions, lines: Iterable[bytes]) -> Iterator[Stored | str]:
    """The photos, one by one; what cannot be listed is one that cannot be read."""
    for photo in options.photos:
        if photo == STANDARD_INPUT:
            yield from _listed(lines)
        elif os.path.isdir(photo) or extension(photo) in _DATA_SETS:
            try:
                yield from _of_dataset(photo, options)
            except RequestError as error:
                why = str(error).replace(": check --image-path", "").replace("--image-path", "PHOTO")
                yield Stored(_Unlisted(why), "", photo)
        else:
            yield photo


def _listed(lines: Iterable[bytes]) -> Iterator[str]:
    """The paths on standard input. Raises RequestError when these are no lines of paths."""
    for number, line in enumerate(lines):
        if number == 0:
            if line.startswith(_IMAGES):
                raise RequestError("standard input holds an image, and - takes paths of photos, a line each")
            line = line.removeprefix(b"\xef\xbb\xbf")  # the byte order mark of UTF-8
        if b"\0" in line or len(line) > _LONGEST_PATH:
            raise RequestError(
                "standard input is no list of paths, a line each: it has NULs, as images, lists in UTF-16 and those of "
                f"find -print0 have, or a line of more than {_LONGEST_PATH:,} bytes"
            )
        if path := os.fsdecode(line.rstrip(b"\r\n")):
            yield path


def _of_dataset(photo: str, options: ScoreOptions) -> Iterator[Stored]:
    """The images of a folder, archive or list, at any depth."""
    reading = {field.name: getattr(options, field.name) for field in fields(ReadingOptions)}
    if options.identity_depth is None and options.identity_column is None:
        reading["flat_structure"] = True
    dataset = open_dataset(DataSetOptions(image_path=Path(photo), **reading))
    for identity in dataset.identities:
        for sample in dataset.samples(identity):
            location = dataset.location(identity, sample)
            yield Stored(dataset, location, (dataset.root / location).as_posix())
    for level, line in left_out(dataset):
        log.log(level, "%s", line)


@dataclass(frozen=True)
class _Unlisted(Readable):
    """A data set that cannot be listed."""

    why: str

    def read(self, location: str) -> bytes:
        """Nothing. Raises UnreadableSampleError, with the reason."""
        del location
        raise UnreadableSampleError(self.why)

    def reading(self) -> Readable:
        """Itself."""
        return self


def need_gradients(options: ScoreOptions, model: Model) -> None:
    """Raise RequestError when heat maps are asked for, and no layer has gradients."""
    if options.heat_maps is not None and not any(name in LAYERS for name in model.scores):
        raise RequestError("--heat-maps are of gradients, and the loss alone has none: give --layers with others")


def need_new_folder(options: ScoreOptions) -> None:
    """Raise RequestError when heat maps are asked for in a folder that holds something, or is others'."""
    folder = options.heat_maps
    if folder is None:
        return
    refuse_inside_run(folder)
    for photo in options.photos:
        if os.path.isdir(photo) and Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(photo)):
            raise RequestError(
                f"--heat-maps {shown(folder)} lies inside {shown(photo)}, where its pictures would be taken for "
                "photos: give a folder outside it"
            )
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise RequestError(f"--heat-maps {shown(folder)} is there already, and not empty: give a new folder")


def save(picture: NDArray[np.uint8], folder: Path, number: int, path: str | None) -> None:
    """Write the picture of a photo, the `number`-th, to <number>_<name of the photo>.png.

    Raises StoppedError when that fails.
    """
    name = encoded(Path(path or "").stem)[:_LONGEST].decode("utf-8", "ignore")
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG")
    place = folder / f"{number:06d}_{name}.png"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole(place) as file:
            file.write(data.getvalue())
    except OSError as error:
        raise StoppedError(f"cannot write {shown(place)}: {error.strerror}; give another --heat-maps") from error
