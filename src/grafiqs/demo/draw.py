"""A data set of drawn faces: identity folders, and faces.csv with every number behind every face."""

from __future__ import annotations

import csv
import io
import itertools
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import asdict, fields
from multiprocessing.synchronize import Event
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from grafiqs.demo import sheet
from grafiqs.demo.degrade import KINDS, Degradation
from grafiqs.demo.faces import Identity
from grafiqs.demo.scene import Scene
from grafiqs.demo.traits import Traits
from grafiqs.errors import RequestError, StoppedError
from grafiqs.names import shown
from grafiqs.options import DrawOptions
from grafiqs.progress import progress_bar
from grafiqs.run.files import PART, whole
from grafiqs.run.folder import LOCK

log = logging.getLogger(__name__)

FACES = "faces.csv"
COLUMNS = (
    *("identity", "sample", "path", "degradation", "strength"),
    *(field.name for kind in (Scene, Traits) for field in fields(kind)),
)
"""The columns of faces.csv; what is degraded as "none" has strength 0."""

SHEET_ROWS, SHEET_COLUMNS = 8, 9
"""Identities and samples of a contact sheet, at most."""

SHORT = 1
"""The number of the one identity that has only a third of the samples."""

_DRAWN_DEGRADATION = 4  # a stream of random numbers beside those of the faces


def identity_name(number: int) -> str:
    """The folder of an identity."""
    return f"person_{number:04}"


def sample_name(number: int) -> str:
    """A sample of an identity, without the extension."""
    return f"{number:04}"


def sample_count(options: DrawOptions, number: int) -> int:
    """How many samples an identity has."""
    everyone = options.samples_per_identity
    return max(1, everyone // 3) if number == SHORT else everyone


def draw_degradation(options: DrawOptions, number: int, sample: int) -> Degradation | None:
    """What is wrong with a sample: for a share of them one of KINDS, of a strength between 0.05 and 1."""
    rng = np.random.default_rng([_DRAWN_DEGRADATION, options.seed, number, sample])
    spoiled, kind, strength = rng.random(), int(rng.integers(len(KINDS))), rng.uniform(0.05, 1)
    return Degradation(list(KINDS)[kind], float(strength)) if spoiled < options.degraded else None


def draw_faces(options: DrawOptions) -> int:
    """Draw the data set that `options` describe, on all cores; returns the number of faces.

    The same options give the same bytes, given the kind of CPU and the versions of NumPy and OpenCV; a face depends
    on nothing but the seed and its own numbers: fewer identities, samples or degradations are a part of more. A
    drawing that was stopped goes on. It starts processes: a script calls it under `if __name__ == "__main__"`.
    Raises RequestError when the folder holds anything else, and StoppedError when it cannot be written to.
    """
    total = sum(sample_count(options, number) for number in range(options.identities))
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
        sheet.save(contact_sheet(options), options.contact_sheet)
        log.info("Contact sheet: %s", shown(options.contact_sheet))
    return total


def read_faces(root: Path) -> dict[str, Degradation | None]:
    """What faces.csv says is wrong with each face of a drawn data set, by its path."""
    with (root / FACES).open(newline="") as table:
        return {
            row["path"]: Degradation(row["degradation"], float(row["strength"])) if float(row["strength"]) else None
            for row in csv.DictReader(table)
        }


def contact_sheet(options: DrawOptions) -> NDArray[np.uint8]:
    """A picture of the first faces of a drawn data set: a row for each identity, and below a face what is wrong."""
    rows = []
    for number in range(min(options.identities, SHEET_ROWS)):
        row = []
        for sample in range(min(sample_count(options, number), SHEET_COLUMNS)):
            wrong = draw_degradation(options, number, sample)
            row.append(sheet.tile(sheet.load(_path(options, number, sample)), sheet.words(wrong)))
        rows.append(row)
    return sheet.arranged(rows)


def _path(options: DrawOptions, number: int, sample: int) -> Path:
    return options.output / identity_name(number) / f"{sample_name(sample)}.png"


def _drawn(options: DrawOptions) -> Generator[int]:
    """Draw all identities, on all cores; gives the number of faces of each when it is done."""
    processes = min(os.cpu_count() or 1, options.identities)
    # Millions of identities go to the pool in some thousand pieces, not each as one of its own.
    piece = 1 + options.identities // 4096
    # Spawned, because a process that is forked while other threads run may hang.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with ProcessPoolExecutor(processes, context, _begin, (stop,)) as pool:
        try:
            # The helpers begin, and stay, deaf to Ctrl-C: this process tells them to stop.
            heard = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                counts = pool.map(_draw_identity, itertools.repeat(options), range(options.identities), chunksize=piece)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, heard)
            yield from counts
        finally:
            stop.set()


_stop: Event
"""Set when a helper is to stop."""


def _begin(stop: Event) -> None:
    """What a helper does first: learn when to stop, and end with its parent, however that ends."""
    global _stop
    _stop = stop
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


@contextmanager
def _claimed(options: DrawOptions) -> Iterator[None]:
    """The folder, held against other processes, with its faces.csv: it belongs to these options alone."""
    root, table, lock = options.output, options.output / FACES, FileLock(options.output / LOCK, timeout=0)
    try:
        # What a kill left of the table itself is nobody's.
        taken = root.exists() and any(entry.name not in (LOCK, FACES + PART) for entry in root.iterdir())
        if taken and not _same(table, _table(options)):
            raise RequestError(
                f"{shown(root)} is not empty, and its {FACES} is not that of these faces: give another folder"
            )
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        if not table.exists():
            with whole(table) as file:
                file.writelines(_table(options))
    except Timeout as error:
        raise RequestError(f"faces are being drawn into {shown(root)}: wait until that ends") from error
    except OSError as error:
        raise RequestError(f"cannot draw into {shown(root)}: {error.strerror}; give another folder") from error
    try:
        yield
    finally:
        (root / LOCK).unlink(missing_ok=True)
        lock.release()


def _same(table: Path, rows: Iterator[bytes]) -> bool:
    if not table.is_file():
        return False
    with table.open("rb") as file:
        return all(line == row for line, row in itertools.zip_longest(file, rows))


def _table(options: DrawOptions) -> Iterator[bytes]:
    """faces.csv, a line at a time: nothing is drawn for it."""
    yield _row(COLUMNS)
    for number in range(options.identities):
        identity = Identity(options.seed, number)
        traits = asdict(identity.traits).values()
        for sample in range(sample_count(options, number)):
            wrong = draw_degradation(options, number, sample)
            scene = asdict(identity.scene(sample, wrong)).values()
            name, place = identity_name(number), sample_name(sample)
            quality = (wrong.kind, wrong.strength) if wrong else ("none", 0.0)
            yield _row((name, place, f"{name}/{place}.png", *quality, *scene, *traits))


def _row(values: tuple[object, ...]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue().encode()


def _draw_identity(options: DrawOptions, number: int) -> int:
    """Draw what is not there yet of an identity; returns the number of its samples."""
    identity = Identity(options.seed, number)
    (options.output / identity_name(number)).mkdir(exist_ok=True)
    count = sample_count(options, number)
    for sample in range(count):
        path = _path(options, number, sample)
        if not path.exists() and not _stop.is_set():
            image = identity.face(sample, draw_degradation(options, number, sample)).image
            with whole(path) as file:
                file.write(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    return count
