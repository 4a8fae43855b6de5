"""The run folder: a run's gradients, journal and tables, resumed where it stopped."""

from __future__ import annotations

import base64
import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from grafiqs.calibration.reference import Reference
from grafiqs.disk import files, inside
from grafiqs.disk.names import shown
from grafiqs.disk.output import Output
from grafiqs.errors import RequestError
from grafiqs.run import finished, tables
from grafiqs.run import journal as journals
from grafiqs.run import manifest as manifests
from grafiqs.run.journal import Failed, Journal, Outcome, Scored
from grafiqs.run.manifest import Manifest
from grafiqs.run.resumable import Journaled

log = logging.getLogger(__name__)

_BYTES_PER_ROW = 1024
"""Room that one sample takes in the tables and the journal, generously."""

_BLOCK = 4096
"""Files take whole blocks on the disk."""


def output_of(folder: Path) -> Output:
    """The folder of a run, whatever it holds."""
    return Output(folder, manifests.NAME)


class RunFolder(Journaled[Manifest, Scored]):
    """The folder of the run that a manifest describes: `opened`, then begun, it takes the outcomes of the samples."""

    def __init__(self, root: Path, manifest: Manifest, overwrite: bool = False, overwritten_by: str = "") -> None:
        super().__init__(output_of(root), manifest, journal_of(root, manifest), overwrite)
        self.overwritten_by = overwritten_by or self.overwritten_by
        self.tree = manifest.tree(root)
        self._is_reopened = False
        """Whether the run was finished, and its journal is there again, until it is begun."""

    def need_room(self, others: int = 0) -> None:
        """Raise RequestError when the disk has no room for what is pending, and for so many bytes of others."""
        with self._writable():
            removed = self.removed and self.removed.tree(self.root).bytes_of(self.removed.subset.samples)
        needed = self.room(len(self.journal.pending())) - (removed or 0) + others
        free = shutil.disk_usage(self.root).free
        if needed > free:
            raise RequestError(
                f"the disk of {shown(self.root)} has {free / 1e6:,.0f} MB free, and this run needs "
                f"{needed / 1e6:,.0f} MB: make room, give another --output-dir, halve it with --gradient-dtype "
                "float16, or name fewer --layers"
            )

    def room(self, samples: int, gradients: bool = True) -> int:
        """The bytes that so many samples take in tables and journal, generously, and if `gradients` as gradients."""
        row = _BYTES_PER_ROW + 10 * self.manifest.embedding_size * self.manifest.embeds
        return samples * (row + gradients * sum(size + _BLOCK for size in self.tree.sizes.values()))

    def begin(self, environment: dict[str, Any]) -> None:
        """Begin, or resume, in this environment: what computes, and where. Raises RequestError if that cannot be."""
        there, here = self.manifest, self.manifest.continued_in(environment)
        self._is_reopened = False
        if not self.journal.is_loaded:
            self._begin(here)
            with self._writable():
                self.journal.load()
        elif here is not there:
            log.warning(
                "this run began in another environment (%s); its numbers may differ from those in the last digits",
                ", ".join(manifests.environment_differences(there.environments[-1], environment)),
            )
            self._begin(here)

    def record(self, outcome: Outcome) -> None:
        """Count a sample as done, or as failed; what a failed sample left behind is removed."""
        if isinstance(outcome, Failed):
            self.tree.remove([self.manifest.subset.samples[outcome.index]])
        self.journal.append(outcome)

    def finish(self, reference: Reference | None = None) -> Counter[type[Any]]:
        """Write the tables; the run is finished when this returns. Returns the outcomes of each kind.

        `reference` is that of the run, if its manifest names one.
        """
        self._is_reopened = False
        counts = finished.write(self.root, self.manifest, self.journal.outcomes(), reference)
        self.journal.remove()
        return counts

    def discard(self) -> None:
        """Remove the run."""
        self._remove(self.manifest)
        inside.remove(self.root, self.output.manifest)

    def _found(self) -> Manifest:
        return manifests.read(self.root)

    def _differences(self, there: Manifest) -> list[str]:
        return there.differences(self.manifest)

    def _document(self) -> Iterable[bytes]:
        return (piece.encode() for piece in self.manifest.to_json())

    def _files(self, there: Manifest) -> list[str]:
        return files_of(self.root, there)

    def _resume(self, there: Manifest) -> None:
        self.manifest = there
        if finished.is_finished(self.root):
            self._reopen()
        self.tree.need_folders()
        self.journal.load()
        for index, sample in enumerate(there.subset.samples):
            if index in self.journal and not self.tree.is_whole(sample):
                self.journal.forget(index)

    def _reopen(self) -> None:
        """Write the journal of a finished run again, so that what is missing or failed can be done.

        Raises RequestError when the tables were changed since.
        """
        try:
            changed = finished.changed(self.root, self.manifest)
            if changed:
                raise ValueError(f"{changed[0]} was changed since")
            self._is_reopened = True
            journals.write(self.root, finished.read(self.root, self.manifest))
        except (FileNotFoundError, ValueError) as error:
            raise RequestError(
                f"the finished run in {shown(self.root)} is damaged ({error}): look with 'grafiqs verify', "
                f"or start over with {self.overwritten_by}"
            ) from error

    def _close(self) -> None:
        super()._close()
        if self._is_reopened:
            self.journal.remove()  # the run stays finished


def files_of(folder: Path, manifest: Manifest) -> list[str]:
    """The files of the run in a folder, but for its manifest, in the order in which they are to be removed.

    A page that shows it is one of them.
    """
    gradients = manifest.tree(Path()).paths(manifest.subset.samples)
    pages = [finished.REPORT] if finished.is_page(folder / finished.REPORT) else []
    return [*pages, *reversed(finished.names(manifest)), journals.NAME, *gradients]


def outcomes_of(root: Path, manifest: Manifest) -> Iterator[Outcome]:
    """The outcomes of the run in `root`, finished or not, but for failures if it is not; nothing is written.

    Raises OSError or ValueError when they cannot be read.
    """
    if finished.is_finished(root):
        yield from finished.read(root, manifest)
    elif files.exists(root / journals.NAME):
        journal = journal_of(root, manifest)
        journal.look()
        yield from journal.outcomes()


def journal_of(root: Path, manifest: Manifest) -> Journal[Scored]:
    """The journal of a run."""
    embedding = len(base64.b64encode(bytes(4 * manifest.embedding_size))) if manifest.embeds else 0

    def fits(scored: Scored) -> bool:
        return (
            len(scored.scores) == len(manifest.layers)
            and len(scored.files_sha256) == len(manifest.dumps)
            and (tables.is_face(scored.face) if manifest.aligns else not scored.face)
            and len(scored.embedding) == embedding
        )

    return Journal(root, len(manifest.subset.samples), Scored, fits)
