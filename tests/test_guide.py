"""The guide's dataset API."""

from __future__ import annotations

import csv
import os
import pickle
import runpy
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader

from grafiqs import RequestError, create_dataset_with_subset
from grafiqs.cli import main
from grafiqs.errors import UnreadableSampleError
from grafiqs.guide import DATASET_TYPES
from grafiqs.select import rank_identities
from grafiqs.torch_dataset import FaceDataset
from support.making import make_faces

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parents[1]

COUNTS = {"ann": 6, "bob": 5, "cyd": 2, "dee": 6}
"""The samples of each identity in `faces`."""


def make_records(folder: Path, faces: Path) -> Path:
    """Faces as insightface's training set: the nth folder has the label n, the nth image the key n + 1."""
    folder.mkdir()
    labels = {identity: label for label, identity in enumerate(sorted(os.listdir(faces)))}
    with (folder / "train.rec").open("wb") as records, (folder / "train.idx").open("w") as index:
        for key, image in enumerate(sorted(faces.glob("*/*")), 1):
            data = struct.pack("<IfQQ", 0, labels[image.parent.name], key, 0) + image.read_bytes()
            index.write(f"{key}\t{records.tell()}\n")
            records.write(struct.pack("<II", 0xCED7230A, len(data)) + data + bytes(-len(data) % 4))
    return folder


@pytest.fixture(scope="module")
def gradients(faces: Path, weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gradient tree of a run over all faces; read only."""
    run = tmp_path_factory.mktemp("run") / "run"
    paths = ["--image-path", str(faces), "--weights", str(weights), "--output-dir", str(run)]
    assert main(["extract", *paths, "--layers", "block2", "--device", "cpu", "--quiet"]) == 0
    return run / "block2"


@pytest.fixture(scope="module")
def roots(faces: Path, gradients: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same faces for each type of data set; read only."""
    records = make_records(tmp_path_factory.mktemp("records") / "faces_emore", faces)
    return dict(zip(DATASET_TYPES, (faces, gradients, records), strict=True))


def named(dataset: FaceDataset) -> list[tuple[str, str]]:
    return [(sample.identity, sample.name) for sample in dataset.subset.samples]


def selected(folder: Path, root: Path, *options: str) -> list[tuple[str, str, str]]:
    """What the command line selects: identity, sample, path."""
    table = folder / "subset.csv"
    assert main(["select", "--image-path", str(root), *options, "--quiet", "--output", str(table)]) == 0
    return [tuple(row) for row in csv.reader(table.read_text().splitlines()[1:])]  # type: ignore[misc]


def listed(dataset: FaceDataset, root: Path) -> list[tuple[str, str, str]]:
    """What a data set has: identity, sample, path."""
    paths = [Path(path).relative_to(root).as_posix() for path, _ in dataset.samples]
    return [(*sample, path) for sample, path in zip(named(dataset), paths, strict=True)]


def items(dataset: FaceDataset | ConcatDataset[Any]) -> list[tuple[Any, torch.Tensor, int, str]]:
    return [dataset[index] for index in range(len(dataset))]


def test_the_call_of_the_guide(faces: Path) -> None:
    create = runpy.run_path(str(ROOT / "dataset.py"))["create_dataset_with_subset"]
    assert create is create_dataset_with_subset
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
@pytest.mark.parametrize("dataset_type", DATASET_TYPES)
def test_the_subset_is_that_of_the_command_line(
    roots: dict[str, Path], tmp_path: Path, dataset_type: str, identity_seed: int | None
) -> None:
    dataset = create_dataset_with_subset(
        dataset_type,
        roots[dataset_type],
        num_identities=3,
        samples_per_identity=4,
        random_seed=7,
        identity_selection_seed=identity_seed,
    )
    options = ["--num-identities", "3", "--samples-per-identity", "4", "--random-seed", "7"]
    if identity_seed is not None:
        options += ["--random-identity-selection", "--identity-selection-seed", str(identity_seed)]
    if dataset_type == "CasiaWebFaceEmbeddings":
        options += ["--image-extension", "npy"]
    root = roots[dataset_type] / ("train.rec" if dataset_type == "MXFaceDataset" else "")
    assert listed(dataset, root) == selected(tmp_path, root, *options)
    assert len(dataset) in (8, 12)


@pytest.mark.parametrize(
    ("keywords", "count"),
    [
        ({"samples_per_identity": 4}, 12),
        ({"samples_per_identity": 4, "allow_insufficient_samples": True}, 14),
        ({"samples_per_identity": 4, "num_identities": 3, "strict": True}, 12),
        ({"samples_per_identity": 4, "flat_structure": True}, 4),
        ({"image_extension": ["jpg"]}, 8),
        ({"samples_per_identity": 4, "num_identities": 2, "random_identity_selection": True}, 8),
    ],
)
def test_the_other_options_are_those_of_the_command_line(tmp_path: Path, keywords: dict[str, Any], count: int) -> None:
    root = make_faces(tmp_path / "faces", {"ann": 6, "bob": 5})
    make_faces(root, {"cyd": 2, "dee": 6}, ".jpg")
    dataset = create_dataset_with_subset("CasiaWebFace", root, **keywords)
    options = []
    for name, value in keywords.items():
        options.append("--" + name.replace("_", "-"))
        options += [] if value is True else value if isinstance(value, list) else [str(value)]
    assert listed(dataset, root) == selected(tmp_path, root, *options)
    assert len(dataset) == count


@pytest.mark.parametrize("selective", [False, True])
@pytest.mark.parametrize("identity_seed", [None, 1, 2])
@pytest.mark.parametrize(("identities", "samples"), [(None, None), (2, 3), (3, 2), (4, 5), (1, None)])
def test_the_gradients_of_a_run_give_the_subset_that_its_images_give(
    roots: dict[str, Path], identities: int | None, samples: int | None, identity_seed: int | None, selective: bool
) -> None:
    images, embeddings = (
        create_dataset_with_subset(
            dataset_type,
            roots[dataset_type],
            num_identities=identities,
            samples_per_identity=samples,
            selective=selective,
            random_seed=5,
            identity_selection_seed=identity_seed,
        )
        for dataset_type in ("CasiaWebFace", "CasiaWebFaceEmbeddings")
    )
    assert named(embeddings) == named(images)
    assert embeddings.subset.sha256 == images.subset.sha256
    for (image, label), (gradient, same) in zip(images.samples, embeddings.samples, strict=True):
        assert Path(gradient).parent.name == Path(image).parent.name
        assert Path(gradient).name == f"{Path(image).stem}_grad.npy"
        assert label == same


def test_of_images_and_records_the_data_are_the_pixels(roots: dict[str, Path]) -> None:
    images, records = (create_dataset_with_subset(kind, roots[kind]) for kind in ("CasiaWebFace", "MXFaceDataset"))
    assert len(images) == len(records) == sum(COUNTS.values())
    assert records.classes == [f"{label:07d}" for label in range(4)]
    for index in range(0, len(images), 5):
        image, label, place, path = images[index]
        pixels = np.asarray(Image.open(path), np.float64).transpose(2, 0, 1)
        np.testing.assert_allclose(image, pixels / 127.5 - 1, atol=1e-6)
        assert (image.shape, image.dtype, place) == ((3, 112, 112), torch.float32, index)
        assert (label.dtype, label.shape, images.classes[label]) == (torch.int64, (), Path(path).parent.name)
        assert torch.equal(records[index][0], image)
        assert torch.equal(records[index][1], label)


def test_of_embeddings_the_data_are_the_arrays_as_float32(gradients: Path, tmp_path: Path) -> None:
    dataset = create_dataset_with_subset("CasiaWebFaceEmbeddings", gradients)
    for gradient, _, _, path in items(dataset):
        assert gradient.dtype == torch.float32
        assert np.array_equal(gradient, np.load(path))
    (tmp_path / "ann").mkdir()
    embedding = np.random.default_rng(0).normal(size=(4, 3))
    np.save(tmp_path / "ann" / "0.npy", np.asfortranarray(embedding.astype(">f8")))
    read = create_dataset_with_subset("CasiaWebFaceEmbeddings", tmp_path)[0][0]
    assert (read.dtype, read.shape) == (torch.float32, (4, 3))
    assert np.array_equal(read, embedding.astype(np.float32))
    read += 1  # a tensor of one's own


@pytest.mark.parametrize("form", ["records", "list", "flat"])
def test_images_come_in_whatever_form_the_command_line_takes(roots: dict[str, Path], tmp_path: Path, form: str) -> None:
    faces = roots["CasiaWebFace"]
    (tmp_path / "list.txt").write_text("ann/0.png\nann/1.png\n")
    options: dict[str, Any] = {
        "records": {"root_dir": roots["MXFaceDataset"]},
        "list": {"root_dir": tmp_path / "list.txt", "root": faces},
        "flat": {"root_dir": faces / "ann"},
    }[form]
    dataset = create_dataset_with_subset("CasiaWebFace", **options)
    assert torch.equal(dataset[1][0], create_dataset_with_subset("CasiaWebFace", faces)[1][0])


@pytest.mark.parametrize("place", ["", "train.rec", "train.idx"])
def test_a_training_set_is_found_beside_other_things(roots: dict[str, Path], tmp_path: Path, place: str) -> None:
    for path in roots["MXFaceDataset"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    make_faces(tmp_path / "pictures", {"eve": 1})
    assert len(create_dataset_with_subset("MXFaceDataset", tmp_path / place)) == sum(COUNTS.values())


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


@pytest.mark.parametrize("seed", range(5))
def test_selective_draws_among_the_identities_that_hold_enough(faces: Path, seed: int) -> None:
    dataset = create_dataset_with_subset(
        "CasiaWebFace", faces, 0, 2, 6, selective=True, random_seed=1, identity_selection_seed=seed
    )
    assert dataset.classes == ["ann", "dee"]
    one = create_dataset_with_subset(
        "CasiaWebFace", faces, 0, 1, 5, selective=True, random_seed=1, identity_selection_seed=seed
    )
    assert one.classes == rank_identities(["ann", "bob", "dee"], seed)[:1]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_loader_with_workers_gives_the_same_items(roots: dict[str, Path], method: str) -> None:
    everything: ConcatDataset[Any] = ConcatDataset(
        [create_dataset_with_subset(kind, root, samples_per_identity=1) for kind, root in roots.items()]
    )
    loader = DataLoader(everything, num_workers=1, multiprocessing_context=method)
    loaded = [(data[0], label[0], int(index), path) for data, label, index, (path,) in loader]
    assert len(loaded) == 12
    for item, expected in zip(loaded, items(everything), strict=True):
        assert torch.equal(item[0], expected[0])
        assert item[1:] == expected[1:]


@pytest.mark.parametrize("dataset_type", DATASET_TYPES)
def test_it_can_be_pickled_and_transformed(roots: dict[str, Path], dataset_type: str) -> None:
    dataset = create_dataset_with_subset(dataset_type, roots[dataset_type], samples_per_identity=1, transform=torch.neg)
    again = pickle.loads(pickle.dumps(dataset))
    plain = create_dataset_with_subset(dataset_type, roots[dataset_type], samples_per_identity=1)
    assert (again.samples, again.classes, again.targets) == (plain.samples, plain.classes, plain.targets)
    for item, (data, *rest) in zip(items(again), items(plain), strict=True):
        assert torch.equal(item[0], -data)
        assert list(item[1:]) == rest


def test_every_rank_gets_the_same_subset(faces: Path) -> None:
    first, second = (create_dataset_with_subset("CasiaWebFace", faces, rank, 2, 3) for rank in (0, 7))
    assert first.samples == second.samples


def test_a_sample_that_cannot_be_read_harms_no_other(tmp_path: Path) -> None:
    root = make_faces(tmp_path / "faces", {"ann": 2})
    (root / "ann" / "0.png").write_bytes(b"no image")
    dataset = create_dataset_with_subset("CasiaWebFace", root)
    with pytest.raises(UnreadableSampleError):
        dataset[0]
    assert dataset[1][2] == 1
    np.save(tmp_path / "0.npy", np.array(["no numbers"], object))
    with pytest.raises(UnreadableSampleError, match="not of numbers"):
        create_dataset_with_subset("CasiaWebFaceEmbeddings", tmp_path, flat_structure=True)[0]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"dataset_type": "Casia"}, "one of CasiaWebFace"),
        ({"dataset_type": "MXFaceDataset"}, "not an insightface training set"),
        ({"dataset_type": "CasiaWebFaceEmbeddings"}, "npy"),
        ({"root_dir": "nowhere"}, "does not exist"),
        ({"root_dir": None}, "--image-path"),
        ({"samples_per_identity": 7}, "has 7 samples"),
        ({"samples_per_identity": 7, "selective": True}, "has 7 samples"),
        ({"samples_per_identity": 7, "selective": True, "identity_selection_seed": 1}, "has 7 samples"),
        ({"samples_per_identity": 6, "num_identities": 3, "strict": True}, "1 are missing"),
        ({"strict": True}, "needs --num-identities"),
        ({"num_identities": 0}, "at least 1"),
        ({"num_identities": "2"}, "not of type int"),
        ({"num_identities": True}, "not of type int"),
        ({"random_seed": -1}, "a seed lies between"),
        ({"random_seed": None}, "not of type int"),
        ({"identity_selection_seed": 2**32}, "a seed lies between"),
        ({"image_extension": "png"}, "not of type tuple"),
        ({"allow_insufficient_samples": "yes"}, "not of type bool"),
    ],
)
def test_what_cannot_be_is_refused(faces: Path, wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        create_dataset_with_subset(**{"dataset_type": "CasiaWebFace", "root_dir": faces, **wrong})


@pytest.mark.parametrize("name", ["samples", "seed", "image_path", "weights", "output_dir", "quiet"])
def test_unknown_keywords_are_refused(faces: Path, name: str) -> None:
    options: dict[str, Any] = {name: 1}
    with pytest.raises(TypeError, match=name):
        create_dataset_with_subset("CasiaWebFace", faces, **options)


def test_a_place_counted_from_the_end_is_told_from_the_beginning(faces: Path) -> None:
    dataset = create_dataset_with_subset("CasiaWebFace", faces)
    assert [dataset[-1][2], dataset[-len(dataset)][2]] == [len(dataset) - 1, 0]
    assert dataset[-1][3] == dataset.samples[-1][0]
    for beyond in (len(dataset), -len(dataset) - 1):
        with pytest.raises(IndexError):
            dataset[beyond]


def test_a_sample_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    root = make_faces(tmp_path / "faces", {"ann": 3})
    (root / "ann" / "1.png").write_bytes(b"")
    loader = DataLoader(create_dataset_with_subset("CasiaWebFace", root), num_workers=1)
    with pytest.raises(UnreadableSampleError, match=r"ann/1\.png: the file is empty"):
        list(loader)


def test_a_whole_run_is_no_data_set_of_gradients(tmp_path: Path) -> None:
    (tmp_path / "run" / "block2").mkdir(parents=True)
    (tmp_path / "run" / "manifest.json").touch()
    with pytest.raises(RequestError, match="is a run: give one of its layers"):
        create_dataset_with_subset("CasiaWebFaceEmbeddings", tmp_path / "run")
