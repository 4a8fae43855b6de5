"""Photos with faces in known places, and tables of their landmarks."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from grafiqs.cli import main
from grafiqs.faces.face import POINTS, Face
from grafiqs.faces.template import SIZE
from support.making import REAL, tree

Capture = pytest.CaptureFixture[str]


Points = NDArray[np.float64]


Pixels = NDArray[np.uint8]


CROP = (SIZE, SIZE)


HEADER = ("path", *POINTS)


YUNET = REAL / "detectors" / "yunet_n_dynamic.onnx"


PHOTOS = REAL / "faces" / "lfw158_raw250"


ALIGNED = REAL / "faces" / "glint24"


real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real faces in {REAL}")


def run(*arguments: object) -> int:
    """The exit code of `align`; argparse leaves by SystemExit."""
    try:
        return main(["align", *map(str, arguments)])
    except SystemExit as stop:
        return int(stop.code or 0)


def refused(capsys: Capture, *arguments: object) -> str:
    """Run an alignment that is to be refused, exit code 2; returns what it says."""
    capsys.readouterr()
    code = run(*arguments, "--quiet")
    said = capsys.readouterr()
    assert (code, said.out) == (2, ""), said
    assert said.err.startswith("grafiqs")
    assert "Traceback" not in said.err
    return said.err


def face_of(points: Points) -> Face:
    return Face(tuple(points.ravel().tolist()))


def known(scale: float, angle: float, centre: tuple[float, float]) -> Points:
    """The similarity (2, 3) that brings the middle of a crop to `centre`, turned and scaled."""
    turn = scale * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    return np.column_stack([turn, np.array(centre) - turn @ (SIZE / 2, SIZE / 2)])


def moved(matrix: Points, points: Points) -> Points:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def photo(crop: Pixels, matrix: Points, size: tuple[int, int]) -> Pixels:
    """A photo of this height and width in which the crop lies where the matrix brings it."""
    return np.asarray(cv2.warpAffine(crop, matrix, size[::-1], flags=cv2.INTER_CUBIC), np.uint8)


def table_text(points: Mapping[str, Points]) -> str:
    """A table of landmarks by path."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows([HEADER, *([path, *found.ravel().tolist()] for path, found in points.items())])
    return text.getvalue()


def write_table(path: Path, points: Mapping[str, Points]) -> Path:
    path.write_bytes(table_text(points).encode("utf-8", "surrogateescape"))
    return path


def pixels(path: Path) -> Pixels:
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGB", CROP)
        return np.array(image)


def crops_of(folder: Path) -> dict[str, bytes]:
    return {path: data for path, data in tree(folder).items() if path.endswith(".png")}


def without_journal(folder: Path) -> dict[str, bytes]:
    """All that an alignment leaves, but for its notes of what is done."""
    return {path: data for path, data in tree(folder).items() if path != "progress.jsonl"}


def slow_reference(source: Pixels, matrix: Points) -> Points:
    """The crop by bilinear interpolation in float64, a sample at each pixel's centre, black beyond the picture."""
    inverse = np.linalg.inv(np.vstack([matrix, (0, 0, 1)]))[:2]
    rows, columns = np.mgrid[:SIZE, :SIZE]
    places = moved(inverse, np.stack([columns, rows], axis=-1).reshape(-1, 2)) + 1
    padded = np.pad(source.astype(np.float64), [(1, 1), (1, 1), (0, 0)])
    x, y = (places[:, axis].clip(0, padded.shape[1 - axis] - 1.001) for axis in (0, 1))
    left, top = x.astype(int), y.astype(int)
    right_share, lower_share = (x - left)[:, None], (y - top)[:, None]
    upper, lower = (
        (1 - right_share) * padded[row, left] + right_share * padded[row, left + 1] for row in (top, top + 1)
    )
    return np.asarray(((1 - lower_share) * upper + lower_share * lower).reshape(SIZE, SIZE, 3))


PEOPLE = {"ann": 3, "bob": 2, "cyd": 1}
"""How many photos each identity has, beside those that cannot be aligned."""


UNREADABLE, UNKNOWN = "bob/9.png", "cyd/8.png"
"""A photo that is none, and one that the table does not know: the sixth and the eighth of eight."""


def where(number: int) -> Points:
    """Where the face in a photo lies."""
    return known(0.8 + 0.25 * number, 0.2 * number - 0.5, (125.0, 110.0 + number))


def command(photos: Path, output: Path, table: Path, *more: object) -> list[str]:
    """An alignment as `main` takes it."""
    return ["align", *map(str, (photos, output, "--landmarks", table, "--quiet", *more))]


def hostile(identity: str, name: str) -> dict[str, Any]:
    """The subset of an align.json whose only crop is this; its hash is right."""
    digest = hashlib.sha256(f"{identity}\0{name}\0".encode()).hexdigest()
    counts = {"identities": 1, "chosen": 1, "available": 1, "insufficient": {}, "count": 1}
    return {"sha256": digest, **counts, "samples": {identity: {name: "ann/0.png"}}}
