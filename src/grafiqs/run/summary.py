"""What a command says of the run that it made."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from grafiqs.disk.names import shown
from grafiqs.run.finished import SCORES
from grafiqs.run.manifest import Manifest
from grafiqs.run.tables import FAILURES


@dataclass(frozen=True)
class Summary:
    """The result of a run: how many samples have scores, how many have none, and where it all lies."""

    output_dir: Path
    scored: int
    failed: int
    is_finished: bool = field(default=True, repr=False)
    """False if others still have to do their parts of the run: then these are the samples of this part."""
    lost: int = field(default=0, repr=False)
    """How many samples of a copy have no score, and had one in the run that was copied."""

    def said(self, manifest: Manifest) -> Iterator[tuple[int, str]]:
        """What is to be said of it, a line each, with its level in the log."""
        folder = self.output_dir
        if not self.is_finished:
            status = f"'grafiqs status {shown(folder)}'"
            yield logging.INFO, f"This part is done, and others have work left: {status} says which"
            if self.failed:
                yield logging.WARNING, f"{self.failed} images of this part have no score; {status} says why"
            return
        total = len(manifest.subset.samples)
        yield logging.INFO, f"{self.scored} of {total} images have scores: {shown(folder / SCORES)}"
        yield logging.INFO, manifest.better
        if self.failed:
            yield logging.WARNING, f"{self.failed} images have no score; {shown(folder / FAILURES.name)} says why"
