"""A run folder open for writing: one run at a time, resumed where it stopped, never mixed with another."""

from __future__ import annotations

import base64
import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from grafiqs import npy
from grafiqs.errors import RequestError
from grafiqs.formats.dataset import Sample
from grafiqs.names import shown
from grafiqs.run import files, tables
from grafiqs.run import journal as journals
from grafiqs.run import manifest as manifests
from grafiqs.run.journal import Failed, Journal, Outcome, Scored
from grafiqs.run.manifest import Manifest
from grafiqs.run.output import Output

log = logging.getLogger(__name__)

_BYTES_PER_ROW = 1024
"""Room that one sample takes in the tables and the journal, generously."""

_BLOCK = 4096
"""Files take whole blocks on the disk."""

NAME_ERRORS = frozenset((errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EILSEQ, errno.EINVAL))
"""What the file system says when one name is the trouble and others will do."""


class UnwritableNameError(Exception):
    """The file system takes no file of this name; the message is the reason."""


class RunFolder:
    """A run folder under this process's lock, as `open_run_folder` yields it."""

    def __init__(self, root: Path, manifest: Manifest, journal: Journal[Scored]) -> None:
        self.root = root
        self.manifest = manifest
        self.journal = journal
        self._folders: set[Path] = set()

    def pending(self) -> list[int]:
        """The indices of the samples that are not done, in order."""
        return [index for index in range(len(self.manifest.subset.samples)) if index not in self.journal]

    def forget_incomplete(self) -> None:
        """Count as not done every sample whose gradient files are not all there, in their full size."""
        sizes = self.manifest.file_sizes
        for index, sample in enumerate(self.manifest.subset.samples):
            if index in self.journal and not all(
                has_size(self.root / layer / sample.output, size) for layer, size in sizes.items()
            ):
                self.journal.forget(index)

    def write(self, sample: Sample, gradients: dict[str, NDArray[Any]]) -> list[str]:
        """Write the gradient files of one sample, each whole or not at all; may run on any thread.

        Returns their SHA-256. Raises UnwritableNameError when the file system does not take the name, and
        OSError when it takes no file at all.
        """
        checksums: list[str] = []
        try:
            for layer, gradient in gradients.items():
                path = self.root / layer / sample.output
                if path.parent not in self._folders:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    self._folders.add(path.parent)
                checksum = hashlib.sha256()
                with files.whole(path) as file:
                    for piece in npy.pieces(gradient):
                        checksum.update(piece)
                        file.write(piece)
                checksums.append(checksum.hexdigest())
        except OSError as error:
            if error.errno in NAME_ERRORS:
                raise UnwritableNameError(f"its gradient cannot be written: {error.strerror}") from error
            raise
        return checksums

    def record(self, outcome: Outcome) -> None:
        """Count a sample as done, or as failed; what a failed sample left behind is removed."""
        if isinstance(outcome, Failed):
            _remove_gradients(self.root, self.manifest, self.manifest.subset.samples[outcome.index])
        self.journal.append(outcome)

    def finish(self) -> tables.Counts:
        """Write the tables and close the books; the run is finished when this returns."""
        counts = tables.write(self.root, self.manifest, self.journal.outcomes())
        self.journal.remove()
        return counts


def has_size(path: Path, size: int) -> bool:
    """Whether there is a file of this size."""
    try:
        return os.stat(path).st_size == size
    except OSError:
        return False


Prepare = Callable[[Sequence[int]], dict[str, Any]]
"""What gets ready to compute the samples of these indices, and returns the environment."""


@contextmanager
def open_run_folder(root: Path, manifest: Manifest, prepare: Prepare, overwrite: bool = False) -> Iterator[RunFolder]:
    """Open the run folder of `manifest`: a new one, or the same run to resume.

    With `overwrite`, the run that the folder holds is removed first, whatever its options. If there is something to
    compute, `prepare` gets ready for it and returns the environment, before anything is written.
    Raises RequestError, with nothing written, when the folder holds another run or anything else, when another
    process is at work in it, when there is no permission, or no room on the disk.
    """
    output = Output(root, manifests.NAME)
    output.refuse_foreign()
    with output.locked():
        try:
            run = _opened(root, manifest, prepare, overwrite)
        except OSError as error:
            raise output.unwritable(error) from error
        with closing(run.journal):
            yield run


def _opened(root: Path, manifest: Manifest, prepare: Prepare, overwrite: bool) -> RunFolder:
    """The run folder with its manifest and journal in place, under this process's lock."""
    Output(root, manifests.NAME).refuse_foreign()  # again: now nobody else can fill it
    (root / (manifests.NAME + files.PART)).unlink(missing_ok=True)
    count = len(manifest.subset.samples)
    needed = _bytes_to_write(manifest, count)
    existing = manifests.read(root) if manifests.is_run(root) else None
    if existing is not None and not overwrite:
        _refuse_other(root, existing, manifest)
        return _resumed(root, existing, prepare)
    _require_room(root, needed - (_bytes_written(root, existing) if existing else 0))
    manifest = manifest.continued_in(prepare(range(count)))
    if existing is not None:
        _remove_run(root, existing)
    _write_manifest(root, manifest)
    return RunFolder(root, manifest, journal_of(root, manifest))


def _resumed(root: Path, manifest: Manifest, prepare: Prepare) -> RunFolder:
    """The run that the folder holds, to go on with where there is something left to do."""
    reopened = _reopen_finished(root, manifest)
    run = RunFolder(root, manifest, journal_of(root, manifest))
    try:
        run.forget_incomplete()
        pending = run.pending()
        _require_room(root, _bytes_to_write(manifest, len(pending)))
        if pending:
            here = prepare(pending)
            run.manifest = manifest.continued_in(here)
            if run.manifest is not manifest:
                log.warning(
                    "this run began in another environment (%s); its numbers may differ from those in the last digits",
                    ", ".join(manifests.environment_differences(manifest.environments[-1], here)),
                )
                _write_manifest(root, run.manifest)
    except BaseException:
        run.journal.close()
        if reopened:
            run.journal.remove()  # the run stays finished
        raise
    return run


def journal_of(root: Path, manifest: Manifest) -> Journal[Scored]:
    """The journal of the run that the folder holds."""
    embedding = len(base64.b64encode(bytes(4 * manifest.embedding_size))) if manifest.embeds else 0

    def fits(scored: Scored) -> bool:
        return (
            len(scored.scores) == len(manifest.layers)
            and len(scored.files_sha256) == len(manifest.dumps)
            and (tables.is_face(scored.face) if manifest.aligns else not scored.face)
            and len(scored.embedding) == embedding
        )

    return Journal(root, len(manifest.subset.samples), Scored, fits)


def _write_manifest(root: Path, manifest: Manifest) -> None:
    with files.whole(root / manifests.NAME) as file:
        for piece in manifest.to_json():
            file.write(piece.encode())


def _refuse_other(root: Path, existing: Manifest, wanted: Manifest) -> None:
    differences = existing.differences(wanted)
    if differences:
        raise RequestError(
            f"{shown(root)} holds another run, and nothing is mixed. What differs:\n"
            + "".join(f"  - {line}\n" for line in differences)
            + "Give another --output-dir, or remove that run with --overwrite."
        )


def _reopen_finished(root: Path, manifest: Manifest) -> bool:
    """Write the journal of a finished run again, so that what is missing or failed can be done.

    Returns False for a run that is not finished. Raises RequestError when the tables were changed since.
    """
    if not tables.is_finished(root):
        return False
    try:
        changed = tables.changed(root, manifest)
        if changed:
            raise ValueError(f"{changed[0]} was changed since")
        with files.whole(root / journals.NAME) as file:
            file.writelines(map(journals.line, tables.read(root, manifest)))
    except (FileNotFoundError, ValueError) as error:
        raise RequestError(
            f"the finished run in {shown(root)} is damaged ({error}): look with 'grafiqs verify', "
            "or begin anew with --overwrite"
        ) from error
    return True


def _remove_run(root: Path, manifest: Manifest) -> None:
    """Remove the files of a run, and nothing else; the manifest stays, so that this can be stopped and done again."""
    for name in (*reversed(tables.names(manifest)), journals.NAME):
        (root / name).unlink(missing_ok=True)
        (root / (name + files.PART)).unlink(missing_ok=True)
    for sample in manifest.subset.samples:
        _remove_gradients(root, manifest, sample)
    for layer in manifest.dumps:
        for folder, _, _ in os.walk(root / layer, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)  # fails, as it should, where something else lies in it


def _remove_gradients(root: Path, manifest: Manifest, sample: Sample) -> None:
    for layer in manifest.dumps:
        path = root / layer / sample.output
        for name in (path, path.with_name(path.name + files.PART)):
            try:
                name.unlink(missing_ok=True)
            except OSError as error:
                if error.errno not in NAME_ERRORS:  # under such a name nothing was ever written
                    raise


def _bytes_to_write(manifest: Manifest, samples: int) -> int:
    row = _BYTES_PER_ROW + 10 * manifest.embedding_size * manifest.embeds
    return samples * (row + sum(size + _BLOCK for size in manifest.file_sizes.values()))


def _bytes_written(root: Path, manifest: Manifest) -> int:
    total = 0
    for sample in manifest.subset.samples:
        for layer in manifest.dumps:
            with suppress(OSError):
                total += os.stat(root / layer / sample.output).st_size
    return total


def _require_room(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if needed > free:
        raise RequestError(
            f"the disk of {shown(root)} has {free / 1e6:,.0f} MB free, and this run needs {needed / 1e6:,.0f} MB: "
            "make room, give another --output-dir, halve it with --gradient-dtype float16, or name fewer --layers"
        )
