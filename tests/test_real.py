"""The documented job on real faces, where they lie beside the checkout."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from grafiqs import images, open_run
from grafiqs.backbones.catalogue import LAYERS
from grafiqs.cli import main
from grafiqs.crops import edges, likeness
from grafiqs.template import LANDMARKS
from making import REAL, person, random_network

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real faces in {REAL}")

ALIGNED = REAL / "faces" / "glint24"
PHOTOS = REAL / "faces" / "lfw158_raw250"


@pytest.fixture(scope="module")
def crops() -> torch.Tensor:
    """Real aligned crops (48, 3, 112, 112), uint8."""
    return torch.stack([images.read(path.read_bytes()) for path in sorted(ALIGNED.glob("*/*.png"))[::24][:48]])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, crops: torch.Tensor) -> Path:
    """A checkpoint of random weights whose BatchNorm statistics are those of real faces."""
    path = tmp_path_factory.mktemp("weights") / "recorded.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in random_network(pixels=crops).state_dict().items()}}, path)
    return path


@pytest.mark.parametrize(
    ("faces", "asked", "identities", "samples", "short"),
    [(ALIGNED, (24, 40), 23, 920, ["  - Lindsay_Lohan: 22 samples"]), (PHOTOS, (158, 5), 158, 790, [])],
    ids=["glint24", "lfw158"],
)
def test_a_subset_of_real_faces_goes_in_and_its_gradient_tree_comes_out(
    faces: Path,
    asked: tuple[int, int],
    identities: int,
    samples: int,
    short: list[str],
    recorded: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    subset = ["--num-identities", str(asked[0]), "--samples-per-identity", str(asked[1])]
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


def test_the_fast_path_agrees_on_real_faces(recorded: Path, tmp_path: Path) -> None:
    subset = ["--num-identities", "6", "--samples-per-identity", "4", "--quiet"]
    options = ["extract", "--image-path", str(ALIGNED), "--weights", str(recorded), *subset]
    runs = {engine: tmp_path / engine for engine in ("on", "off")}
    for engine, run in runs.items():
        assert main([*options, "--output-dir", str(run), "--compile", engine]) == 0
        assert main(["verify", str(run), "--quiet"]) == 0
    fast, plain = (open_run(run).scores for run in runs.values())
    (environment,) = open_run(runs["on"]).manifest.environments
    assert environment["engine"] == "compiled"
    assert environment["self_check"]["images"] == 8
    for layer in LAYERS:
        assert np.abs(fast[layer] / plain[layer] - 1).max() < (1e-5 if layer == "block4" else 1e-3)


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
    detector = cv2.FaceDetectorYN.create(str(REAL / "detectors" / "yunet_n_dynamic.onnx"), "", (224, 224), 0.7)
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
