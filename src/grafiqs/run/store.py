"""Where the gradients of a run lie: what every store can do, whatever its files are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from numpy.typing import NDArray


class Store(Protocol):
    """The gradients of a run: one (C, H, W) array of `dtype` a sample and layer, whose shapes are in `shapes`.

    Samples are named by their places in the run, shards by their numbers. `sizes` are the bytes that a gradient of
    each layer takes.
    """

    root: Path
    shapes: dict[str, tuple[int, ...]]
    dtype: str
    sizes: dict[str, int]

    def seen(self, known: Iterable[int]) -> set[int]:
        """Those of these samples, of shards that are not done, that are there, as far as a look tells.

        Raises OSError for a link on the way.
        """

    def begin_shard(self, number: int, turn: int, known: Mapping[int, list[str]]) -> set[int]:
        """A shard was claimed, for the `turn`-th time: take over what is there of it.

        `known` are the SHA-256 of what earlier holders say they wrote. Returns those samples of which it is there.
        """

    def write(self, index: int, gradients: Mapping[str, NDArray[Any]]) -> list[str]:
        """Write the gradients of one sample; may run on any thread.

        Returns the SHA-256 of each, in the order of the layers. Raises OSError when the file system does not take them.
        """

    def remove(self, index: int) -> None:
        """The sample has no gradients after all: what may be there of them goes."""

    def close_shard(self, number: int, scored: Mapping[int, list[str]]) -> list[tuple[str, str]]:
        """All of a shard is written; `scored` are the SHA-256 of its gradients, sample by sample.

        Returns the SHA-256 and the path of each file that holds several samples.
        """

    def let_go(self, number: int) -> None:
        """A shard is given back unfinished: what is written of it stays."""

    def tidy(self) -> None:
        """All shards are done: what others may have left unfinished goes."""

    def need_folders(self) -> None:
        """Raise OSError if something else stands in the place of a layer's folder."""

    def is_whole(self, index: int) -> bool:
        """Whether all gradients of a sample of a shard that is done are there, as far as sizes tell.

        Raises OSError for a link on the way.
        """

    def whole(self, indices: Iterable[int]) -> set[int]:
        """Those of these samples, of shards that are done, of which all gradients are there; as `is_whole` tells."""

    def gradient(self, layer: str, index: int) -> NDArray[Any]:
        """The gradient of a sample (C, H, W), memory-mapped and read-only.

        Raises UnreadableSampleError when its file is gone, or holds anything else.
        """

    def path(self, layer: str, index: int) -> str:
        """The file that holds a gradient: a POSIX path relative to the run folder."""

    def verified(self, layer: str, index: int, sha256: str) -> NDArray[Any]:
        """The gradient of a sample, in memory. Raises UnreadableSampleError when its bytes are not those of the run."""

    def place(self, layer: str, index: int) -> str:
        """Where a gradient lies, in words."""

    def checksums_by(self, sums: IO[bytes]) -> Callable[[int], list[str]]:
        """What tells the SHA-256 of the gradients of scored samples, asked in their order, beside their SHA256SUMS.

        It is "" of a gradient whose file states it, and is gone or damaged.
        """

    def sums_of(self, index: int, checksums: list[str]) -> list[tuple[str, str]]:
        """The (SHA-256, path) of the files that hold this sample alone."""

    def whole_files(self) -> list[str]:
        """The files that hold several samples each."""

    def files(self) -> list[str]:
        """All files that there may be, finished or not: POSIX paths relative to the run folder."""

    def bytes_there(self) -> int:
        """How many bytes the gradients take, as far as they are there."""
