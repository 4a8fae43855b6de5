"""The samples of a subset as a PyTorch dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from grafiqs.datasets.dataset import Pair, Sample
from grafiqs.disk.names import shown
from grafiqs.errors import UnreadableSampleError
from grafiqs.select import Subset


class FaceDataset(TorchDataset[tuple[Any, Tensor, int, str]]):
    """The samples of a subset, in its order, each as (data, label, index, path).

    `data` is what `load` makes of the sample, a float32 tensor; with a `transform`, what that makes of it. Nothing is
    augmented. `label` is an int64 tensor (), the place of the identity in `classes`; `path` is one of `places`.
    `classes`, `class_to_idx`, `samples` and `targets` are what torchvision's ImageFolder calls so. `pairs` are the
    comparisons that a verification set asks for, as far as the subset holds both: (index, index, same identity).
    A sample that cannot be read raises `grafiqs.errors.UnreadableSampleError`, which names it and says why.
    """

    def __init__(
        self,
        subset: Subset,
        places: Sequence[str],
        load: Callable[[Sample], Tensor],
        transform: Callable[[Tensor], Any] | None = None,
        pairs: Sequence[Pair] = (),
    ) -> None:
        self.subset = subset
        self.classes = list(dict.fromkeys(sample.identity for sample in subset.samples))
        self.class_to_idx = {identity: label for label, identity in enumerate(self.classes)}
        self.targets = [self.class_to_idx[sample.identity] for sample in subset.samples]
        self.samples = list(zip(places, self.targets, strict=True))
        self.transform = transform
        self._load = load
        indices = {sample.location: index for index, sample in enumerate(subset.samples)} if pairs else {}
        self.pairs = [(indices[first], indices[second], same) for first, second, same in pairs]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, Tensor, int, str]:
        index = range(len(self))[index]  # so that -1 is reported as the place it stands for
        path, label = self.samples[index]
        try:
            data = self._load(self.subset.samples[index])
        except UnreadableSampleError as error:
            raise UnreadableSampleError(f"{shown(path)}: {error}") from error
        return self.transform(data) if self.transform else data, torch.tensor(label), index, path
