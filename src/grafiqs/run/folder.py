"""The run folder: a run's gradients, journals and tables, resumed where it stopped, by one process or by many."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.calibration.reference import Reference
from grafiqs.disk import files, inside
from grafiqs.disk.names import shown
from grafiqs.disk.output import Output
from grafiqs.errors import RequestError
from grafiqs.run import finished, shard_journals, subset_table
from grafiqs.run import journal as journals
from grafiqs.run import manifest as manifests
from grafiqs.run.beginning import Beginning
from grafiqs.run.claims import rest
from grafiqs.run.contents import files_of, fitting
from grafiqs.run.ending import Ending, counted
from grafiqs.run.former import Former, of_finished, of_journal
from grafiqs.run.journal import Failed, Outcome, Scored
from grafiqs.run.manifest import Manifest
from grafiqs.run.resumable import Resumable
from grafiqs.run.shard_journals import ShardJournals
from grafiqs.run.shard_lines import DamagedShardError
from grafiqs.run.shard_work import Open, work
from grafiqs.run.tables import SUMS

log = logging.getLogger(__name__)

_BYTES_PER_ROW = 1024
"""Room that one sample takes in the tables and the journal, generously."""

_BLOCK = 4096
"""Files take whole blocks on the disk."""


def output_of(folder: Path, argument: str = "--output-dir") -> Output:
    """The folder of a run, whatever it holds; `argument` is what named it, for messages."""
    before = frozenset((shard_journals.NAME, subset_table.NAME, subset_table.NAME + inside.PART))
    return Output(folder, manifests.NAME, argument, before=before)


class RunFolder(Resumable[Manifest]):
    """The folder of the run that a manifest describes: `opened`, then begun, it takes the outcomes of the samples.

    `part` is (number, how many), counted from 1, if this process does one part of the run alone: then others may be at
    work in the folder, too.
    """

    def __init__(
        self,
        root: Path,
        manifest: Manifest,
        overwrite: bool = False,
        overwritten_by: str = "",
        part: tuple[int, int] | None = None,
        argument: str = "--output-dir",
    ) -> None:
        super().__init__(output_of(root, argument), manifest, overwrite)
        self.overwritten_by = overwritten_by or self.overwritten_by
        self.part = part
        self.can_overwrite = part is None
        self.counts: Counter[type[Any]] | None = None
        """How many outcomes of each kind the run has, once it is finished."""
        self._environments: list[dict[str, Any]] = []
        self._former: Former | None = None
        """What is done of a run without journals of shards, until it is begun again."""
        self._is_begun = False
        self._had = True
        """Whether a shard was to be had since the last wait for one."""
        self._set_up(manifest)

    def _set_up(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.store = manifest.store(self.root)
        self.journals = ShardJournals(self.root, manifest.shards, fitting(manifest), self.store)
        self.journals.claims.is_alone = self.part is None

    @property
    def share(self) -> range:
        """The shards that this process is to do."""
        return self.manifest.shards.share(*(self.part or (1, 1)))

    def pending(self) -> NDArray[np.int64]:
        """The indices of the samples of the share that are not done, in order."""
        if self.counts is not None:
            return np.zeros(0, np.int64)
        if self._former is not None:
            return self._former.pending
        return self.journals.pending(None if self.part is None else self.share)

    def total(self) -> int:
        """How many samples there are in the share."""
        shards = self.manifest.shards
        return shards.count if self.part is None else sum(len(shards.samples(number)) for number in self.share)

    def need_room(self, others: int = 0) -> None:
        """Raise RequestError when the disk has no room for what is pending, and for so many bytes of others."""
        with self._writable():
            removed = self.removed and self.removed.store(self.root).bytes_there()
        needed = self.room(len(self.pending())) - (removed or 0) + others
        free = shutil.disk_usage(self.root).free
        if needed > free:
            raise RequestError(
                f"the disk of {shown(self.root)} has {free / 1e6:,.0f} MB free, and this run needs "
                f"{needed / 1e6:,.0f} MB: make room, give another {self.output.argument}{self._less()}"
            )

    def _less(self) -> str:
        """How gradients take less room, if there are any."""
        if not self.store.sizes:
            return ""
        halved = ", halve it with --gradient-dtype float16" if self.manifest.dtype != "float16" else ""
        return f"{halved}, or name fewer --layers"

    def room(self, samples: int, gradients: bool = True) -> int:
        """The bytes that so many samples take in tables and journal, generously, and if `gradients` as gradients."""
        row = _BYTES_PER_ROW + 10 * self.manifest.embedding_size * self.manifest.embeds
        return samples * (row + gradients * sum(size + _BLOCK for size in self.store.sizes.values()))

    # -- beginning -------------------------------------------------------------------------------------------

    def begin(self, environment: dict[str, Any]) -> bool:
        """Begin, or resume, in this environment: what computes, and where. Raises RequestError if that cannot be.

        Returns False if this one is to be planned anew: another part began at the same time, and computes in another
        way; or others have finished the run meanwhile.
        """
        there, planned = self.manifest.environments, self.manifest.computation
        if self._is_begun:
            self._environments.append(environment)
            return True
        self._environments = [environment]
        with self._writable():
            if self._former is not None or self.manifest.lists_samples:
                self._adopt()
                self.journals.make()
            elif self.removed is not None:  # the new manifest replaces the old one: foreign files may lie there, too
                self._begin(replace(self.manifest, environments=self._environments))
                subset_table.write(self.root, self.manifest.subset)
                self.journals.make()
            elif not self.output.is_used():
                self._begin_or_join()
            elif finished.is_finished(self.root):
                self.counts = counted(self.root, self.manifest)  # another part has finished it meanwhile
            else:
                self.journals.make()
                if (self.root / SUMS).exists():
                    shard_journals.remove_empty(self.root)  # another part has removed it a moment ago
                if finished.is_finished(self.root):
                    self.counts = counted(self.root, self.manifest)
        if there and manifests.environment_differences(there[-1], environment):
            log.warning(
                "this run began in another environment (%s); its numbers may differ from those in the last digits",
                ", ".join(manifests.environment_differences(there[-1], environment)),
            )
        self._is_begun = True
        return self.manifest.computation == planned

    def _begin_or_join(self) -> None:
        """Write the manifest of a new run, or take up the one that another part writes in the same moment."""
        beginning, manifest = Beginning(self.output, self.journals), self.manifest
        if beginning.is_ours():
            beginning.write(
                lambda: self._write(replace(manifest, environments=self._environments)),
                lambda: inside.remove(self.root, subset_table.NAME),
            )
        else:
            found = self._found()
            self.manifest = replace(manifest, computation=found.computation)
            self._meet(found)

    def _write(self, manifest: Manifest) -> None:
        """Write the manifest, the table of the subset before it."""
        subset_table.write(self.root, manifest.subset)
        self._begin(replace(manifest, format=manifests.FORMAT))

    def _adopt(self) -> None:
        """Write the journals of a run that was finished, or begun by an earlier version: it goes on with those."""
        if self._former is not None:
            self._former.write(self.journals, self.manifest.environments)
            self._former = None
        if self.manifest.lists_samples:
            self._write(self.manifest)
        inside.remove(self.root, journals.NAME)

    # -- working ---------------------------------------------------------------------------------------------

    def claimed(self) -> Iterator[int]:
        """The shards of the share that are to be had, each claimed when it is asked for, with what it lacks."""
        for number in self.share:
            if not self.journals.is_closed(number):
                shard = self._take(number)
                self._had = self._had or shard is not None
                if shard is not None and not self._completed(shard):
                    yield number

    def _take(self, number: int) -> Open | None:
        words = {} if self.part is None else {"part": "{}/{}".format(*self.part)}
        return self.journals.take(number, self._environments or self.manifest.environments, **words)

    def settle(self) -> None:
        """Close the shards of the share of which all is done: who did that was killed before it could.

        What is not done after all is pending then, and so is a shard whose holder may yet close it.
        """
        if self.counts is not None or self._former is not None or self.removed is not None:
            return
        for number in self.share:
            if self.journals.is_closed(number) or len(self.journals.pending([number])):
                continue
            shard = self._take(number)
            if shard is None:
                self.journals.doubt(number)
            elif not self._completed(shard):
                self.store.let_go(number)
                self.journals.release(number)

    def claim_all(self) -> None:
        """Claim every shard of a run that is not finished. Raises RequestError when another process is at one."""
        if self.counts is not None:
            return
        self._adopt()
        for _ in self.claimed():
            pass
        if any(not self.journals.is_held(number) and not self.journals.is_closed(number) for number in self.share):
            raise RequestError(f"another process is at work in {shown(self.root)}: wait until it ends")

    def wait(self) -> bool:
        """Wait for the shards of the share that others hold; whether one is to be had now, and not all are done."""
        said = False
        while True:
            self.journals.look_for_done()
            left = [number for number in self.share if not self.journals.is_closed(number)]
            if not left or finished.is_finished(self.root):
                return False
            if any(self.journals.is_free(number) for number in left):
                if not self._had:  # what looked free was not: a file system shows late who has it
                    rest(self.journals.claims.stale)
                self._had = False
                return True
            if not said:
                log.info("Waiting for %d shards: %s", len(left), self.journals.whose(work(left[0])))
                said = True
            rest(self.journals.claims.stale)

    def hold(self, index: int) -> None:
        """Make sure that this process still holds the shard of a sample. Raises StoppedError if it does not."""
        self.journals.hold(index)

    def is_pending(self, index: int) -> bool:
        """Whether a sample of a shard that is claimed is still to be done."""
        return not self.journals.is_done(index)

    def image_sha256(self, index: int) -> str:
        """The checksum of the image that a sample was scored by which was done before; "" if there is none."""
        known = self.journals.known(index)
        return "" if known is None else known.image_sha256

    def record(self, outcome: Outcome) -> None:
        """Count a sample as done, or as failed; what a failed sample left behind is removed."""
        if isinstance(outcome, Failed):
            self.store.remove(outcome.index)
        self._completed(self.journals.append(outcome))

    def _completed(self, shard: Open) -> bool:
        """Whether a shard is done; then it is closed."""
        if len(shard.lines) < len(self.manifest.shards.samples(shard.number)):
            return False
        self.journals.close_shard(shard, self.store.close_shard(shard.number, shard.checksums))
        return True

    # -- finishing -------------------------------------------------------------------------------------------

    def finish(self, reference: Reference | None = None) -> Counter[type[Any]] | None:
        """Write the tables if all shards are done; the run is finished when this returns the outcomes of each kind.

        None if others still have to do some, or write the tables. `reference` is that of the run, if its manifest
        names one.
        """
        if self.counts is None:
            self._adopt()
            self.counts = self._ending().reach(reference, self._state)
        return self.counts

    @property
    def is_reopened(self) -> bool:
        """Whether a shard that was done is not so after all."""
        return self.counts is None and (
            self.has_reopened_others or any(not self.journals.is_closed(number) for number in self.share)
        )

    @property
    def has_reopened_others(self) -> bool:
        """Whether this process, when all was said to be done, found that shards of other parts are not."""
        return not self.journals.reopened.issubset(self.share)

    def done(self) -> Counter[type[Any]]:
        """How many samples of the share have scores, and how many have none, as far as shards are done.

        Those of the whole run, if another process has finished it meanwhile.
        """
        found: Counter[type[Any]] = Counter()
        try:
            for number in filter(self.journals.is_closed, self.share):
                shard = self.journals.lines.done(number)
                found += Counter({Scored: shard.scored, Failed: shard.failed})
        except FileNotFoundError as error:
            found = self.counts = self._ending().by_another(error)
        except DamagedShardError as error:
            self._ending().reopen(error)
        return found

    def _ending(self) -> Ending:
        return Ending(self.root, self.manifest, self.store, self.journals, self.part is None)

    def _state(self, environments: list[dict[str, Any]]) -> Manifest:
        """State the environments in which the run was done; returns the manifest."""
        if environments != self.manifest.environments:
            self._begin(replace(self.manifest, environments=environments))
        return self.manifest

    def discard(self) -> None:
        """Remove the run."""
        self._remove(self.manifest)
        for name in (self.output.manifest, subset_table.NAME):
            inside.remove(self.root, name)

    # -- what a folder that is resumed says of itself ----------------------------------------------------------

    def kept(self) -> str:
        """How many samples are done, in words."""
        total, pending = self.total(), len(self.pending())
        return f"{total - pending} of {total} images are done and kept"

    @contextmanager
    def _held(self) -> Iterator[None]:
        if self.part is None:
            with super()._held():
                yield
        else:
            with self.output.shared():
                yield

    def _found(self) -> Manifest:
        return manifests.read(self.root, self.manifest.subset)

    def _differences(self, there: Manifest) -> list[str]:
        return there.differences(self.manifest)

    def _document(self) -> Iterable[bytes]:
        return (piece.encode() for piece in self.manifest.to_json())

    def _files(self, there: Manifest) -> list[str]:
        return [path for path in files_of(self.root, there) if path != subset_table.NAME]

    def _meet(self, there: Manifest) -> None:
        if self._overwrite:
            self._refuse_at_work(there)
        super()._meet(there)

    def _refuse_at_work(self, there: Manifest) -> None:
        """Raise RequestError when other processes are at work on the run that is to be overwritten, or may be."""
        journals_there = ShardJournals(self.root, there.shards, fitting(there))
        journals_there.claims.is_alone = True  # the lock is held
        if (who := journals_there.anybody()) is not None:
            raise RequestError(
                f"another process is at work in {shown(self.root)} ({who}): stop it first; if it, or its machine, is "
                f"gone, remove the folder {shown(self.root / shard_journals.NAME)} by hand"
            )

    def _resume(self, there: Manifest) -> None:
        self._set_up(there)
        self.journals.tidy()
        if (self.root / SUMS).exists():
            shard_journals.remove_empty(self.root)  # made by a part that saw too late that the run was finished
        if finished.is_finished(self.root):
            self._reopen()
        elif self.part is not None and there.lists_samples:
            raise RequestError(
                f"the run in {shown(self.root)} was begun by an earlier version of grafiqs, which knew no parts: the "
                "same command without --part resumes it"
            )
        else:
            self.store.need_folders()
            if files.exists(self.root / journals.NAME) and not shard_journals.is_there(self.root):
                self._former = of_journal(self.root, self.manifest, self.store)
            else:
                self.journals.look()

    def _reopen(self) -> None:
        """Look which samples of a finished run failed, or lack gradients, so that they can be done; not by parts.

        Raises RequestError when tables were changed since that cannot be written anew from others.
        """
        try:
            former, counts = of_finished(self.root, self.manifest, self.store)
        except (FileNotFoundError, ValueError) as error:
            raise RequestError(
                f"the finished run in {shown(self.root)} is damaged ({files.reason(error)}): look with 'grafiqs "
                f"verify', or start over with {self.overwritten_by}"
            ) from error
        if (len(former.pending) or former.damaged) and self.part is None:
            self._former = former
            for name in former.damaged:
                log.warning("warning: %s was changed or removed since the run finished, and is written anew", name)
        else:
            self._refuse_to_mend(former, counts)
            self.counts = counts

    def _refuse_to_mend(self, former: Former, counts: Counter[type[Any]]) -> None:
        """Say what a part leaves as it is in a finished run. Raises RequestError when that is gradients, or tables."""
        whole = "the same command without --part"
        if former.damaged or len(former.pending) > counts[Failed]:
            raise RequestError(f"the finished run in {shown(self.root)} lacks gradients or tables: {whole} makes them")
        if counts[Failed]:
            log.info("%s tries again what failed", whole.capitalize())

    def _close(self) -> None:
        for number in self.journals.held():
            self.store.let_go(number)
        self.journals.close()
