"""Landmarks that are known already: a table of the points of each sample's face."""

from __future__ import annotations

import hashlib
import io
import posixpath
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grafiqs.disk import files
from grafiqs.disk.delimited import TableError, TextTable
from grafiqs.disk.names import key, shown, without_extension
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.faces.face import BOX, Face
from grafiqs.faces.landmark_table import LIKE_A_FACE, off_template, told
from grafiqs.faces.template import LANDMARKS


class Landmarks:
    """A table of landmarks, by the path of the sample in its data set, with or without its extension.

    How it is read is told by `landmark_table`. A row that is wrong is no face: asking for it says why.
    Raises RequestError when it cannot be read, or has no row with the five points of a face, left in the picture first.
    """

    def __init__(self, path: Path) -> None:
        try:
            data = files.read(path)
        except OSError as error:
            raise RequestError(f"cannot read the landmarks {shown(path)}: {error.strerror}") from error
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._path = path
        self._places: dict[str, int] = {}
        self._wrong: dict[str, str] = {}
        points, boxes = array("d"), array("d")  # a million faces are 120 MB
        try:
            table = TextTable(lambda: io.BytesIO(data))
            self._columns = told(table)
            for row in self._columns.rows(table):
                name = _plain(row.path)
                if name in self._places or name in self._wrong:
                    self._wrong[name] = "the table of landmarks has it more than once"
                    self._places.pop(name, None)
                elif row.points is None:
                    self._wrong[name] = row.reason
                else:
                    self._places[name] = len(points) // LANDMARKS.size
                    points.extend(row.points.ravel())
                    boxes.extend(row.box or [np.nan] * len(BOX))
        except TableError as error:
            reason = f"{error}" if str(error).startswith("line ") else f"it {error}"
            raise RequestError(f"{shown(path)} is not a table of landmarks: {reason}") from error
        if not self._places:
            reason = next(iter(self._wrong.values()), "it has no rows")
            raise RequestError(f"{shown(path)} is not a table of landmarks: {reason}")
        self._points = np.frombuffer(points).reshape(-1, *LANDMARKS.shape)
        self._boxes = np.frombuffer(boxes).reshape(-1, len(BOX))
        if np.median((self._points >= 0).all(axis=(1, 2)) & (self._points <= 1).all(axis=(1, 2))) == 1:
            raise RequestError(f"{shown(path)} has shares of the picture, from 0 to 1, where pixels are needed")
        mirrored = int((_likeness(self._points[:, [1, 0, 2, 4, 3]]) > _likeness(self._points)).sum())
        if mirrored > len(self._points) / 2:
            raise RequestError(
                f"{shown(path)} has the right eye first, as {mirrored} of {len(self._points)} faces show: the order is "
                "left eye, right eye, nose, left and right corner of the mouth, left and right as seen in the picture"
            )

    def __str__(self) -> str:
        return f"{shown(self._path.name)} (SHA-256 {self.sha256}): {self._columns}"

    def check(self, locations: Iterable[str]) -> None:
        """Raise RequestError when the table has none of these samples, or one row for two of them."""
        owners: dict[str, str] = {}
        first = ""
        for location in locations:
            first = first or location
            row = self._row(location)
            if row is None:
                continue
            if owners.setdefault(row, location) != location:
                raise RequestError(
                    f"{shown(self._path)} names {shown(row)} without an extension, and the data set has "
                    f"{shown(owners[row])} and {shown(location)}: name each with its own"
                )
        if not owners:
            known = next(iter({**self._places, **self._wrong}))
            raise RequestError(
                f"{shown(self._path)} has none of the images: it names {shown(known)}, and the data set {shown(first)}"
                "; paths are relative to the data set"
            )

    def source(self) -> dict[str, Any]:
        """What decides where the faces are."""
        return {"landmarks": "a table", "sha256": self.sha256}

    def face(self, location: str, pixels: NDArray[np.uint8]) -> Face:  # noqa: ARG002
        """The face that the table has for a sample. Raises UnreadableSampleError when it has none."""
        row = self._row(location)
        if row is None:
            raise UnreadableSampleError("the table of landmarks has none for it")
        if row in self._wrong:
            raise UnreadableSampleError(self._wrong[row])
        place = self._places[row]
        off = float(off_template(self._points[[place]])[0])
        if off > LIKE_A_FACE:
            raise UnreadableSampleError(f"its landmarks do not lie like a face's: {off:.0f} pixels off the template")
        points, (*box, score) = self._points[place].flatten().tolist(), self._boxes[place].tolist()
        return Face(tuple(points)) if np.isnan(score) else Face(tuple(points), tuple(box), score)

    def _row(self, location: str) -> str | None:
        """The name under which the table has a sample, if it has it."""
        name = _plain(location)
        return next((one for one in (name, without_extension(name)) if one in self._places or one in self._wrong), None)


def _plain(path: str) -> str:
    """A path as those of tables and data sets are compared."""
    return posixpath.normpath(key(path.strip()).replace("\\", "/"))


def _likeness(faces: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much of the template turned, scaled and shifted copies of faces (N, 5, 2) explain; up to a common factor."""
    with np.errstate(over="ignore", invalid="ignore"):  # of numbers that lie in no picture
        source, target = faces @ (1, 1j), LANDMARKS @ (1, 1j)
        found = np.abs((source - source.mean(axis=1, keepdims=True)).conj() @ (target - target.mean()))
    return np.asarray(found, np.float64)
