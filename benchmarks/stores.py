"""Gradients on the disk: the shard store against the tree of files, and against one large sequential write.

All layers of IResNet-50 in float32, 1.66 MB a sample, one shard. All is in the page cache when it is read. The store
brings a shard to the disk before it says that it is done, the tree leaves that to the system.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from grafiqs.datasets.dataset import Sample
from grafiqs.images.reading import THREADS
from grafiqs.run.shard_store import ShardStore
from grafiqs.run.tree import GradientTree
from grafiqs.shards import Shards

SHAPES = {
    "image": (3, 112, 112),
    "block1": (64, 56, 56),
    "block2": (128, 28, 28),
    "block3": (256, 14, 14),
    "block4": (512, 7, 7),
}

Store = GradientTree | ShardStore


class Rows(Dataset[torch.Tensor]):
    """The gradients of one layer, as tensors of their own."""

    def __init__(self, store: Store, layer: str) -> None:
        self.store, self.layer = store, layer

    def __len__(self) -> int:
        return len(self.store.samples)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(np.array(self.store.gradient(self.layer, index)))


def figures(folder: Path, count: int = 512, rounds: int = 5) -> Iterator[tuple[str, float, str]]:
    """What, value and unit: medians of all rounds, every way once in each."""
    samples = [Sample(f"{number // 8}", f"{number}", "") for number in range(count)]
    draw = np.random.default_rng(0)
    drawn = [
        {layer: draw.standard_normal(shape, np.float32) for layer, shape in SHAPES.items()}
        for _ in range(min(count, 64))
    ]
    size = count * sum(gradient.nbytes for gradient in drawn[0].values())
    root = folder / "store"
    shards = ShardStore(root, SHAPES, "float32", samples, Shards(count, count))
    tree = GradientTree(root, SHAPES, "float32", samples)

    def written(store: Store) -> list[list[str]]:
        with ThreadPoolExecutor(THREADS) as writers:
            return list(writers.map(lambda index: store.write(index, drawn[index % len(drawn)]), range(count)))

    def in_shards() -> None:
        shards.begin_shard(0, 0, {})
        shards.close_shard(0, dict(enumerate(written(shards))))

    def left_to_the_system() -> None:
        with patch("os.fsync"):
            in_shards()

    def in_sequence(sync: bool) -> None:
        block = draw.bytes(2**20)
        with open(root / "sequence", "wb", buffering=0) as file:
            for _ in range(size // len(block)):
                file.write(block)
            if sync:
                os.fsync(file.fileno())

    def hashed() -> None:
        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(lambda index: [*map(_sha256, drawn[index % len(drawn)].values())], range(count)))

    ways: dict[str, Callable[[], Any]] = {
        "write: shard store, on the disk": in_shards,
        "write: tree of files, left to the system": lambda: written(tree),
        "write: shard store, left to the system": left_to_the_system,
        "write: one sequential write, on the disk": lambda: in_sequence(sync=True),
        "write: one sequential write, left to the system": lambda: in_sequence(sync=False),
        "SHA-256 alone, once (the store needs two: of each row, and of each file)": hashed,
    }

    def emptied() -> None:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        os.sync()  # what others wrote before does not count

    seconds = _seconds(ways, rounds, emptied)
    for what, each in seconds.items():
        yield what, size / 1e9 / statistics.median(each), "GB/s"
    own, sequence = (seconds[f"write: {what}, on the disk"] for what in ("shard store", "one sequential write"))
    shares = [100 * other / each for each, other in zip(own, sequence, strict=True)]
    yield "write: shard store as a share of one sequential write, both on the disk", statistics.median(shares), "%"
    in_shards()
    written(tree)
    order = draw.permutation(count).tolist()
    both: dict[str, Store] = {"shard store": shards, "tree of files": tree}

    def in_any_order(store: Store, layer: str) -> None:
        for index in order:
            np.array(store.gradient(layer, index))

    for layer in ("block1", "block4"):
        reads = {f"{layer} at random, {name}": partial(in_any_order, store, layer) for name, store in both.items()}
        for what, each in _seconds(reads, rounds).items():
            yield f"read: a row of {what}", statistics.median(each) / count * 1e6, "us"
    loaders = {name: DataLoader(Rows(store, "block3"), 32, shuffle=True, num_workers=2) for name, store in both.items()}
    for name, each in _seconds({name: partial(deque, loader, 0) for name, loader in loaders.items()}, rounds).items():
        yield f"read: an epoch of block3, shuffled, 2 workers, {name}", count / statistics.median(each), "rows/s"


def _seconds(
    ways: Mapping[str, Callable[[], Any]], rounds: int, before: Callable[[], None] = lambda: None
) -> dict[str, list[float]]:
    """The seconds that each way takes, every way once in each round."""
    seconds: dict[str, list[float]] = {what: [] for what in ways}
    for _ in range(rounds):
        for what, way in ways.items():
            before()
            start = time.perf_counter()
            way()
            seconds[what].append(time.perf_counter() - start)
    return seconds


def _sha256(gradient: NDArray[Any]) -> bytes:
    return hashlib.sha256(gradient.data).digest()
