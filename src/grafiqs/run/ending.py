"""How a run ends that several processes do: whoever finds all shards done writes the tables, once."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grafiqs.calibration.reference import Reference
from grafiqs.disk.names import shown
from grafiqs.run import finished, shard_journals, subset_table
from grafiqs.run.claims import LATE, rest
from grafiqs.run.manifest import Manifest
from grafiqs.run.shard_journals import ShardJournals
from grafiqs.run.shard_lines import DamagedShardError
from grafiqs.run.shard_work import work
from grafiqs.run.store import Store

log = logging.getLogger(__name__)

TABLES = "tables"
"""What is claimed by who writes them."""


@dataclass(frozen=True)
class Ending:
    """The end of the run that `manifest` describes; nobody else is at work in its folder if `is_alone`."""

    root: Path
    manifest: Manifest
    store: Store
    journals: ShardJournals
    is_alone: bool

    def reach(
        self, reference: Reference | None, state: Callable[[list[dict[str, Any]]], Manifest]
    ) -> Counter[type[Any]] | None:
        """Write the tables if all shards are done; returns the outcomes of each kind once the run is finished.

        None if others still have to do some, or are seen to write the tables, or a shard is not done after all: it is
        given back.
        `state` takes the environments in which shards were done, and returns the manifest that states them.
        """
        claims, shards, said = self.journals.claims, range(len(self.manifest.shards)), False
        while not finished.is_finished(self.root):
            self.journals.look_for_done()
            is_all = all(map(self.journals.is_closed, shards))
            claim = claims.take(TABLES) if is_all else None
            if claim is not None:
                try:
                    if self._is_whole():
                        return self._write(reference, state(self.journals.environments()))
                except FileNotFoundError as error:  # a file system let this process claim what was gone
                    return self.by_another(error)
                except DamagedShardError as error:
                    self.reopen(error)
                claims.release(claim)
                return None
            if finished.is_finished(self.root):
                break
            if is_all and (self.is_alone or not claims.is_at_work(TABLES)):  # or nobody might write them
                if not said:
                    log.info("Waiting for the tables: %s", self.journals.whose(TABLES))
                    said = True
                rest(claims.stale)
            else:
                return None
        return counted(self.root, self.manifest)

    def reopen(self, error: DamagedShardError) -> None:
        """A shard cannot be done as it is said to be: it is to be done again."""
        log.warning("warning: %s/%s is damaged: its shard is done again", shard_journals.NAME, work(error.number))
        self.journals.reopen(error.number)

    def _is_whole(self) -> bool:
        """Whether all that others did is there, in its full size; shards of which some is gone are given back.

        They may have been killed with their machine, before what they wrote was on the disk.
        """
        lacking = list(self.journals.lacking())
        for number, index in lacking:
            location = shown(self.manifest.subset.samples[index].location)
            log.warning(
                "warning: gradients of %s are gone or cut short: done again, as all such of shard %d", location, number
            )
            self.journals.reopen(number)
        return not lacking

    def by_another(self, error: FileNotFoundError) -> Counter[type[Any]]:
        """The outcomes of each kind if another process has finished the run meanwhile; raises the error otherwise."""
        ends = time.monotonic() + LATE
        while not finished.is_finished(self.root):  # a file system may remember that it was not
            if time.monotonic() > ends:
                raise error
            rest(self.journals.claims.stale)
        self.journals.close()
        self.journals.tidy()
        return counted(self.root, self.manifest)

    def _write(self, reference: Reference | None, manifest: Manifest) -> Counter[type[Any]]:
        self.store.tidy()
        if not subset_table.is_written(self.root, manifest.subset):  # it was not read if it is known
            log.warning("warning: %s was damaged or gone, and is written anew", subset_table.NAME)
            subset_table.write(self.root, manifest.subset)
        whole = self.journals.whole_files()
        counts = finished.write(self.root, manifest, self.journals.outcomes(), reference, whole_files=whole)
        self.journals.remove()
        return counts


def counted(root: Path, manifest: Manifest) -> Counter[type[Any]]:
    """The outcomes of each kind of a finished run."""
    return Counter(type(outcome) for outcome in finished.read(root, manifest, "none"))
