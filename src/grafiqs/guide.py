"""The seeding guide's call: a seeded subset of a data set as a PyTorch dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grafiqs.datasets.dataset import Dataset, Sample
from grafiqs.datasets.records import Records
from grafiqs.disk import npy
from grafiqs.disk.names import order, shown
from grafiqs.errors import RequestError
from grafiqs.images.tensors import normalise, read
from grafiqs.options.subset import SubsetOptions
from grafiqs.run.manifest import is_run
from grafiqs.select import open_dataset, rank_identities, select_subset
from grafiqs.torch_dataset import FaceDataset

DATASET_TYPES = ("CasiaWebFace", "CasiaWebFaceEmbeddings", "MXFaceDataset")
"""CasiaWebFace: images, in whatever `--image-path` takes; CasiaWebFaceEmbeddings: .npy files instead of images, as in
the gradient tree of a run; MXFaceDataset: insightface's RecordIO."""


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
    Raises RequestError for an unknown `dataset_type`, when the data set is not of that type, or nothing is left.

    >>> subset = create_dataset_with_subset("CasiaWebFace", "faces", num_identities=2, samples_per_identity=3)
    >>> image, label, index, path = subset[0]
    >>> len(subset), image.shape, label, path
    (6, torch.Size([3, 112, 112]), tensor(0), 'faces/ann/...png')
    """
    del local_rank
    if dataset_type not in DATASET_TYPES:
        raise RequestError(f"the dataset_type {dataset_type!r} is unknown: it is one of {', '.join(DATASET_TYPES)}")
    if dataset_type == "CasiaWebFaceEmbeddings":
        options.setdefault("image_extension", ("npy",))
    options.setdefault("random_identity_selection", identity_selection_seed is not None)
    chosen = SubsetOptions(
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
        raise RequestError(f"{place} is not an insightface training set: MXFaceDataset takes train.rec, or its folder")
    subset = select_subset(chosen, dataset, _by_size(dataset, chosen) if selective else None)
    load = partial(_array if dataset_type == "CasiaWebFaceEmbeddings" else _image, dataset)
    places = [str(dataset.root / sample.location) for sample in subset.samples]
    return FaceDataset(subset, places, load, transform, subset.pairs(dataset))


def _image(dataset: Dataset, sample: Sample) -> Tensor:
    return normalise(read(dataset.read(sample.location))[None])[0]


def _array(dataset: Dataset, sample: Sample) -> Tensor:
    return torch.from_numpy(npy.decoded(dataset.read(sample.location)).astype(np.float32))


def _by_size(dataset: Dataset, options: SubsetOptions) -> Sequence[str]:
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
