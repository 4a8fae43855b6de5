"""A finished run, opened for reading: its manifest, its scores as a table, its gradients one by one."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from operator import index as whole_number
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from grafiqs.datasets.dataset import Pair, Sample
from grafiqs.datasets.samples import COLUMNS, Samples, columns_of
from grafiqs.disk import npy
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.run import finished
from grafiqs.run import manifest as manifests
from grafiqs.run.journal import Failed
from grafiqs.run.manifest import Manifest
from grafiqs.run.store import Store
from grafiqs.run.tree import GradientTree

if TYPE_CHECKING:
    from torch import Tensor

    from grafiqs.torch_dataset import FaceDataset


class Gradients(Mapping[str, NDArray[Any]]):
    """The gradients of one layer, one (C, H, W) array a sample, memory-mapped when asked for and read-only.

    They are keyed by sample: by the path in the table of scores, or by the row there, as in `gradients["ann/0.jpg"]`
    and `gradients[0]`. `shape` and `dtype` are those of every one of them.
    A file that is gone or is not such an array raises `grafiqs.errors.UnreadableSampleError`.
    """

    def __init__(self, store: Store, layer: str, samples: Samples, indices: array[int]) -> None:
        self.shape = store.shapes[layer]
        self.dtype = np.dtype(store.dtype)
        self._store = store
        self._layer = layer
        self._samples = samples
        self._indices = indices

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {sample.location: row for row, sample in enumerate(self._samples)}

    def __getitem__(self, key: str | SupportsIndex) -> NDArray[Any]:
        row = self._rows[key] if isinstance(key, str) else whole_number(key)
        return self._store.gradient(self._layer, self._indices[row])

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._samples)

    def tensor(self, sample: Sample) -> Tensor:
        """The gradient of a sample as float32 tensor (C, H, W)."""
        import torch  # so that those who want arrays alone need not wait for it

        return torch.from_numpy(np.array(self[sample.location], np.float32))


class Run:
    """A finished run. `open_run` makes it.

    `scores` is a NumPy structured array, a row a scored sample, in the order of the subset: `identity`, `sample` and
    `path` (text), a float64 column a score, and an int64 column a quality, if the run has a `reference`. pandas makes
    a DataFrame of it. `directions` says of each score whether `lower` or `higher` ones mean higher quality.
    `failures` gives the reason for each path that has no score.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.directions = dict(manifest.directions)
        self.reference = finished.reference_of(folder, manifest)
        self.failures: dict[str, str] = {}
        self._indices = array("Q")
        rows: list[tuple[Any, ...]] = []
        row = finished.row_of(manifest, self.reference)
        # A store of few files keeps the checksums in these, which are not opened here.
        checksums: Literal["all", "none"] = "all" if isinstance(manifest.store(folder), GradientTree) else "none"
        for outcome in finished.read(folder, manifest, checksums):
            sample = manifest.subset.samples[outcome.index]
            if isinstance(outcome, Failed):
                self.failures[sample.location] = outcome.reason
            else:
                self._indices.append(outcome.index)
                rows.append((*columns_of(sample), *row(outcome)))
        kinds = [(name, np.float64 if name in manifest.scores else np.int64) for name in manifest.directions]
        columns = [*((name, object) for name in COLUMNS), *kinds]
        self.scores = np.array(rows, dtype=columns)
        self._samples = Samples(manifest.subset.samples[index] for index in self._indices)

    def gradients(self, layer: str) -> Gradients:
        """The gradients of a layer. Raises RequestError when the run has none of it."""
        if layer not in self.manifest.dumps:
            have = ", ".join(self.manifest.dumps) or "none: it was made with --no-dump-gradients"
            raise RequestError(f"{shown(self.folder)} has no gradients of {shown(layer)}; it has {have}")
        return Gradients(self.manifest.store(self.folder), layer, self._samples, self._indices)

    @property
    def embeddings(self) -> NDArray[np.float32]:
        """The embeddings (N, size), float32, a row for each of `scores`, memory-mapped and read-only.

        Raises RequestError when the run has none, or the file is gone.
        """
        if not self.manifest.embeds:
            raise RequestError(f"{shown(self.folder)} has no embeddings: it was made without --embeddings")
        path = self.folder / finished.EMBEDDINGS
        try:
            return npy.mapped(path, (len(self.scores), self.manifest.embedding_size), "float32")
        except UnreadableSampleError as error:
            raise RequestError(f"{shown(path)}: {error}") from error

    def dataset(self, layer: str, transform: Callable[[Tensor], Any] | None = None) -> FaceDataset:
        """The gradients of a layer as PyTorch dataset: (gradient float32 (C, H, W), label, index, path).

        The label is an int64 tensor, the place of the identity in `classes`; index and path are those of the scores.
        `pairs` are those of a verification set of which both images have scores.
        Raises RequestError when the run has no gradients of it.
        """
        from grafiqs.torch_dataset import FaceDataset  # loads torch

        identities = {sample.identity for sample in self._samples}
        subset = replace(self.manifest.subset, samples=self._samples, identities=len(identities))
        places = [sample.location for sample in self._samples]
        there = set(places)
        pairs = [Pair(*each) for each in self.manifest.pairs if there.issuperset(each[:2])]
        return FaceDataset(subset, places, self.gradients(layer).tensor, transform, pairs)


def open_run(folder: str | Path) -> Run:
    """Open the finished run in `folder` for reading; no gradient is read, and nothing checked (`verify_run` does).

    Raises RequestError when `folder` is not a run folder, the run is not finished, or its tables are damaged.

    >>> from grafiqs import Options, extract_gradients
    >>> _ = extract_gradients(Options(image_path="faces", weights="weights.pth", output_dir="run", quiet=True))
    >>> run = open_run("run")
    >>> run.scores["path"][0], run.gradients("block4")[0].shape
    ('ann/0.png', (64, 7, 7))
    """
    folder = Path(folder)
    manifest = manifests.read(folder)
    if not finished.is_finished(folder):
        raise RequestError(f"the run in {shown(folder)} is not finished: the command that began it resumes it")
    try:
        return Run(folder, manifest)
    except (OSError, ValueError) as error:
        raise finished.damaged(folder, error) from error
