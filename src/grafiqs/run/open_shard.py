"""A shard of the shard store while it is at work: files of its holder's own, and what can be taken over from others."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from io import FileIO
from itertools import compress, product
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from grafiqs.disk import inside, npy
from grafiqs.run.shard_file import ShardFile, get, put
from grafiqs.workers import processors


class OpenShard:
    """The unfinished files of a shard, in which each sample has the place that it has in the shard.

    `forms` are what they become, a layer each. The shard was claimed `turn` times before. `known` are the checksums of
    samples that were done then, in the order of the layers: their rows are copied from whatever file has them, of
    earlier turns or finished, and then those of earlier turns are removed. Whoever has one of these open still does no
    harm. Raises OSError when the file system does not take the files.
    """

    def __init__(self, root: Path, forms: Sequence[ShardFile], turn: int, known: Mapping[int, list[str]]) -> None:
        self._root = root
        self._forms = forms
        self._turn = turn
        self.there: dict[int, list[str]] = {}
        """The checksums of the samples whose rows are in all of the files."""
        for form in forms:
            form.need_room()
        with ExitStack() as own, ExitStack() as others:
            before = [list(self._before(form, others)) for form in forms]
            self._files = [own.enter_context(inside.made(root, form.part(turn))) for form in forms]
            self._take_over(known, before)
            for form in forms:
                for earlier in range(turn):
                    inside.remove(root, form.part(earlier))
            own.pop_all()

    def write(self, index: int, gradients: Mapping[str, NDArray[Any]]) -> list[str]:
        """Write the gradients of one sample; may run on any thread. Returns the SHA-256 of each.

        Raises OSError when the disk is full.
        """
        self.there.pop(index, None)  # until all rows are written
        checksums: list[str] = []
        for form, file in zip(self._forms, self._files, strict=True):
            gradient = gradients[form.layer]
            if (gradient.shape, gradient.dtype.name) != (form.shape, form.dtype):
                raise ValueError(
                    f"{gradient.dtype} {gradient.shape} instead of {form.dtype} {form.shape} at {form.layer}"
                )
            row = npy.pieces(gradient)[1]
            checksums.append(hashlib.sha256(row).hexdigest())
            put(file, row, form.place(index - form.first))
        self.there[index] = checksums
        return checksums

    def finish(self, scored: Mapping[int, list[str]]) -> list[str]:
        """Finish the files, which hold the rows of these samples: each appears as a whole. Returns the SHA-256 of each.

        Raises OSError when the file system does not take them, and ValueError when other rows were written.
        """
        if any(self.there.get(index) != checksums for index, checksums in scored.items()):
            raise ValueError(f"shard {self._forms[0].number} lacks rows that it is to hold")
        for place, (form, file) in enumerate(zip(self._forms, self._files, strict=True)):
            _close_up(form, file, {index: scored[index][place] for index in sorted(scored)})
        with ThreadPoolExecutor(1) as disk, ThreadPoolExecutor(processors.usable()) as pool:
            on_disk = disk.submit(self._sync)  # meanwhile: a shard that is done is not looked at again
            checksums = list(pool.map(_sha256, self._files))
            on_disk.result()
        for form in self._forms:
            inside.rename(self._root, form.part(self._turn), os.path.basename(form.path))
        return checksums

    def close(self) -> None:
        """Close the files; what is in them stays on the disk."""
        for file in self._files:
            file.close()

    def _sync(self) -> None:
        """Wait until all is on the disk; only then a network's file system says that it is full."""
        for file in self._files:
            os.fsync(file.fileno())

    def _before(self, form: ShardFile, kept: ExitStack) -> Iterator[IO[bytes]]:
        """The files that may have rows, the newest first; one of this very turn was left by a run that was removed."""
        for path in (*(form.part(turn) for turn in range(self._turn, -1, -1)), form.path):
            try:
                yield kept.enter_context(inside.opened(self._root, path))
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP, errno.EINVAL):  # none, a link, not a plain file
                    raise

    def _take_over(self, known: Mapping[int, list[str]], before: Sequence[Sequence[IO[bytes]]]) -> None:
        """Copy the rows that files before have, and note whose are all there."""

        def is_taken(index: int, row_if_closed_up: int) -> bool:
            for form, own, files, checksum in zip(self._forms, self._files, before, known[index], strict=True):
                place = index - form.first
                for file, row in product(files, (place, row_if_closed_up)):
                    found = get(file, form, row)
                    if hashlib.sha256(found).hexdigest() == checksum:
                        put(own, found, form.place(place))
                        break
                else:
                    return False
            return True

        indices = sorted(known)
        with ThreadPoolExecutor(processors.usable()) as pool:
            taken = list(pool.map(is_taken, indices, range(len(indices))))
        self.there = {index: known[index] for index in compress(indices, taken)}


def _close_up(form: ShardFile, file: FileIO, checksums: Mapping[int, str]) -> None:
    """Let the rows of these samples follow each other, and write the header."""
    places = [index - form.first for index in checksums]
    for row, place in enumerate(places):
        if row != place:
            put(file, get(file, form, place), form.place(row))
    file.truncate(form.place(len(places)))
    put(file, form.header(dict(zip(places, checksums.values(), strict=True))), 0)


def _sha256(file: FileIO) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()
