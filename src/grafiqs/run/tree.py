"""The gradients of a run as files: <layer>/<identity>/<sample>_grad.npy, beside each other in the run folder."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from grafiqs.datasets.dataset import Sample
from grafiqs.disk import files, inside, npy
from grafiqs.disk.names import GRADIENT, shown
from grafiqs.errors import UnreadableSampleError
from grafiqs.run import sums


class GradientTree:
    """The gradient files of some layers: the shape (C, H, W) of each layer's is in `shapes`, all are of one `dtype`.

    They are those of `samples`, which are named by their places there. `sizes` are those of a file of each layer, in
    bytes.
    """

    def __init__(
        self, root: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str, samples: Sequence[Sample]
    ) -> None:
        self.root = root
        self.samples = samples
        self.shapes = dict(shapes)
        self.dtype = dtype
        self.sizes = {layer: npy.size(shape, dtype) for layer, shape in self.shapes.items()}

    def path(self, layer: str, index: int) -> str:
        """Where a gradient lies: a POSIX path relative to the run folder."""
        sample = self.samples[index]
        return "/".join(filter(None, (layer, sample.identity, sample.name + GRADIENT)))

    def paths(self, indices: Iterable[int]) -> list[str]:
        """The paths of all gradients of these samples."""
        return [self.path(layer, index) for index in indices for layer in self.shapes]

    def seen(self, known: Iterable[int]) -> set[int]:
        """Those of these samples whose files are there, in their full size. Raises OSError for a link on the way."""
        return self.whole(known)

    def begin_shard(self, _number: int, _turn: int, known: Mapping[int, list[str]]) -> set[int]:
        """Those of the `known` samples whose files are there."""
        return self.whole(known)

    def write(self, index: int, gradients: Mapping[str, NDArray[Any]]) -> list[str]:
        """Write the gradients of one sample, each file whole or not at all; may run on any thread.

        Returns their SHA-256, in the order of the layers. Raises OSError when the file system does not take them.
        """
        checksums: list[str] = []
        for layer, gradient in gradients.items():
            checksum = hashlib.sha256()
            with inside.whole(self.root, self.path(layer, index)) as file:
                for piece in npy.pieces(gradient):
                    checksum.update(piece)
                    file.write(piece)
            checksums.append(checksum.hexdigest())
        return checksums

    def close_shard(self, _number: int, _scored: Mapping[int, list[str]]) -> list[tuple[str, str]]:
        """Nothing: every file is there already, and holds one sample."""
        return []

    def let_go(self, _number: int) -> None:
        """Nothing: what is written stays."""

    def tidy(self) -> None:
        """Nothing: every file is there, or is written anew."""

    def link(self, index: int, there: Path) -> None:
        """Take the gradients of a sample from the run folder `there`: as hard links, or copies if there are none."""
        for path in self.paths([index]):
            inside.link(there, self.root, path)

    def need_folders(self) -> None:
        """Raise OSError if something else stands in the place of a layer's folder."""
        for layer in self.shapes:
            place = self.root / layer
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                raise OSError(errno.ENOTDIR, f"{layer} is a link, which is not followed there, or not a folder", layer)

    def is_whole(self, index: int) -> bool:
        """Whether all gradients of a sample are there, in their full size. Raises OSError for a link on the way."""
        return bool(self.whole((index,)))

    def whole(self, indices: Iterable[int]) -> set[int]:
        """The same of several samples; each folder is looked for once if they are in their order."""
        found = set(indices)
        for layer, size in self.sizes.items():
            places = ((index, *self.path(layer, index).rpartition("/")) for index in sorted(found))
            for folder, group in groupby(places, lambda place: place[1]):
                own, _, _, names = zip(*group, strict=True)
                there = zip(own, inside.sizes(self.root, folder, names), strict=True)
                found.difference_update([index for index, each in there if each != size])
        return found

    def bytes_there(self) -> int:
        """How many bytes the gradients take, as far as they are there."""
        return sum(inside.size(self.root, path) or 0 for path in self.paths(range(len(self.samples))))

    def remove(self, index: int) -> None:
        """Remove the gradients of a sample, finished or not."""
        for path in self.paths([index]):
            inside.remove(self.root, path)

    def place(self, layer: str, index: int) -> str:
        """The path of a gradient."""
        return shown(self.path(layer, index))

    def checksums_by(self, sums_file: IO[bytes]) -> Callable[[int], list[str]]:
        """The checksums of a sample stand in SHA256SUMS, in the order of the samples."""
        return lambda index: [sums.next_of(sums_file, path) for path in self.paths([index])]

    def sums_of(self, index: int, checksums: list[str]) -> list[tuple[str, str]]:
        """The (SHA-256, path) of the files of a sample."""
        return list(zip(checksums, self.paths([index]), strict=True))

    def whole_files(self) -> list[str]:
        """No file holds several samples."""
        return []

    def files(self) -> list[str]:
        """The paths of all gradients."""
        return self.paths(range(len(self.samples)))

    def gradient(self, layer: str, index: int) -> NDArray[Any]:
        """The gradient of a sample (C, H, W), memory-mapped and read-only.

        Raises UnreadableSampleError when its file is gone, or holds anything else.
        """
        path = self.root / self.path(layer, index)
        try:
            return npy.mapped(path, self.shapes[layer], self.dtype)
        except UnreadableSampleError as error:
            raise UnreadableSampleError(f"{shown(path)}: {error}") from error

    def verified(self, layer: str, index: int, sha256: str) -> NDArray[Any]:
        """The gradient of a sample, in memory. Raises UnreadableSampleError when its bytes are not those of the run."""
        path, size = self.path(layer, index), self.sizes[layer]
        try:
            with files.opened(self.root / path) as file:
                found = os.fstat(file.fileno()).st_size
                data = file.read() if found == size else b""
        except OSError as error:
            raise UnreadableSampleError(f"{shown(path)}: {error.strerror}") from error
        if found != size:
            raise UnreadableSampleError(f"{shown(path)} has {found} bytes instead of {size}")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise UnreadableSampleError(f"{shown(path)} does not have its checksum: its bytes were changed")
        gradient = npy.decoded_as(data, self.shapes[layer], self.dtype)
        if gradient is None:
            raise UnreadableSampleError(f"{shown(path)} is not a .npy file of {self.dtype} {self.shapes[layer]}")
        return gradient
