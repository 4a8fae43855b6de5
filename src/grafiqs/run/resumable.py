"""A folder that one command fills: begun, stopped, resumed or overwritten, and never mixed with anything else."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, Self, TypeVar

from grafiqs.disk import inside
from grafiqs.disk.names import shown
from grafiqs.disk.output import Output
from grafiqs.errors import RequestError, StoppedError

Stated = TypeVar("Stated")
"""What the manifest of a folder states: what a command is to make of it."""


class Resumable(Generic[Stated]):
    """The folder `output`, to be made what `manifest` says; what it holds of that already is kept.

    With `overwrite`, what it holds is removed instead, once the work begins.
    """

    can_overwrite = True
    """Whether there is such an option."""
    overwritten_by = "--overwrite"
    """What removes what the folder holds, in messages."""

    def __init__(self, output: Output, manifest: Stated, overwrite: bool = False) -> None:
        self.output = output
        self.root = output.root
        self.manifest = manifest
        self.removed: Stated | None = None
        """What is there, and goes when the work begins."""
        self._overwrite = overwrite

    # -- what each kind of folder says of itself ------------------------------------------------------------

    @abstractmethod
    def _found(self) -> Stated:
        """What the folder holds. Raises RequestError when its manifest cannot be trusted."""

    @abstractmethod
    def _differences(self, there: Stated) -> list[str]:
        """What differs between that and the manifest, a line each."""

    @abstractmethod
    def _document(self) -> Iterable[bytes]:
        """The manifest as a file, in pieces."""

    @abstractmethod
    def _files(self, there: Stated) -> list[str]:
        """The files of what the folder holds, but for the manifest, in the order in which they are to be removed."""

    @abstractmethod
    def _resume(self, there: Stated) -> None:
        """Look at what is done already. Nothing is written but what `_close` takes back."""

    def _close(self) -> None:
        """Let go of what is held open."""

    @abstractmethod
    def kept(self) -> str:
        """How much is done and kept, in words."""

    # -- what is the same for all ---------------------------------------------------------------------------

    @contextmanager
    def opened(self) -> Iterator[Self]:
        """Hold the folder; nothing is written to it until the work begins.

        Raises RequestError when it holds other work or anything else, when another process is at work in it, or it may
        not be written to.
        """
        self.output.refuse_foreign()
        with self._held():
            try:
                with self._writable():
                    self.output.refuse_foreign()  # again: now nobody else can fill it
                    if self.output.is_used():
                        inside.opened(self.root, self.output.manifest).close()  # a plain file, not a link
                        self._meet(self._found())
                yield self
            finally:
                self._close()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Hold the folder against other processes; what one of them left of a manifest is removed."""
        with self.output.locked():
            with self._writable():
                inside.remove(self.root, self.output.manifest + inside.PART)
            yield

    @contextmanager
    def _writable(self) -> Iterator[None]:
        """Before anything is done, what the system does not allow is a fault of the request."""
        try:
            yield
        except OSError as error:
            raise self.output.unwritable(error) from error

    def _meet(self, there: Stated) -> None:
        if self._overwrite:
            self.removed = there
            return
        differences = self._differences(there)
        if differences:
            work, argument = self.output.work, self.output.argument
            removing = f", or remove that {work} with {self.overwritten_by}" * self.can_overwrite
            raise RequestError(
                f"{shown(self.root)} holds another {work}, and nothing is mixed. What differs:\n"
                + "".join(f"  - {line}\n" for line in differences)
                + f"Give another {argument}{removing}."
            )
        self._resume(there)

    def _begin(self, manifest: Stated) -> None:
        """Write the manifest; what is to be overwritten is removed before, and its manifest last."""
        self.manifest = manifest
        with self._writable():
            if self.removed is not None:
                self._remove(self.removed)
                self.removed = None
            with inside.whole(self.root, self.output.manifest) as file:
                file.writelines(self._document())

    def need_removable(self, there: Stated) -> None:
        """Raise OSError when something that the folder holds cannot be removed."""
        for path in (self.output.manifest, *self._files(there)):
            inside.need_removable(self.root, path)

    def _remove(self, there: Stated) -> None:
        """Remove what the folder holds, but for the manifest."""
        self.need_removable(there)  # first of all: what is refused is left as it is
        paths = self._files(there)
        for path in paths:
            inside.remove(self.root, path)
        inside.remove_folders(self.root, paths)

    @contextmanager
    def working(self) -> Iterator[None]:
        """If the work inside the block is stopped, say what is kept, and how to resume. Raises StoppedError."""
        try:
            yield
        except BrokenPipeError:  # of the progress bar, not of the folder
            raise
        except OSError as error:
            raise StoppedError(
                f"cannot write to {shown(self.root)}: {error.strerror or error}. {self.kept()}: fix that, and the "
                "same command resumes"
            ) from error
        except KeyboardInterrupt as stop:
            stop.args = (f"stopped. {self.kept()}: the same command resumes",)
            raise
