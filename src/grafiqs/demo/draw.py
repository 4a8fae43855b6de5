"""Draw a data set of faces: what the plan holds, on all cores; it can be stopped and resumed at any face."""

from __future__ import annotations

import io
import itertools
import logging
import os
from collections.abc import Generator, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from pathlib import Path
from typing import Literal

import cv2
from PIL import Image

from grafiqs.demo import sheet
from grafiqs.demo.identity import Identity
from grafiqs.demo.plan import (
    FACES,
    draw_degradation,
    face_count,
    face_path,
    faces_csv,
    identity_name,
    sample_count,
    sample_name,
)
from grafiqs.disk import inside
from grafiqs.disk.inside import PART
from grafiqs.disk.names import shown
from grafiqs.disk.output import LOCK, Output
from grafiqs.errors import RequestError, StoppedError
from grafiqs.faces.template import SIZE
from grafiqs.options.draw import DrawOptions
from grafiqs.progress import progress_bar
from grafiqs.run.resumable import Resumable
from grafiqs.workers import processors
from grafiqs.workers.processes import Processes, stopping

log = logging.getLogger(__name__)


def draw_faces(options: DrawOptions) -> int:
    """Draw the data set that `options` describe, on all cores; returns the number of faces.

    The same options give the same bytes, given the kind of CPU and the versions of NumPy and OpenCV; a face depends
    on nothing but the seed and its own numbers: fewer identities, samples or degradations are a part of more. A
    drawing that was stopped is resumed; what is not whole is drawn again. It starts processes: a script calls it under
    `if __name__ == "__main__"`.
    Raises RequestError when the folder holds anything else, and StoppedError when it cannot be written to.

    >>> draw_faces(DrawOptions(output="drawn", identities=1, samples_per_identity=2, quiet=True))
    2
    """
    total = face_count(options)
    with _Drawing(options).opened() as folder:
        folder.begin()
        try:
            with (
                folder.working(),
                closing(_drawn(options)) as drawn,
                progress_bar(total, 0, options.quiet) as bar,
            ):
                for count in drawn:
                    folder.done += count
                    bar.update(count)
        except BrokenProcessPool as error:
            reason = str(error).rstrip(".")
            raise StoppedError(
                f"cannot draw into {shown(options.output)}: {reason}. {folder.kept()}: fix that, and the same "
                "command resumes"
            ) from error
    log.info("%d faces of %d identities: %s", total, options.identities, shown(options.output))
    if options.contact_sheet:
        sheet.save(sheet.contact_sheet(options), options.contact_sheet)
        log.info("Contact sheet: %s", shown(options.contact_sheet))
    return total


def _drawn(options: DrawOptions) -> Generator[int]:
    """Draw all identities, on all cores; gives the number of faces of each when it is done."""
    count = min(processors.usable(), options.identities)
    with Processes(count, options, _alone) as pool:
        yield from pool.mapped(_draw_identity, range(options.identities), 4 * count)


def _alone(_options: DrawOptions) -> None:
    """Draw on one core: there is a process for each."""
    cv2.setNumThreads(1)


class _Drawing(Resumable[DrawOptions]):
    """The folder of a drawing, which belongs to the faces of its faces.csv alone."""

    can_overwrite = False

    def __init__(self, options: DrawOptions) -> None:
        super().__init__(Output(options.output, FACES, "OUT", "drawing", leaves_lock=False), options)
        self.done = 0
        """Faces that are there, at least."""

    def begin(self) -> None:
        """Begin, or resume. Raises RequestError if that cannot be."""
        if _table(self.root, self._document()) != "whole":
            self._begin(self.manifest)

    def kept(self) -> str:
        """How many faces are there, in words."""
        return f"At least {self.done} of {face_count(self.manifest)} faces are there"

    def _found(self) -> DrawOptions:
        return self.manifest

    def _differences(self, _there: DrawOptions) -> list[str]:
        is_other = _table(self.root, self._document()) == "another"
        return [f"its {FACES} is not that of these faces"] if is_other else []

    def _document(self) -> Iterator[bytes]:
        return faces_csv(self.manifest)

    def _files(self, there: DrawOptions) -> list[str]:
        numbers = range(there.identities)
        return [face_path(number, sample) for number in numbers for sample in range(sample_count(there, number))]

    def _resume(self, there: DrawOptions) -> None:
        """Raise RequestError when the folder holds what is not of these faces."""
        strange = set(os.listdir(self.root)) - {LOCK, FACES}
        for number in range(there.identities):
            name = identity_name(number)
            if name in strange:
                own = {f"{sample_name(sample)}.png" for sample in range(sample_count(there, number))}
                others = {found for found in os.listdir(self.root / name) if found.removesuffix(PART) not in own}
                strange = strange - {name} | {f"{name}/{other}" for other in others}
        if strange:
            raise RequestError(
                f"{shown(self.root)} holds what is not of these faces, {shown(min(strange))}: remove it, or give "
                "another folder"
            )


def _table(root: Path, rows: Iterator[bytes]) -> Literal["whole", "torn", "another"]:
    """What the table in a folder is to these rows: torn is what a crash of the machine can leave of them.

    That is nothing, or a part and zeros; whole rows alone are the table of fewer faces.
    """
    with suppress(FileNotFoundError), inside.opened(root, FACES) as file:
        for count, (line, row) in enumerate(itertools.zip_longest(file, rows)):
            if line != row:
                cut = line is not None and not line.endswith(b"\n") and (row or b"").startswith(line.rstrip(b"\0"))
                return "torn" if cut or (line is None and count == 0) else "another"
        return "whole"
    return "torn"


def _is_whole(root: Path, path: str) -> bool:
    """Whether a picture is there, with all its checksums: a crash of the machine can leave nothing of it, or zeros."""
    if not inside.size(root, path):
        return False
    with inside.opened(root, path) as file:
        data = file.read()
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.verify()
            return image.size == (SIZE, SIZE) and image.mode == "RGB"
    except Exception:  # noqa: BLE001 - damaged data make it fail in every way there is
        return False


def _draw_identity(options: DrawOptions, number: int) -> int:
    """Draw what is not there yet of an identity; returns the number of its samples."""
    identity = Identity(options.seed, number)
    count = sample_count(options, number)
    for sample in range(count):
        path = face_path(number, sample)
        if not stopping() and not _is_whole(options.output, path):
            image = identity.face(sample, draw_degradation(options, number, sample)).image
            with inside.whole(options.output, path) as file:
                file.write(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    return count
