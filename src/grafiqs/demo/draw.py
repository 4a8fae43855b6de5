"""Draw a data set of faces: what the plan holds, on all cores, stopped and gone on with at any face."""

from __future__ import annotations

import io
import itertools
import logging
from collections.abc import Generator, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from pathlib import Path

import cv2
from filelock import FileLock, Timeout
from PIL import Image

from grafiqs.demo import sheet
from grafiqs.demo.faces import Identity
from grafiqs.demo.plan import FACES, draw_degradation, face_count, face_path, faces_csv, identity_name, sample_count
from grafiqs.errors import RequestError, StoppedError
from grafiqs.names import shown
from grafiqs.options import DrawOptions
from grafiqs.progress import progress_bar
from grafiqs.run.files import PART, read, whole
from grafiqs.run.output import LOCK
from grafiqs.template import SIZE
from grafiqs.workers import processors
from grafiqs.workers.processes import Processes, stopping

log = logging.getLogger(__name__)


def draw_faces(options: DrawOptions) -> int:
    """Draw the data set that `options` describe, on all cores; returns the number of faces.

    The same options give the same bytes, given the kind of CPU and the versions of NumPy and OpenCV; a face depends
    on nothing but the seed and its own numbers: fewer identities, samples or degradations are a part of more. A
    drawing that was stopped goes on, and draws again what is not whole. It starts processes: a script calls it under
    `if __name__ == "__main__"`.
    Raises RequestError when the folder holds anything else, and StoppedError when it cannot be written to.
    """
    total = face_count(options)
    done = 0
    try:
        with _claimed(options), closing(_drawn(options)) as drawn, progress_bar(total, 0, options.quiet) as bar:
            for count in drawn:
                done += count
                bar.update(count)
    except BrokenPipeError:  # of the progress bar
        raise
    except (OSError, BrokenProcessPool) as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise StoppedError(
            f"cannot draw into {shown(options.output)}: {reason}. At least {done} of {total} faces are there: "
            "mend that, and the same command goes on from there"
        ) from error
    except KeyboardInterrupt as stop:
        stop.args = (f"stopped. At least {done} of {total} faces are there: the same command goes on from there",)
        raise
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


@contextmanager
def _claimed(options: DrawOptions) -> Iterator[None]:
    """The folder, held against other processes, with its faces.csv: it belongs to these options alone."""
    root, lock = options.output, FileLock(options.output / LOCK, timeout=0)
    try:
        _refuse_foreign(options)
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        if not _refuse_foreign(options):  # again: another command may have been at work since
            with whole(root / FACES) as file:
                file.writelines(faces_csv(options))
    except Timeout as error:
        raise RequestError(f"faces are being drawn into {shown(root)}: wait until that ends") from error
    except OSError as error:
        raise RequestError(f"cannot draw into {shown(root)}: {error.strerror}; give another folder") from error
    try:
        yield
    finally:
        (root / LOCK).unlink(missing_ok=True)
        lock.release()


def _refuse_foreign(options: DrawOptions) -> bool:
    """Whether the table of these faces is there. Raises RequestError when the folder holds anything else."""
    root = options.output
    if not root.exists():
        return False
    # What a kill left of the table itself is nobody's.
    entries = {entry.name for entry in root.iterdir()} - {LOCK, FACES + PART}
    has_table = _same(root / FACES, faces_csv(options))
    if entries and not has_table and not _is_torn(root / FACES, faces_csv(options)):
        raise RequestError(
            f"{shown(root)} is not empty, and its {FACES} is not that of these faces: give another folder"
        )
    for number in range(options.identities):
        name = identity_name(number)
        if name in entries:
            own = {face_path(options, number, sample).name for sample in range(sample_count(options, number))}
            strange = {entry.name.removesuffix(PART) for entry in (root / name).iterdir()} - own
            if strange:
                entries.add(f"{name}/{min(strange)}")
            entries.discard(name)
    if entries - {FACES}:
        found = shown(min(entries - {FACES}))
        raise RequestError(
            f"{shown(root)} holds what is not of these faces, {found}: remove it, or give another folder"
        )
    return has_table


def _same(table: Path, rows: Iterator[bytes]) -> bool:
    if not table.is_file():
        return False
    with table.open("rb") as file:
        return all(line == row for line, row in itertools.zip_longest(file, rows))


def _is_torn(table: Path, rows: Iterator[bytes]) -> bool:
    """Whether a table is what a crash of the machine can leave of these rows: nothing, or a part and zeros.

    Whole rows alone are the table of fewer faces.
    """
    if not table.is_file():
        return False
    with table.open("rb") as file:
        for count, (line, row) in enumerate(itertools.zip_longest(file, rows)):
            if line != row:
                cut = line is not None and not line.endswith(b"\n") and (row or b"").startswith(line.rstrip(b"\0"))
                return cut or (line is None and count == 0)
    return False


def _is_whole(path: Path) -> bool:
    """Whether a picture is there, with all its checksums: a crash of the machine can leave nothing of it, or zeros."""
    try:
        data = read(path)
    except FileNotFoundError:
        return False
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.verify()
            return image.size == (SIZE, SIZE) and image.mode == "RGB"
    except Exception:  # noqa: BLE001 - damaged data make it fail in every way there is
        return False


def _draw_identity(options: DrawOptions, number: int) -> int:
    """Draw what is not there yet of an identity; returns the number of its samples."""
    identity = Identity(options.seed, number)
    (options.output / identity_name(number)).mkdir(exist_ok=True)
    count = sample_count(options, number)
    for sample in range(count):
        path = face_path(options, number, sample)
        if not stopping() and not _is_whole(path):
            image = identity.face(sample, draw_degradation(options, number, sample)).image
            with whole(path) as file:
                file.write(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    return count
