"""The seeding guide's dataset API: a seeded subset as a PyTorch dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from grafiqs import images, scan
from grafiqs.errors import RequestError
from grafiqs.names import key
from grafiqs.options import Options
from grafiqs.select import Subset, rank_identities, select_subset

DATASET_TYPES = ("CasiaWebFace",)
"""CasiaWebFace: a folder of identity folders."""


class FaceDataset(Dataset[tuple[Any, int, int, str]]):
    """The images of a subset, in its order.

    An item is (image float32 (3, 112, 112) in [-1, 1], label, index, path); with a `transform`, what that makes of
    the image. Nothing is augmented. `classes`, `class_to_idx`, `samples` and `targets` are what torchvision's
    ImageFolder calls so. An image that cannot be read raises `grafiqs.images.UnreadableImageError`.
    """

    def __init__(self, root: Path, subset: Subset, transform: Callable[[Tensor], Any] | None = None) -> None:
        self.classes = list(dict.fromkeys(sample.identity for sample in subset.samples))
        self.class_to_idx = {identity: label for label, identity in enumerate(self.classes)}
        self.samples = [(str(root / sample.location), self.class_to_idx[sample.identity]) for sample in subset.samples]
        self.targets = [label for _, label in self.samples]
        self.subset = subset
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int, int, str]:
        path, label = self.samples[index]
        pixels, _ = images.read(Path(path))
        image = images.normalise(pixels[None])[0]
        return self.transform(image) if self.transform else image, label, index, path


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
) -> FaceDataset:
    """The subset of a data set that the seeds fix, as the guide asks for it.

    Without `identity_selection_seed` the first N identities are taken, with it N are drawn. With `selective` the
    order is by number of samples, most first, ties by name, and only identities that hold at least
    `samples_per_identity` are drawn. Everything else is as on the command line, from the same code.
    `local_rank` is accepted for the guide's sake: every rank gets the same subset.
    Raises RequestError for an unknown `dataset_type`, or when nothing is left.
    """
    del local_rank
    if dataset_type not in DATASET_TYPES:
        raise RequestError(f"the dataset_type {dataset_type!r} is unknown: it is one of {', '.join(DATASET_TYPES)}")
    options = Options(
        image_path=Path(root_dir),
        num_identities=num_identities,
        samples_per_identity=samples_per_identity,
        random_seed=random_seed,
        identity_selection_seed=identity_selection_seed,
        random_identity_selection=identity_selection_seed is not None,
    )
    subset = select_subset(options, _by_size if selective else None)
    return FaceDataset(options.image_path, subset, transform)


def _by_size(dataset: scan.Dataset, options: Options) -> Sequence[str]:
    """The identities with most samples first; or, drawn, those that hold enough samples."""
    counts = {identity: len(dataset.samples(identity)) for identity in dataset.identities}
    if options.random_identity_selection:
        enough = [identity for identity, count in counts.items() if count >= (options.samples_per_identity or 1)]
        return rank_identities(enough, options.identity_seed)
    return sorted(counts, key=lambda identity: (-counts[identity], key(identity), identity))
