"""What a run folder holds, finished or not: its files, and its outcomes so far."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

from grafiqs.disk import files
from grafiqs.run import finished, shard_journals, tables
from grafiqs.run import journal as journals
from grafiqs.run.journal import Journal, Outcome, Scored
from grafiqs.run.manifest import Manifest
from grafiqs.run.shard_journals import ShardJournals


def files_of(folder: Path, manifest: Manifest) -> list[str]:
    """The files of the run in a folder, but for its manifest, in the order in which they are to be removed.

    A page that shows it is one of them.
    """
    gradients = manifest.store(folder).files()
    pages = [finished.REPORT] if finished.is_page(folder / finished.REPORT) else []
    progress = shard_journals.paths(folder)
    return [*pages, *reversed(finished.names(manifest)), journals.NAME, *progress, *gradients]


def outcomes_of(root: Path, manifest: Manifest) -> Iterator[Outcome]:
    """The outcomes of the run in `root`, finished or not, as far as it has them; nothing is written.

    Raises OSError or ValueError when they cannot be read.
    """
    if finished.is_finished(root):
        yield from finished.read(root, manifest)
    elif shard_journals.is_there(root):
        found = ShardJournals(root, manifest.shards, fitting(manifest))
        found.look()
        yield from found.outcomes()
    elif files.exists(root / journals.NAME):
        journal = journal_of(root, manifest)
        journal.look()
        yield from journal.outcomes()


def fitting(manifest: Manifest) -> Callable[[Scored], bool]:
    """Whether the outcome of a sample can be one of this run."""
    embedding = len(base64.b64encode(bytes(4 * manifest.embedding_size))) if manifest.embeds else 0

    def fits(scored: Scored) -> bool:
        return (
            len(scored.scores) == len(manifest.layers)
            and len(scored.files_sha256) == len(manifest.dumps)
            and (tables.is_face(scored.face) if manifest.aligns else not scored.face)
            and len(scored.embedding) == embedding
        )

    return fits


def journal_of(root: Path, manifest: Manifest) -> Journal[Scored]:
    """The journal of a run that an earlier version began."""
    return Journal(root, len(manifest.subset.samples), Scored, fitting(manifest))
