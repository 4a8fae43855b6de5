"""Landmarks that are known already: a table of five points a sample."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.disk import files
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.faces.face import BOX, POINTS, Face
from grafiqs.faces.template import LANDMARKS, similarity

_LIKE_A_FACE = 14.0
"""Landmarks that lie farther from the template are not a face's.

Those of 1,580 photos of LFW lie up to 12.9 pixels off, those of a head turned until both eyes nearly meet 13.5, points
on a line 14.9, and with right and left exchanged 18.6 or more (2026-11-25).
"""


class Landmarks:
    """A table of landmarks (.csv), by the path of the sample in its data set.

    Its first line names the columns, `path`, x1, y1 to x5, y5, and perhaps x, y, width, height and score, in any order
    and among others (an align.csv is such a table); without such a line, it has path and ten numbers.
    Raises RequestError when it cannot be read, or does not hold five points a sample, left in the picture first.
    """

    def __init__(self, path: Path) -> None:
        try:
            data = files.read(path)
        except OSError as error:
            raise RequestError(f"cannot read the landmarks {shown(path)}: {error.strerror}") from error
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._path = path
        self._places: dict[str, int] = {}
        points, boxes = array("d"), array("d")  # a million faces are 120 MB
        try:
            for line, location, own_points, own_box in _rows(data):
                if location in self._places:
                    raise ValueError(f"line {line} names {shown(location)} a second time")
                self._places[location] = len(self._places)
                points.extend(own_points)
                boxes.extend(own_box)
        except (ValueError, csv.Error) as error:
            raise RequestError(f"{shown(path)} is not a table of landmarks: {error}") from error
        if not self._places:
            raise RequestError(f"{shown(path)} is not a table of landmarks: it has no rows")
        self._points = np.frombuffer(points).reshape(-1, 5, 2)
        self._boxes = np.frombuffer(boxes).reshape(-1, 5)
        if np.median((self._points >= 0).all(axis=(1, 2)) & (self._points <= 1).all(axis=(1, 2))) == 1:
            raise RequestError(f"{shown(path)} has shares of the picture, from 0 to 1, where pixels are needed")
        mirrored = int((_likeness(self._points[:, [1, 0, 2, 4, 3]]) > _likeness(self._points)).sum())
        if mirrored > len(self._places) / 2:
            raise RequestError(
                f"{shown(path)} has the right eye first, as {mirrored} of {len(self._places)} faces show: the order is "
                "left eye, right eye, nose, left and right corner of the mouth, left and right as seen in the picture"
            )

    def __str__(self) -> str:
        return f"{shown(self._path.name)} (SHA-256 {self.sha256})"

    def check(self, locations: Iterable[str]) -> None:
        """Raise RequestError when the table has none of these samples."""
        first = ""
        for location in locations:
            if location in self._places:
                return
            first = first or location
        raise RequestError(
            f"{shown(self._path)} has none of the images: it names {shown(next(iter(self._places)))}, and the data set "
            f"{shown(first)}; paths are relative to the data set"
        )

    def source(self) -> dict[str, Any]:
        """What decides where the faces are."""
        return {"landmarks": "a table", "sha256": self.sha256}

    def face(self, location: str, pixels: NDArray[np.uint8]) -> Face:  # noqa: ARG002
        """The face that the table has for a sample. Raises UnreadableSampleError when it has none."""
        place = self._places.get(location)
        if place is None:
            raise UnreadableSampleError("the table of landmarks has none for it")
        off = _off_template(self._points[place])
        if off > _LIKE_A_FACE:
            raise UnreadableSampleError(f"its landmarks do not lie like a face's: {off:.0f} pixels off the template")
        points, (*box, score) = self._points[place].flatten().tolist(), self._boxes[place].tolist()
        return Face(tuple(points)) if math.isnan(score) else Face(tuple(points), tuple(box), score)


def _rows(data: bytes) -> Iterator[tuple[int, str, list[float], list[float]]]:
    """Line, path, points, and box and score (or NaN) of every row. Raises ValueError, or csv.Error."""
    lines = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", "surrogateescape", newline="")
    rows = csv.reader(lines, strict=True)
    columns: dict[str, int] | None = None
    for row in rows:
        if not row:
            continue
        if columns is None:
            columns = {name.strip(): place for place, name in enumerate(row)}
            if len(row) == 1 and any(separator in row[0] for separator in ";\t"):
                raise ValueError("its columns have semicolons or tabs between them, where commas are needed")
            twice = [name for name in ("path", *POINTS, *BOX) if [word.strip() for word in row].count(name) > 1]
            if twice:
                raise ValueError(f"it has two columns {twice[0]}")
            if "path" in columns:
                missing = [name for name in POINTS if name not in columns]
                if missing:
                    raise ValueError(f"it has no column {', '.join(missing)}")
                continue
            if len(row) != 1 + len(POINTS):
                raise ValueError(f"line 1 has neither a column 'path' nor a path and {len(POINTS)} numbers")
            if {*POINTS} & columns.keys():
                raise ValueError("it has no column 'path'")
            columns = {name: place for place, name in enumerate(("path", *POINTS))}
        if len(row) <= max(columns.values()):
            raise ValueError(f"line {rows.line_num} has {len(row)} columns")
        values = {name: row[columns[name]].strip() for name in (*POINTS, *BOX) if name in columns}
        points = [_number(values[name], name, rows.line_num) for name in POINTS]
        detected = all(values.get(name) for name in BOX)
        box = [_number(values[name], name, rows.line_num) if detected else math.nan for name in BOX]
        yield rows.line_num, row[columns["path"]], points, box


def _number(text: str, name: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"line {line} has no number for {name}: {shown(repr(text))}")
    return value


def _off_template(points: NDArray[np.float64]) -> float:
    """How far points (5, 2) lie from the template when they are brought nearest to it, in pixels of the crop (RMS)."""
    if not np.ptp(points, axis=0).any():
        return 0.0  # all points coincide; `cut_out` reports that
    matrix = similarity(points)
    distances = points @ matrix[:, :2].T + matrix[:, 2] - LANDMARKS
    return float(np.sqrt((distances**2).sum(axis=1).mean()))


def _likeness(faces: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of the template turned, scaled and shifted copies of faces (N, 5, 2) explain; up to a common factor."""
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers that lie in no picture
        source, target = faces @ (1, 1j), LANDMARKS @ (1, 1j)
        found = np.abs((source - source.mean(axis=1, keepdims=True)).conj() @ (target - target.mean()))
    return np.asarray(found, np.float64)
