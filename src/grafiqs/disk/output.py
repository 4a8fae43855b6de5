"""A folder that one command at a time fills, and that nothing else lies in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import filelock

from grafiqs.disk import inside
from grafiqs.disk.inside import PART
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError

LOCK = ".lock"
"""An empty file: what holds it open and locked is the command at work."""


@dataclass(frozen=True)
class Output:
    """The folder that a command writes to. A file named `manifest` makes it the command's.

    `argument` is what named the folder, and `work` what the command does in it, both for messages.
    """

    root: Path
    manifest: str
    argument: str = "--output-dir"
    work: str = "run"
    leaves_lock: bool = True
    """Whether the empty LOCK stays behind."""
    before: frozenset[str] = frozenset()
    """What else the command may have put there before the manifest."""

    def refuse_inside(self, dataset: Path) -> None:
        """Raise RequestError when the folder lies inside the data set."""
        root, place = (Path(os.path.realpath(path)) for path in (self.root, dataset))
        if root.is_relative_to(place):
            raise RequestError(
                f"the output folder {shown(self.root)} lies inside the data set {shown(dataset)}, "
                f"where its files would be taken for samples: give an {self.argument} outside it"
            )

    def is_used(self) -> bool:
        """Whether the folder is the command's already. Raises RequestError when that cannot be seen."""
        try:
            return self.manifest in os.listdir(self.root)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self.unwritable(error) from error

    def refuse_foreign(self) -> None:
        """Raise RequestError when the folder exists, is not empty, and is not the command's."""
        if self.is_used():
            return
        with suppress(FileNotFoundError):
            if set(os.listdir(self.root)) - {LOCK, self.manifest + PART} - self.before:
                raise RequestError(
                    f"{shown(self.root)} is not empty and holds no {self.work}: give another {self.argument} "
                    "(nothing there was touched)"
                )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against other processes; one that was made for nothing is removed again.

        Raises RequestError when another process holds it, or it cannot be written to.
        """
        lock = filelock.FileLock(self.root / LOCK, timeout=0)
        missing: list[Path] = []
        try:
            try:
                missing += [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
                self.root.mkdir(parents=True, exist_ok=True)
                if LOCK in os.listdir(self.root):
                    inside.opened(self.root, LOCK, append=True).close()  # a plain file, with no name elsewhere
                lock.acquire()
            except filelock.Timeout as error:
                raise RequestError(
                    f"another {self.work} is at work in {shown(self.root)}: wait until it ends, or give another "
                    f"{self.argument}"
                ) from error
            except OSError as error:
                raise self.unwritable(error) from error
            yield
        finally:
            if lock.is_locked and not (self.leaves_lock and (self.root / self.manifest).exists()):
                with suppress(OSError):
                    (self.root / LOCK).unlink()
            lock.release()
            for folder in missing:
                with suppress(OSError):
                    folder.rmdir()  # fails, as it should, if anything was written

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Use the folder with other processes beside, which agree with this one on who does what.

        One that was made for nothing is removed again. Raises RequestError when it cannot be written to.
        """
        missing: list[Path] = []
        try:
            try:
                missing += [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
                self.root.mkdir(parents=True, exist_ok=True)
                inside.opened(self.root, LOCK, append=True).close()
            except OSError as error:
                raise self.unwritable(error) from error
            yield
        finally:
            if missing and set(os.listdir(self.root)) <= {LOCK}:
                with suppress(OSError):
                    (self.root / LOCK).unlink()
            for folder in missing:
                with suppress(OSError):
                    folder.rmdir()  # fails, as it should, if anything was written

    def unwritable(self, error: OSError) -> RequestError:
        """What to say when nothing can be written to the folder."""
        return RequestError(
            f"cannot write to {shown(self.root)}: {error.strerror or error}: give another {self.argument}"
        )
