"""The documented job on real faces, where they lie beside the checkout."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from grafiqs import (
    Options,
    extract_gradients,
    gradient_scores,
    image_gradients,
    load,
    load_checkpoint,
    open_dataset,
    open_run,
    select_subset,
)
from grafiqs.backbones.catalogue import LAYERS
from grafiqs.calibrate import CalibrateOptions, calibrate
from grafiqs.cli import main
from grafiqs.faces.likeness import edges, likeness
from grafiqs.faces.template import LANDMARKS
from grafiqs.images.decoding import decode
from grafiqs.images.tensors import normalise, read, resized
from grafiqs.images.unaligned import are_plainly_unaligned
from support.making import REAL, person, random_network

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real faces in {REAL}")

YUNET = REAL / "detectors" / "yunet_n_dynamic.onnx"
CHECKPOINTS = ("foamliu_mobilefacenet.pt", "bubbliiiing_arcface_mobilefacenet.pth")
ALIGNED = REAL / "faces" / "glint24"
PHOTOS = REAL / "faces" / "lfw158_raw250"
SHORT = "  - Lindsay_Lohan: 22 samples"


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    """Real aligned crops (48, 3, 112, 112), uint8."""
    return torch.stack([read(path.read_bytes()) for path in sorted(ALIGNED.glob("*/*.png"))[::24][:48]])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, crops: torch.Tensor) -> Path:
    """A checkpoint of random weights whose BatchNorm statistics are those of real faces."""
    path = tmp_path_factory.mktemp("weights") / "recorded.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in random_network(pixels=crops).state_dict().items()}}, path)
    return path


@pytest.mark.parametrize(
    ("faces", "asked", "identities", "samples", "short"),
    [
        (ALIGNED, (4, 24, "--random-identity-selection", "--identity-selection-seed", 15), 3, 72, [SHORT]),
        (PHOTOS, (40, 1), 40, 40, []),
    ],
    ids=["glint24", "lfw158"],
)
def test_a_subset_of_real_faces_goes_in_and_its_gradient_tree_comes_out(
    faces: Path,
    asked: tuple[object, ...],
    identities: int,
    samples: int,
    short: list[str],
    recorded: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    subset = ["--num-identities", str(asked[0]), "--samples-per-identity", *map(str, asked[1:])]
    options = ["--image-path", str(faces), "--weights", str(recorded), "--output-dir", str(run)]
    assert main(["extract", *options, *subset]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("  - ")] == short
    assert f"Dataset loaded: {identities} identities, {samples} total images" in lines

    gradients = sorted(run.rglob("*.npy"))
    assert len(gradients) == 5 * samples
    mirrored = {path.relative_to(run / "block3") for path in (run / "block3").rglob("*.npy")}
    images_there = {path.relative_to(faces).with_suffix("") for path in faces.rglob("*.*g")}
    assert {path.with_name(path.name.removesuffix("_grad.npy")) for path in mirrored} <= images_there
    rows = list(csv.DictReader((run / "scores.csv").read_text().splitlines()))
    assert (len(rows), len({row["identity"] for row in rows})) == (samples, identities)
    for row in rows[:: len(rows) // 7]:
        for layer in LAYERS:
            gradient = np.load(run / layer / row["identity"] / f"{row['sample']}_grad.npy")
            assert float(row[layer]) == pytest.approx(np.abs(gradient.astype(np.float64)).sum(), rel=1e-12)

    assert main(["verify", str(run)]) == 0
    assert f"{samples} images, {samples} scored, 0 failed, {5 * samples} gradient files" in capsys.readouterr().out


def test_the_fast_path_agrees_on_real_faces(recorded: Path, tmp_path: Path, compiling: FileLock) -> None:
    """By the program that test_preparation.py runs, too; test_compiled.py has all layers."""
    subset = ["--num-identities", "6", "--samples-per-identity", "4", "--layers", "block4", "--batch-size", "4"]
    options = ["extract", "--image-path", str(ALIGNED), "--weights", str(recorded), *subset, "--quiet"]
    runs = {engine: tmp_path / engine for engine in ("on", "off")}
    for engine, run in runs.items():
        with compiling:
            assert main([*options, "--output-dir", str(run), "--compile", engine]) == 0
        assert main(["verify", str(run), "--quiet"]) == 0
    fast, plain = (open_run(run).scores["block4"] for run in runs.values())
    (environment,) = open_run(runs["on"]).manifest.environments
    assert environment["engine"] == "compiled"
    assert environment["self_check"]["images"] == 4
    assert np.abs(fast / plain - 1).max() < 1e-5


def test_inspection_tells_aligned_crops_from_photos(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(ALIGNED), "--json", "--quiet", "--samples-per-identity", "40"]) == 0
    crops_found = json.loads(capsys.readouterr().out)
    assert (crops_found["identities"], crops_found["samples"]) == (24, 1172)
    assert crops_found["insufficient"]["identities"] == {"Lindsay_Lohan": 22}
    assert crops_found["likeness_to_aligned_crops"] > 0.7
    assert crops_found["warnings"] == []
    assert main(["inspect", str(PHOTOS), "--json", "--quiet"]) == 0
    photos_found = json.loads(capsys.readouterr().out)
    assert photos_found["sizes"] == {"250x250": 1580}
    assert "1580 of 1580 images are not 112x112" in photos_found["warnings"][0]


@pytest.mark.parametrize("box", [(0, 0, 250, 250), (50, 50, 200, 200), (70, 70, 180, 180)])
def test_photos_cut_to_the_size_of_crops_are_not_taken_for_them(box: tuple[int, int, int, int]) -> None:
    found = []
    for path in sorted(PHOTOS.glob("*/*"))[::5]:
        with Image.open(path) as photo:
            found.append(edges(np.array(photo.crop(box).resize((112, 112)))))
    assert likeness(np.mean(found, axis=0)) < 0.5


def test_a_face_detector_finds_drawn_faces_where_the_template_has_them() -> None:
    detector = cv2.FaceDetectorYN.create(str(YUNET), "", (224, 224), 0.7)
    offsets = []
    for number in range(30):
        canvas = np.full((224, 224, 3), 127, np.uint8)
        canvas[56:168, 56:168] = person(number).face(0).image[..., ::-1]
        found = detector.detect(canvas)[1]
        assert found is not None, f"no face is seen in person {number}"
        best = max(found, key=lambda face: face[-1])
        offsets.append(best[4:14].reshape(5, 2) - 56 - LANDMARKS)
    # On real crops the median is 2.1 pixels, and one point's mean offset 3.8.
    assert np.median(np.abs(offsets)) < 3
    eyes, all_points = np.abs(np.mean(offsets, axis=0))[:2], np.abs(np.mean(offsets, axis=0))
    assert eyes.max() < 2
    assert all_points.max() < 7


# -- photos, aligned ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aligned_photos(shared: Path) -> Path:
    """The photos of the first sixty people as aligned crops, made once for all processes; read only."""
    folder = shared / "aligned"
    with FileLock(shared / "aligned.lock"):
        if not (folder / "done").exists():
            (folder / "photos").mkdir(parents=True)
            for own in sorted(path for path in PHOTOS.iterdir() if path.is_dir())[:60]:
                (folder / "photos" / own.name).symlink_to(own)
            command = ["align", str(folder / "photos"), str(folder / "crops"), "--detector", str(YUNET), "--quiet"]
            assert main(command) == 0
            (folder / "done").touch()
    return folder / "crops"


def leave_one_out_accuracy(embeddings: NDArray[np.float32], identities: NDArray[np.object_]) -> float:
    """Verification over all genuine pairs and as many impostor pairs, the threshold for each identity from the others.

    An impostor pair is decided twice, once for either identity.
    """
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), 1)
    same = identities[first] == identities[second]
    impostors = np.random.default_rng(0).choice(np.flatnonzero(~same), same.sum(), replace=False)
    pairs = np.concatenate([np.flatnonzero(same), impostors])
    pairs = pairs[np.argsort((unit @ unit.T)[first, second][pairs], kind="stable")]
    first, second, same = first[pairs], second[pairs], same[pairs]
    right = []
    for identity in np.unique(identities):
        own = (identities[first] == identity) | (identities[second] == identity)
        # Below each place of the threshold: impostors that are rejected, and genuine pairs that are, too.
        gained = np.cumsum(np.where(own, 0, np.where(same, -1, 1)))
        accepted = np.arange(len(pairs)) > gained.argmax()
        right.append((accepted == same)[own])
    return float(np.concatenate(right).mean())


@pytest.mark.parametrize(("weights", "known"), list(zip(CHECKPOINTS, (0.9883, 0.9772), strict=True)))
def test_people_in_aligned_photos_are_told_apart(
    weights: str, known: float, aligned_photos: Path, tmp_path: Path
) -> None:
    """Weights, preprocessing, colour and alignment fit together (all 158 people: 0.9905 and 0.977)."""
    data = ["--image-path", str(aligned_photos), "--num-identities", "60", "--samples-per-identity", "10"]
    network = ["--weights", str(REAL / "weights" / weights), "--layers", "block3", "--embeddings"]
    output = ["--no-dump-gradients", "--quiet", "--output-dir", str(tmp_path / "run")]
    assert main(["extract", *data, *network, *output]) == 0
    run = open_run(tmp_path / "run")
    assert run.embeddings.shape == (600, 128)
    accuracy = leave_one_out_accuracy(np.array(run.embeddings), run.scores["identity"])
    assert accuracy >= 0.97
    assert accuracy == pytest.approx(known, abs=0.003)


def _blurred(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(crop, (0, 0), 4), np.uint8)


def _dark(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return crop // 4


def _covered(crop: NDArray[np.uint8]) -> NDArray[np.uint8]:
    covered = crop.copy()
    covered[40:64, 20:92] = 0  # the eyes are at a height of 51.6
    return covered


@pytest.mark.parametrize(
    ("weights", "changes"), list(zip(CHECKPOINTS, [(_blurred, _dark, _covered), (_blurred, _dark)], strict=True))
)
def test_scores_of_real_faces_rise_where_they_get_worse(
    weights: str, changes: tuple[Callable[[NDArray[np.uint8]], NDArray[np.uint8]], ...], aligned_photos: Path
) -> None:
    checkpoint = load_checkpoint(REAL / "weights" / weights)
    crops = [decode(path.read_bytes()) for path in sorted(aligned_photos.glob("*/*.png"))[::25]]

    def scores(pictures: list[NDArray[np.uint8]]) -> torch.Tensor:
        batches = torch.stack([resized(picture) for picture in pictures]).split(16)  # type: ignore[no-untyped-call]
        inputs = (normalise(batch, checkpoint.preprocessing) for batch in batches)
        found = (image_gradients(checkpoint.network, batch, ("image",))["image"] for batch in inputs)
        return torch.cat([gradient_scores(gradient) for gradient in found])

    before = scores(crops)
    assert len(before) == 24
    for change in changes:
        risen = (scores([change(crop) for crop in crops]) > before).double().mean()
        assert risen >= 0.9, f"{change.__name__}: {risen:.2f}"


@pytest.mark.parametrize("weights", CHECKPOINTS)
def test_the_quality_of_real_faces_falls_where_they_get_worse(
    weights: str, aligned_photos: Path, tmp_path: Path
) -> None:
    """By the loss, which is the layer of both networks' references (docs/meaning.md)."""
    network: dict[str, Any] = {"weights": REAL / "weights" / weights, "layers": ["loss"], "device": "cpu"}
    data: dict[str, Any] = {"image_path": aligned_photos, "samples_per_identity": 1, "quiet": True}
    extract_gradients(Options(**data, **network, output_dir=tmp_path / "run"))
    options = CalibrateOptions(run=tmp_path / "run", layer="loss", output=tmp_path / "own.json")
    own = calibrate(options).distributions["loss"]
    assert own.count == 60
    crops = [decode(path.read_bytes()) for path in sorted(aligned_photos.glob("*/*.png"))[::25]]
    with load(**network, reference=tmp_path / "own.json") as model:
        before = [result.quality_score or 0 for result in model(crops, gradients=False)]
        for change in (_blurred, _dark, _covered):
            after = [result.quality_score or 0 for result in model(list(map(change, crops)), gradients=False)]
            fallen = np.mean([one < other for one, other in zip(after, before, strict=True)])
            assert fallen >= 0.9, f"{change.__name__}: {fallen:.2f}"


def test_photos_are_told_from_aligned_crops_before_a_run(aligned_photos: Path, tmp_path: Path) -> None:
    def warned(faces: Path, identities: int, samples: int, size: tuple[int, int] = (112, 112)) -> bool:
        options = Options(image_path=faces, num_identities=identities, samples_per_identity=samples)
        dataset = open_dataset(options)
        return are_plainly_unaligned(select_subset(options, dataset).samples, dataset, size)

    mixed = tmp_path / "mixed"
    for number, path in enumerate(sorted(aligned_photos.glob("*/*_0001.png"))[:20]):
        (mixed / str(number)).mkdir(parents=True)
        with Image.open(path) as crop:
            crop.resize((112 + number % 2, 112)).save(mixed / str(number) / "0.png")
    for blur in (0, 2, 4):
        (tmp_path / str(blur)).mkdir()
        for folder in sorted(aligned_photos.glob("*_*/"))[:20]:
            (tmp_path / str(blur) / folder.name).mkdir()
            for path in sorted(folder.glob("*.png"))[:4]:
                crop_pixels = cv2.imread(str(path))
                changed = cv2.GaussianBlur(crop_pixels, (0, 0), blur) if blur else crop_pixels // 4
                cv2.imwrite(str(tmp_path / str(blur) / folder.name / path.name), changed)
        assert not warned(tmp_path / str(blur), 20, 4)
    assert not any(warned(faces, 20, 4) for faces in (ALIGNED, aligned_photos))
    assert not warned(aligned_photos, 20, 4, (160, 160))
    assert warned(aligned_photos, 20, 4, (112, 96))  # they would be squeezed
    assert all(warned(PHOTOS, identities, samples) for identities, samples in ((20, 4), (10, 1), (3, 4), (1, 10)))
    assert all(warned(PHOTOS, 20, 2, size) for size in ((112, 96), (160, 160)))
    assert warned(mixed, 20, 1)
