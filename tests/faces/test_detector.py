"""Detectors that are none or damaged, and a real one on real photos."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from grafiqs.cli import main
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.faces import yunet
from grafiqs.faces.detector import Detector
from grafiqs.faces.template import similarity
from grafiqs.images.decoding import decode
from support.making import grafiqs
from support.photos import (
    PHOTOS,
    YUNET,
    Capture,
    moved,
    real,
    refused,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def test_without_opencv_it_says_how_to_get_it(
    photos: Path, table: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    extract = ("extract", "--image-path", photos, "--weights", weights, "--output-dir", tmp_path / "out")
    requests: dict[str, tuple[object, ...]] = {
        "aligning faces": ("align", photos, tmp_path / "out", "--landmarks", table),
        "--align": (*extract, "--align", tmp_path / "yunet.onnx"),
    }
    for what, request in requests.items():
        done = grafiqs(*request)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            f"grafiqs: {what} needs OpenCV (libGL.so.1: cannot open shared object file): "
            "pip install opencv-python-headless\n"
        )
        assert not (tmp_path / "out").exists()


def field(number: int, value: bytes | int) -> bytes:
    """A field of a protobuf message; small numbers and short messages only."""
    if isinstance(value, int):
        return bytes([number << 3, value])
    size = len(value)
    return bytes([number << 3 | 2, *((size,) if size < 128 else (size & 127 | 128, size >> 7))]) + value


def relu_model() -> bytes:
    """An ONNX model that detects nothing: one Relu from `input` to `output`, (1, 3, 64, 64)."""
    shape = b"".join(field(1, field(1, side)) for side in (1, 3, 64, 64))
    kind = field(1, field(1, 1) + field(2, shape))
    node = field(1, b"input") + field(2, b"output") + field(4, b"Relu")
    ends = field(11, field(1, b"input") + field(2, kind)) + field(12, field(1, b"output") + field(2, kind))
    return field(1, 8) + field(7, field(1, node) + field(2, b"graph") + ends) + field(8, field(1, b"") + field(2, 11))


def varint(value: int) -> bytes:
    """A number as protobuf writes it."""
    return b"".join(bytes([value >> shift & 127 | 128]) for shift in range(0, 63, 7)) + b"\x01"


def huge_model() -> bytes:
    """An ONNX model of one small file and a tensor of exabytes, added to its input."""
    dims = b"".join(b"\x08" + varint(2**30) for _ in range(2))
    tensor = dims + field(2, 1) + field(8, b"huge") + field(9, b"\0\0\0\0")
    shape = b"".join(field(1, field(1, side)) for side in (1, 3, 64, 64))
    kind = field(1, field(1, 1) + field(2, shape))
    node = field(1, b"input") + field(1, b"huge") + field(2, b"output") + field(4, b"Add")
    ends = field(11, field(1, b"input") + field(2, kind)) + field(12, field(1, b"output") + field(2, kind))
    graph = field(1, node) + field(2, b"graph") + field(5, tensor) + ends
    return field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 11))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:8f23\nsize 232589\n"


NO_DETECTORS = {
    "empty": b"",
    "text": b"no model" * 1000,
    "a pointer": POINTER,
    "another network": relu_model(),
    "a tensor of exabytes": huge_model(),
    "half of one": relu_model()[:60],
}


@pytest.mark.parametrize("kind", NO_DETECTORS)
@pytest.mark.parametrize("verb", ["align", "extract"])
def test_a_file_that_is_no_detector_is_refused(
    kind: str, verb: str, photos: Path, weights: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With one line, and none of OpenCV's own."""
    model = tmp_path / "model.onnx"
    model.write_bytes(NO_DETECTORS[kind])
    requests = {
        "align": ("align", photos, tmp_path / "out", "--detector", model),
        "extract": (
            *("extract", "--image-path", photos, "--weights", weights),
            *("--output-dir", tmp_path / "out", "--align", model),
        ),
    }
    assert main([*map(str, requests[verb])]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == (
        f"grafiqs: {model} is not a YuNet detector that OpenCV {cv2.__version__} can run, or is damaged: get it again, "
        "or give another .onnx file, such as face_detection_yunet_2023mar.onnx of OpenCV's model zoo; one with dynamic "
        "shapes takes OpenCV 5\n"
    )
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


DEADLY = {
    "division by zero": (1712, bytes(4)),
    "memory of others": (554, b"\xff" * 4),
    "a size": (1429, b"\x7f" + b"\xff" * 3),
}
"""Four bytes of the real detector that end the process which opens it, with signal 8 or 11 (OpenCV 5.0.0)."""


@real
@pytest.mark.parametrize(("kind", "verb"), list(zip(DEADLY, ("align", "align", "extract"), strict=True)))
def test_a_detector_that_kills_opencv_is_refused(
    kind: str, verb: str, photos: Path, weights: Path, tmp_path: Path
) -> None:
    place, damage = DEADLY[kind]
    good, model = YUNET.read_bytes(), tmp_path / "model.onnx"
    model.write_bytes(good[:place] + damage + good[place + 4 :])
    requests = {
        "align": ("align", photos, tmp_path / "out", "--detector", model),
        "extract": (
            *("extract", "--image-path", photos, "--weights", weights),
            *("--output-dir", tmp_path / "out", "--align", model),
        ),
    }
    done = grafiqs(*requests[verb], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"grafiqs: {model} is not a YuNet detector that OpenCV ")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]  # no core either


@real
def test_a_detector_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    good, model = YUNET.read_bytes(), tmp_path / "model.onnx"
    for length in (1, 300, 100_000, len(good) - 1):
        model.write_bytes(good[:length])
        with pytest.raises(RequestError, match="is not a YuNet detector"):
            Detector(model)


BEGIN = "import sys, os, signal, time; sys.stdin.buffer.read(); print('the trial begins', flush=True); "


@pytest.fixture
def any_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that this process takes for a detector."""
    monkeypatch.setattr(Detector, "_found", lambda *_: np.empty((0, 15)))
    (tmp_path / "model.onnx").write_bytes(b"model" * 50_000)  # more than a pipe holds
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(
    "ends",
    [
        "os.kill(os.getpid(), 11)",
        "os.kill(os.getpid(), 8)",
        "os.abort()",
        "sys.exit(1)",
        "os._exit(3)",
        "time.sleep(60)",
    ],
)
def test_a_model_whose_trial_does_not_end_well_is_refused(
    ends: str, any_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(yunet, "_TRIAL", BEGIN + "print('noise', file=sys.stderr); " + ends)
    monkeypatch.setattr(yunet, "_PATIENCE", 2.0)
    with pytest.raises(RequestError, match="is not a YuNet detector"):
        Detector(any_model)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("never", ["import nothing", "import time; time.sleep(60)", "print('something else')", None])
def test_a_trial_that_never_begins_is_told_and_condemns_nothing(
    never: str | None, any_model: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if never is None:
        monkeypatch.setattr("sys.executable", "/nowhere/python")
    else:
        monkeypatch.setattr(yunet, "_TRIAL", never)
    monkeypatch.setattr(yunet, "_PATIENCE", 2.0)
    Detector(any_model)
    assert "the detector could not be tried in another process first (" in caplog.text


def test_a_trial_ends_well_when_the_model_does(any_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yunet, "_TRIAL", BEGIN)
        Detector(any_model)
    assert caplog.text == ""


def test_a_trial_runs_nothing_of_the_current_folder_and_minds_no_environment(tmp_path: Path) -> None:
    """From a script without a guard, by an interpreter that would look into the current folder first."""
    hostile, script, model = tmp_path / "hostile", tmp_path / "script.py", tmp_path / "model.onnx"
    hostile.mkdir()
    for name in ("cv2", "numpy", "grafiqs", "random", "sitecustomize", "usercustomize", "resource"):
        (hostile / f"{name}.py").write_text("open('canary', 'w').close()\n")
    model.write_bytes(YUNET.read_bytes() if YUNET.exists() else relu_model())
    script.write_text(
        "import logging, sys, pathlib, grafiqs.faces.detector, grafiqs.errors\n"
        "logging.basicConfig()\n"
        "sys.path[:0] = ['', '.', sys.argv[2]]\n"
        "try:\n"
        "    grafiqs.faces.detector.Detector(pathlib.Path(sys.argv[1]))\n"
        "    print('fine')\n"
        "except grafiqs.errors.RequestError:\n"
        "    print('refused')\n"
    )
    environment = {
        "PYTHONWARNINGS": "error",
        "PYTHONSTARTUP": "cv2.py",
        "OPENCV_LOG_LEVEL": "DEBUG",
        "PYTHONINSPECT": "",
    }
    done = subprocess.run(
        [sys.executable, "-X", "utf8", str(script), str(model), str(hostile)],
        cwd=hostile,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("fine\n" if YUNET.exists() else "refused\n", "")
    assert not (hostile / "canary").exists()


def test_a_detector_that_cannot_be_opened_is_refused(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    for place, why in ((tmp_path, errno.EISDIR), (tmp_path / "none.onnx", errno.ENOENT)):
        said = refused(capsys, photos, tmp_path / "crops", "--detector", place)
        assert said == f"grafiqs: cannot read the face detector {place}: {os.strerror(why)}\n"


@real
def test_of_several_faces_the_largest_near_the_centre_is_taken(detector: Detector) -> None:
    """A large face in the middle, a small one beside it, and a larger one than that in a corner."""
    faces = [decode(path.read_bytes())[50:200, 50:200] for path in sorted(PHOTOS.glob("*/*_0001.jpg"))[:3]]
    canvas = np.full((700, 1000, 3), 127, np.uint8)
    places = {"large": (150, 330, 300), "corner": (490, 790, 210), "small": (300, 640, 150)}
    for (top, left, side), face in zip(places.values(), faces, strict=True):
        canvas[top : top + side, left : left + side] = cv2.resize(face, (side, side))
    points = np.array(detector.face("", canvas).points).reshape(5, 2)
    top, left, side = places["large"]
    assert (points > (left, top)).all()
    assert (points < (left + side, top + side)).all()
    canvas[top : top + side, left : left + side] = 127
    points = np.array(detector.face("", canvas).points).reshape(5, 2)
    top, left, side = places["small"]
    assert (points > (left, top)).all()
    assert (points < (left + side, top + side)).all()


@real
@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0, 12.0])
def test_a_face_is_found_in_a_photo_of_any_size(scale: float, detector: Detector) -> None:
    source = decode(next(iter(sorted(PHOTOS.glob("*/*_0001.jpg")))).read_bytes())
    side = round(250 * scale)
    face = detector.face("", cv2.resize(source, (side, side), interpolation=cv2.INTER_AREA if scale < 1 else 1))
    usual = detector.face("", source)
    factor = side / 250
    expected = (np.array(usual.points) + 0.5) * factor - 0.5
    assert np.abs(np.array(face.points) - expected).max() < 5 * factor


@real
@pytest.mark.parametrize("side", [500, 1000, 2000])
def test_a_small_face_in_a_large_photo_is_aligned_as_it_is_in_a_small_one(side: int, detector: Detector) -> None:
    """To a few pixels of its crop: where its own landmarks, by the others, would lie off the template."""
    distances = []
    for path in sorted(PHOTOS.glob("*/*_0001.jpg"))[:9]:
        source, margin = decode(path.read_bytes()), side // 2 - 125
        large = np.full((side, side, 3), 127, np.uint8)
        large[margin : margin + 250, margin : margin + 250] = source
        alone, among = (np.array(detector.face("", one).points).reshape(5, 2) for one in (source, large))
        matrices = (similarity(points) for points in (alone, among - margin))
        distances.append(np.abs(np.subtract(*(moved(matrix, alone) for matrix in matrices))).mean())
    assert np.median(distances) < 4
    assert max(distances) < 8


@real
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1, 40_000), (20_000, 2), (31, 33)])
def test_in_pictures_of_strange_sizes_no_face_is_found(size: tuple[int, int], detector: Detector) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    with pytest.raises(UnreadableSampleError, match="no face was found in it"):
        detector.face("", noise)


@real
def test_a_face_beside_the_centre_is_not_given_up_for_a_small_one_in_it(detector: Detector) -> None:
    """As in a portrait with a passer-by behind, or two people side by side."""
    face, other = (decode(path.read_bytes())[50:200, 50:200] for path in sorted(PHOTOS.glob("*/*_0001.jpg"))[:2])
    canvas = np.full((700, 1000, 3), 127, np.uint8)
    canvas[150:550, 100:500] = cv2.resize(face, (400, 400))
    canvas[310:390, 510:590] = cv2.resize(other, (80, 80))
    points = np.array(detector.face("", canvas).points).reshape(5, 2)
    assert (points > (100, 150)).all()
    assert (points < (500, 550)).all()
