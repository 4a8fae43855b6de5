"""The seeding guide's dataset API: a seeded subset as a PyTorch dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from grafiqs import npy
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.formats.dataset import Dataset, Pair, Sample
from grafiqs.formats.records import Records
from grafiqs.images.tensors import normalise, read
from grafiqs.names import order, shown
from grafiqs.options import OPTIONS, Options
from grafiqs.run.manifest import is_run
from grafiqs.select import Subset, open_dataset, rank_identities, select_subset

DATASET_TYPES = ("CasiaWebFace", "CasiaWebFaceEmbeddings", "MXFaceDataset")
"""CasiaWebFace: images, in whatever `--image-path` takes; CasiaWebFaceEmbeddings: .npy files instead of images, as in
the gradient tree of a run; MXFaceDataset: insightface's RecordIO."""


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
        index = range(len(self))[index]  # so that -1 is told as the place it stands for
        path, label = self.samples[index]
        try:
            data = self._load(self.subset.samples[index])
        except UnreadableSampleError as error:
            raise UnreadableSampleError(f"{shown(path)}: {error}") from error
        return self.transform(data) if self.transform else data, torch.tensor(label), index, path


def create_dataset_with_subset(
    dataset_type: str,
    root_dir: str | Path,
    local_rank: int = 0,
    num_identities: int | None = None,
    samples_per_identity: int | None = None,
    selective: bool = False,
    random_seed: int = 42,
    identity_selection_seed: int | None = None,
    transform: Callable[[Tensor], Any] | None = None,
    **options: Any,
) -> FaceDataset:
    """The subset of a data set that the seeds fix, as the guide asks for it.

    Its data are images, float32 (3, 112, 112) in [-1, 1], or for CasiaWebFaceEmbeddings the arrays as they are.
    Without `identity_selection_seed` the first N identities are taken, with it N are drawn. With `selective` the
    order is by number of samples, most first, ties by name, and only identities that hold at least
    `samples_per_identity` are drawn. Everything else is as on the command line, from the same code; `options` are any
    others that it has for data set and subset, such as `allow_insufficient_samples=True`.
    `local_rank` is accepted for the guide's sake: every rank gets the same subset.
    Raises RequestError for an unknown `dataset_type`, when the data set is none of that type, or nothing is left.
    """
    del local_rank
    if dataset_type not in DATASET_TYPES:
        raise RequestError(f"the dataset_type {dataset_type!r} is unknown: it is one of {', '.join(DATASET_TYPES)}")
    for name in options.keys() - {field.name for field in OPTIONS if field.metadata["group"] in ("data set", "subset")}:
        raise TypeError(f"create_dataset_with_subset() has no option {name!r}")
    if dataset_type == "CasiaWebFaceEmbeddings":
        options.setdefault("image_extension", ("npy",))
    options.setdefault("random_identity_selection", identity_selection_seed is not None)
    chosen = Options(
        image_path=root_dir,  # type: ignore[arg-type]  # it takes text, too
        num_identities=num_identities,
        samples_per_identity=samples_per_identity,
        random_seed=random_seed,
        identity_selection_seed=identity_selection_seed,
        **options,
    )
    if dataset_type == "CasiaWebFaceEmbeddings" and is_run(chosen.image_path):
        raise RequestError(f"{shown(root_dir)} is a run: give one of its layers, such as {shown(root_dir)}/block2")
    dataset = open_dataset(chosen)
    if dataset_type == "MXFaceDataset" and dataset.form != Records.form:
        place = shown(root_dir)
        raise RequestError(f"{place} is no insightface training set: MXFaceDataset takes train.rec, or its folder")
    subset = select_subset(chosen, dataset, _by_size(dataset, chosen) if selective else None)
    load = partial(_array if dataset_type == "CasiaWebFaceEmbeddings" else _image, dataset)
    places = [str(dataset.root / sample.location) for sample in subset.samples]
    return FaceDataset(subset, places, load, transform, subset.pairs(dataset))


def _image(dataset: Dataset, sample: Sample) -> Tensor:
    return normalise(read(dataset.read(sample.location))[None])[0]


def _array(dataset: Dataset, sample: Sample) -> Tensor:
    return torch.from_numpy(npy.decoded(dataset.read(sample.location)).astype(np.float32))


def _by_size(dataset: Dataset, options: Options) -> Sequence[str]:
    """The identities with most samples first; or, drawn, those that hold enough samples."""
    counts = {identity: len(dataset.samples(identity)) for identity in dataset.identities}
    if options.random_identity_selection:
        required = options.samples_per_identity or 1
        enough = [identity for identity, count in counts.items() if count >= required]
        if not enough:
            raise RequestError(
                f"no identity of {shown(dataset.place)} has {required} samples: lower samples_per_identity"
            )
        return rank_identities(enough, options.identity_seed)
    return sorted(counts, key=lambda identity: (-counts[identity], order(identity)))
