"""Faces that a detector of the tests' own finds: five dots in colours that nothing else has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grafiqs.faces.detector import Detector
from grafiqs.faces.template import LANDMARKS
from grafiqs.faces.turns import SAME, TURNS, overlap, turned, turned_back

_RED, _BLUE = 250, 5
"""What of each dot is the same, beside its number and that of its face."""


def marked(size: tuple[int, int], places: Sequence[tuple[int, int, float]], turn: int = 0) -> NDArray[np.uint8]:
    """A picture of this height and width with upright faces at x and y, of a scale, turned counter-clockwise then."""
    picture = np.full((*size, 3), 128, np.uint8)
    picture[::7, ::5] = 90
    for face, (left, top, scale) in enumerate(places):
        for dot, (x, y) in enumerate((LANDMARKS * scale).round().astype(int)):
            picture[top + y, left + x] = (_RED, 10 * face + dot, _BLUE)
    return np.ascontiguousarray(np.rot90(picture, turn // 90))


def found(_detector: object, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What such a detector finds, (N, 15): a face that does not stand upright scores less, and its eyes are mixed up.

    As a real one does, it gives whatever stands left in the picture first.
    """
    ys, xs = np.nonzero((pixels[:, :, 0] == _RED) & (pixels[:, :, 2] == _BLUE))
    faces: dict[int, dict[int, tuple[int, int]]] = {}
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        number, dot = divmod(int(pixels[y, x, 1]), 10)
        faces.setdefault(number, {})[dot] = (x, y)
    rows = []
    for dots in faces.values():
        if len(dots) == 5:
            points = np.array([dots[dot] for dot in range(5)], np.float64)
            upright = points[3:, 1].min() > points[:2, 1].max()
            if not upright:
                points = points[[1, 0, 2, 4, 3]]
            start, sides = points.min(axis=0), np.ptp(points, axis=0)
            rows.append([*start, *sides, *points.ravel(), 0.95 if upright else 0.85])
    return np.array(rows, np.float64).reshape(-1, 15)


def near(_detector: object, pixels: NDArray[np.uint8], face: NDArray[np.float64]) -> dict[int, float]:
    """What one of these faces scores in each turn: it cannot be looked at from near, where its dots are gone."""
    faces = {
        turn: [turned_back(row, turn, pixels.shape) for row in found(None, turned(pixels, turn))] for turn in TURNS
    }
    return {
        turn: max((row[14] for row in rows if overlap(row, face) > SAME), default=0) for turn, rows in faces.items()
    }


def detector(monkeypatch: Any, folder: Path) -> Path:
    """A file that this process takes for a YuNet model, and that finds such faces."""
    monkeypatch.setattr(Detector, "_found", found)
    monkeypatch.setattr(Detector, "_near", near)
    monkeypatch.setattr("grafiqs.faces.detector.survive", lambda _: None)
    (folder / "dots.onnx").write_bytes(b"dots")
    return folder / "dots.onnx"


def save(picture: NDArray[np.uint8], path: Path) -> None:
    """Write a picture, its folders, too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
