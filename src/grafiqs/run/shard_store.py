"""The gradients of a run as files of whole shards: <layer>/<shard>.safetensors, a row for each sample with scores.

While a shard is at work its files are called <layer>/<shard>.<turn>.part: every holder of its claim has his own.
"""

from __future__ import annotations

import errno
import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.datasets.dataset import Sample
from grafiqs.disk import inside
from grafiqs.disk.names import shown
from grafiqs.errors import UnreadableSampleError
from grafiqs.run.open_shard import OpenShard
from grafiqs.run.shard_file import ShardFile, get, path_of, shard_of
from grafiqs.shards import Shards

_KNOWN = 1024
"""The headers of as many files are kept in mind: some 35 kB each, and milliseconds to read."""

_MAPPED = 64
"""As many files are kept mapped at once."""


@dataclass(frozen=True)
class _Rows:
    """What the header of a file says: the row of each place in the shard, -1 if there is none, and each checksum."""

    of: array[int]
    digests: bytes

    def __len__(self) -> int:
        return len(self.digests) // 32

    def checksum(self, row: int) -> str:
        """The SHA-256 of a row."""
        return self.digests[32 * row : 32 * (row + 1)].hex()


class ShardStore:
    """The gradient files of some layers: the shape (C, H, W) of each layer's is in `shapes`, all are of one `dtype`.

    They are those of `samples`, cut into `shards`; a sample is named by its place there. `sizes` are those of one
    gradient of each layer, in bytes. What lies on the disk is read without trust.
    """

    def __init__(
        self,
        root: Path,
        shapes: Mapping[str, tuple[int, ...]],
        dtype: str,
        samples: Sequence[Sample],
        shards: Shards,
    ) -> None:
        self.root = root
        self.samples = samples
        self.shards = shards
        self.shapes = dict(shapes)
        self.dtype = dtype
        self.sizes = {layer: ShardFile(layer, 0, 0, (), shape, dtype).row_size for layer, shape in self.shapes.items()}
        self._open: dict[int, OpenShard] = {}
        self._rows = lru_cache(_KNOWN)(self._read_rows)
        self._mapped = lru_cache(_MAPPED)(self._map)

    def __reduce__(self) -> tuple[Any, ...]:  # what is open and mapped stays with its process
        return type(self), (self.root, self.shapes, self.dtype, self.samples, self.shards)

    # -- names -------------------------------------------------------------------------------------------------

    def path(self, layer: str, index: int) -> str:
        """The file that holds a gradient: a POSIX path relative to the run folder."""
        return path_of(layer, self.shards.of(index))

    def paths(self, indices: Iterable[int]) -> list[str]:
        """The files that hold the gradients of these samples, each once."""
        numbers = dict.fromkeys(map(self.shards.of, indices))
        return [path_of(layer, number) for number in numbers for layer in self.shapes]

    def files(self) -> list[str]:
        """The files of the store that are there, finished or not. Raises OSError for a link on the way."""
        return [path for path, _ in self._listed()]

    def bytes_there(self) -> int:
        """How many bytes the gradients take, as far as they are there."""
        return sum(inside.size(self.root, path) or 0 for path in self.files())

    def need_folders(self) -> None:
        """Raise OSError if something else stands in the place of a layer's folder."""
        for layer in self.shapes:
            place = self.root / layer
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                raise OSError(errno.ENOTDIR, f"{layer} is a link, which is not followed there, or not a folder", layer)

    # -- writing -----------------------------------------------------------------------------------------------

    def seen(self, known: Iterable[int]) -> set[int]:
        """All of these samples: what there is of them is found when their shard is claimed."""
        return set(known)

    def begin_shard(self, number: int, turn: int, known: Mapping[int, list[str]]) -> set[int]:
        """Open the files of a shard that was claimed `turn` times before; returns the samples that they hold.

        `known` are the checksums of those that were done before, in the order of the layers: whose rows are found,
        and have their checksums, is there again. Raises OSError when the file system does not take the files.
        """
        self.let_go(number)
        shard = OpenShard(self.root, [self._file(layer, number) for layer in self.shapes], turn, known)
        self._open[number] = shard
        return set(shard.there)

    def write(self, index: int, gradients: Mapping[str, NDArray[Any]]) -> list[str]:
        """Write the gradients of one sample of a shard that was begun; may run on any thread.

        Returns the SHA-256 of their bytes, in the order of the layers. Raises OSError when the disk is full.
        """
        return self._open[self.shards.of(index)].write(index, gradients)

    def remove(self, index: int) -> None:
        """Forget a sample that failed: its place is closed up when its shard is closed."""
        shard = self._open.get(self.shards.of(index))
        if shard is not None:
            shard.there.pop(index, None)

    def close_shard(self, number: int, scored: Mapping[int, list[str]]) -> list[tuple[str, str]]:
        """Finish the files of a shard, which are to hold these samples, with their checksums: each appears as a whole.

        The shard is let go, whether that succeeds or not.

        Returns (SHA-256, path) of each file. Raises OSError when the file system does not take them, and ValueError
        when other rows were written.
        """
        try:
            checksums = self._open[number].finish(scored)
        finally:
            self.let_go(number)
        self._rows.cache_clear()
        self._mapped.cache_clear()
        return [(checksum, path_of(layer, number)) for checksum, layer in zip(checksums, self.shapes, strict=True)]

    def let_go(self, number: int) -> None:
        """Close the files of a shard; what is in them stays on the disk."""
        if (shard := self._open.pop(number, None)) is not None:
            shard.close()

    def tidy(self) -> None:
        """Remove unfinished files, once all shards are done: a holder that was taken for dead may have left some."""
        for path, is_finished in self._listed():
            if not is_finished:
                inside.remove(self.root, path)

    # -- reading -----------------------------------------------------------------------------------------------

    def is_whole(self, index: int) -> bool:
        """Whether all gradients of a sample of a shard that is done are there, as headers and sizes of files say."""
        try:
            return all(self._row(layer, index) >= 0 for layer in self.shapes)
        except UnreadableSampleError:
            return False

    def whole(self, indices: Iterable[int]) -> set[int]:
        """The same of several samples."""
        return set(filter(self.is_whole, indices))

    def checksums(self, index: int) -> list[str]:
        """The SHA-256 of each gradient of a sample, as the files of its shard state them, in the order of the layers.

        Raises UnreadableSampleError when a file is gone, or damaged, or has no row of the sample.
        """
        return [self._checksum(layer, index) for layer in self.shapes]

    def gradient(self, layer: str, index: int) -> NDArray[Any]:
        """The gradient of a sample (C, H, W), memory-mapped and read-only.

        Raises UnreadableSampleError when its file is gone, or damaged, or has no row of the sample.
        """
        row = self._row(layer, index)
        gradient: NDArray[Any] = self._mapped(layer, self.shards.of(index))[row]
        return gradient

    def verified(self, layer: str, index: int, sha256: str) -> NDArray[Any]:
        """The gradient of a sample, in memory. Raises UnreadableSampleError when its bytes are not those of the run."""
        form, row = self._file(layer, self.shards.of(index)), self._row(layer, index)
        with self._reading(form) as file:
            data = get(file, form, row)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise UnreadableSampleError(
                f"{shown(form.path)}: the gradient of {shown(self.samples[index].location)} does not have its "
                "checksum: its bytes were changed"
            )
        return np.frombuffer(data, form.numbers).reshape(form.shape)

    def place(self, layer: str, index: int) -> str:
        """The file of a gradient, and whose it is."""
        return f"{shown(self.path(layer, index))}: the gradient of {shown(self.samples[index].location)}"

    def checksums_by(self, _sums: IO[bytes]) -> Callable[[int], list[str]]:
        """The checksums of the gradients of a sample stand in the files themselves: "" if one is gone, or damaged."""
        return lambda index: [self._checksum_if_there(layer, index) for layer in self.shapes]

    def sums_of(self, _index: int, _checksums: list[str]) -> list[tuple[str, str]]:
        """No file holds one sample alone."""
        return []

    def whole_files(self) -> list[str]:
        """The finished files, shard by shard."""
        return [path_of(layer, number) for number in range(len(self.shards)) for layer in self.shapes]

    # -- inside ------------------------------------------------------------------------------------------------

    def _file(self, layer: str, number: int) -> ShardFile:
        every = self.shards.samples(number)
        samples = self.samples[every.start : every.stop]
        return ShardFile(layer, number, every.start, samples, self.shapes[layer], self.dtype)

    @contextmanager
    def _reading(self, form: ShardFile) -> Iterator[IO[bytes]]:
        """A finished file, open. What makes it unreadable is raised as UnreadableSampleError."""
        try:
            with inside.opened(self.root, form.path) as file:
                yield file
        except OSError as error:
            raise UnreadableSampleError(f"{shown(form.path)}: {error.strerror}") from error
        except ValueError as error:
            raise UnreadableSampleError(f"{shown(form.path)}: {error}") from error

    def _checksum(self, layer: str, index: int) -> str:
        return self._rows(layer, self.shards.of(index)).checksum(self._row(layer, index))

    def _checksum_if_there(self, layer: str, index: int) -> str:
        try:
            return self._checksum(layer, index)
        except UnreadableSampleError:
            return ""

    def _row(self, layer: str, index: int) -> int:
        """The row of a sample in the file of its shard."""
        number = self.shards.of(index)
        row = self._rows(layer, number).of[index - self.shards.samples(number).start]
        if row < 0:
            location = shown(self.samples[index].location)
            raise UnreadableSampleError(f"{shown(path_of(layer, number))}: it has no gradient of {location}")
        return row

    def _read_rows(self, layer: str, number: int) -> _Rows:
        form = self._file(layer, number)
        with self._reading(form) as file:
            found = form.read_rows(file)
        of = array("i", [-1]) * len(form.samples)
        for row, place in enumerate(found):
            of[place] = row
        return _Rows(of, b"".join(map(bytes.fromhex, found.values())))

    def _map(self, layer: str, number: int) -> NDArray[Any]:
        """All gradients of a file that has some (n, C, H, W)."""
        form, rows = self._file(layer, number), self._rows(layer, number)
        with self._reading(form) as file:
            return np.memmap(file, form.numbers, "r", form.start, (len(rows), *form.shape))

    def _listed(self) -> Iterator[tuple[str, bool]]:
        """The files of the store, and whether each is finished."""
        for layer in self.shapes:
            for name in inside.listed(self.root, layer):
                found = shard_of(name)
                if found is not None and found[0] < len(self.shards):
                    yield f"{layer}/{name}", found[1]
