"""The guide's dataset API."""

from __future__ import annotations

import csv
import pickle
import runpy
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from grafiqs import RequestError, create_dataset_with_subset
from grafiqs.cli import main
from grafiqs.dataset import FaceDataset
from making import make_faces

ROOT = Path(__file__).resolve().parents[1]


def places(dataset: FaceDataset, root: Path) -> list[str]:
    return [Path(path).relative_to(root).as_posix() for path, _ in dataset.samples]


def test_the_call_of_the_guide(faces: Path) -> None:
    create = runpy.run_path(str(ROOT / "dataset.py"))["create_dataset_with_subset"]
    dataset = create(
        dataset_type="CasiaWebFace",
        root_dir=str(faces),
        local_rank=0,
        num_identities=2,
        samples_per_identity=5,
        selective=True,
        random_seed=456,
        identity_selection_seed=123,
    )
    assert len(dataset) == 10
    image, label, index, path = dataset[7]
    assert (image.shape, image.dtype, index) == ((3, 112, 112), torch.float32, 7)
    assert -1 <= float(image.min()) < float(image.max()) <= 1
    assert Path(path).parent.name == dataset.classes[label]
    assert dataset.targets == [label for _, label in dataset.samples]
    assert dataset.class_to_idx == {name: label for label, name in enumerate(dataset.classes)}
    assert "cyd" not in dataset.classes  # it has two samples only


@pytest.mark.parametrize("identity_seed", [None, 1, 2, 3])
def test_the_subset_is_that_of_the_command_line(faces: Path, tmp_path: Path, identity_seed: int | None) -> None:
    dataset = create_dataset_with_subset(
        "CasiaWebFace",
        faces,
        num_identities=3,
        samples_per_identity=4,
        random_seed=7,
        identity_selection_seed=identity_seed,
    )
    subset = ["--num-identities", "3", "--samples-per-identity", "4", "--random-seed", "7", "--quiet"]
    if identity_seed is not None:
        subset += ["--random-identity-selection", "--identity-selection-seed", str(identity_seed)]
    assert main(["select", "--image-path", str(faces), *subset, "--output", str(tmp_path / "subset.csv")]) == 0
    rows = csv.DictReader((tmp_path / "subset.csv").read_text().splitlines())
    assert places(dataset, faces) == [row["path"] for row in rows]


def test_selective_takes_the_identities_with_most_samples_first(tmp_path: Path) -> None:
    root = make_faces(tmp_path / "faces", {"ann": 1, "bob": 3, "cyd": 2, "dee": 3, "eve": 2})
    chosen = [
        create_dataset_with_subset("CasiaWebFace", root, num_identities=count, selective=True).classes
        for count in (1, 2, 3)
    ]
    assert chosen == [["bob"], ["bob", "dee"], ["bob", "cyd", "dee"]]
    drawn = {
        tuple(
            create_dataset_with_subset(
                "CasiaWebFace",
                root,
                num_identities=2,
                samples_per_identity=2,
                selective=True,
                identity_selection_seed=seed,
            ).classes
        )
        for seed in range(20)
    }
    assert len(drawn) > 1
    assert all(len(classes) == 2 and "ann" not in classes for classes in drawn)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_loader_with_workers_gives_the_same_images(faces: Path, method: str) -> None:
    dataset = create_dataset_with_subset("CasiaWebFace", faces, samples_per_identity=2)
    loader = DataLoader(dataset, batch_size=3, num_workers=1, multiprocessing_context=method)
    loaded = torch.cat([batch[0] for batch in loader])
    assert torch.equal(loaded, torch.stack([dataset[index][0] for index in range(len(dataset))]))


def test_it_can_be_pickled_and_transformed(faces: Path) -> None:
    dataset = create_dataset_with_subset("CasiaWebFace", faces, samples_per_identity=1, transform=torch.neg)
    again = pickle.loads(pickle.dumps(dataset))
    plain = create_dataset_with_subset("CasiaWebFace", faces, samples_per_identity=1)
    assert torch.equal(again[0][0], -plain[0][0])


def test_what_cannot_be_is_refused(faces: Path) -> None:
    with pytest.raises(RequestError, match="one of CasiaWebFace"):
        create_dataset_with_subset("Casia", faces)
    with pytest.raises(RequestError, match="has 7 samples"):
        create_dataset_with_subset("CasiaWebFace", faces, samples_per_identity=7)
