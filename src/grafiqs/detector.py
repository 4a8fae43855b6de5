"""Faces and their landmarks, found by a YuNet model that the user brings (OpenCV's FaceDetectorYN)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from grafiqs.alignment import Face
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.names import shown
from grafiqs.run import files

SCORE = 0.6
"""What scores less is no face."""

SIDES = (320, 640, 1280)
"""The longer side of the picture, in pixels, when faces are looked for; the larger ones where none was found.

YuNet finds faces of 10 to 300 pixels. The first side shows it the largest face there can be; the others, small faces.
In a picture that was reduced, the face is looked at again from near: of 10 pixels, landmarks are not worth much.
"""

NEAR = 224
"""The longer side at which the surroundings of a face, twice its box, are looked at again."""

_OVERLAP, _MOST = 0.3, 5000  # OpenCV's own: which boxes are of one face, and how many are looked at
_DIGITS = 3
"""Decimals of a pixel to which boxes and landmarks are rounded, before they are used: what align.csv says, was done."""

_making = threading.Lock()

_own = threading.local()
"""The models of each thread: they keep the picture they are at work on."""


class Detector:
    """A face detector, told by the bytes of its model. Raises RequestError when the file is no YuNet model."""

    def __init__(self, path: Path) -> None:
        try:
            self._model = files.read(path)
        except OSError as error:
            raise RequestError(f"cannot read the face detector {shown(path)}: {error.strerror}") from error
        self.sha256 = hashlib.sha256(self._model).hexdigest()
        try:
            self._found(np.zeros((64, 64, 3), np.uint8))
        except (cv2.error, ArithmeticError, LookupError, RuntimeError, SystemError, TypeError, ValueError) as error:
            raise RequestError(
                f"{shown(path)} is no YuNet face detector that OpenCV {cv2.__version__} can run: "
                "it takes an .onnx file such as face_detection_yunet_2023mar.onnx of OpenCV's model zoo; one with "
                "dynamic shapes takes OpenCV 5"
            ) from error

    def __str__(self) -> str:
        return f"YuNet (SHA-256 {self.sha256})"

    def check(self, locations: Iterable[str]) -> None:
        """Nothing: it looks at pictures, whatever they are called."""

    def source(self) -> dict[str, Any]:
        """What decides which faces are found."""
        return {"detector": "YuNet", "sha256": self.sha256, "score": SCORE, "sides": list(SIDES), "near": NEAR}

    def face(self, location: str, pixels: NDArray[np.uint8]) -> Face:  # noqa: ARG002
        """The face that a picture, RGB (H, W, 3), is of: of several, the largest near the centre.

        An area counts in full in the centre of the picture, and the less, the farther from it, down to nothing in a
        corner. Raises UnreadableSampleError when there is none.
        """
        height, width, _ = pixels.shape
        for side in SIDES:
            found = self._looked(pixels, side)
            if len(found):
                best = _largest_near_centre(found, (width, height))
                return _face(best if side >= max(height, width) else self._again(pixels, best))
            if side >= max(height, width):
                break
        raise UnreadableSampleError("no face was found in it")

    def _looked(self, pixels: NDArray[np.uint8], side: int) -> NDArray[np.float64]:
        """The faces in a picture that is reduced to a longer side of at most `side`, in pixels of the picture."""
        height, width, _ = pixels.shape
        scale = side / max(height, width)
        if scale >= 1:
            return self._found(pixels)
        sides = [max(1, round(length * scale)) for length in (width, height)]
        found = self._found(cv2.resize(pixels, sides, interpolation=cv2.INTER_AREA))
        factors = np.array((width, height)) / sides
        found[:, :4] *= np.tile(factors, 2)
        found[:, 4:14] = (found[:, 4:14] + 0.5) * np.tile(factors, 5) - 0.5
        return found

    def _again(self, pixels: NDArray[np.uint8], face: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same face, found again in its surroundings, where more of its pixels are seen: twice its box."""
        height, width, _ = pixels.shape
        x, y, across, down = face[:4]
        left, top = (max(0, int(start)) for start in (x - across / 2, y - down / 2))
        right, bottom = (min(width, int(x + 1.5 * across) + 1), min(height, int(y + 1.5 * down) + 1))
        if right <= left or bottom <= top:
            return face
        found = self._looked(pixels[top:bottom, left:right], NEAR)
        if not len(found):
            return face
        best = _largest_near_centre(found, (right - left, bottom - top))
        best[:2] += (left, top)
        best[4:14] += np.tile((left, top), 5)
        return best

    def _found(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The faces in a picture, (N, 15): box, landmarks, score."""
        models = _own.__dict__.setdefault("models", {})
        if self.sha256 not in models:
            with _making, _quiet():
                models[self.sha256] = cv2.FaceDetectorYN.create(
                    "onnx",
                    np.frombuffer(self._model, np.uint8),
                    np.empty(0, np.uint8),
                    (64, 64),
                    SCORE,
                    _OVERLAP,
                    _MOST,
                )
        model = models[self.sha256]
        model.setInputSize(pixels.shape[1::-1])
        _, found = model.detect(np.ascontiguousarray(pixels[:, :, ::-1]))  # it was trained on BGR
        found = np.empty((0, 15)) if found is None else found.astype(np.float64)
        return np.asarray(found[np.isfinite(found).all(axis=1)], np.float64)


def _largest_near_centre(found: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """One of the faces in a picture of `size`, width and height."""
    off_centre = found[:, :2] + found[:, 2:4] / 2 - np.array(size) / 2
    distance = np.hypot(*off_centre.T) / (np.hypot(*size) / 2)  # 0 in the centre, 1 in a corner
    return np.array(found[(found[:, 2] * found[:, 3] * (1 - distance)).argmax()])


def _face(found: NDArray[np.float64]) -> Face:
    box, points = (tuple(values.round(_DIGITS).tolist()) for values in (found[:4], found[4:14]))
    return Face(points, box, round(float(found[14]), 4))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep OpenCV from saying on standard error what it makes of a model: whatever matters raises."""
    logger = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 has them there, 4 has not
    level = logger.getLogLevel()
    logger.setLogLevel(0)
    try:
        yield
    finally:
        logger.setLogLevel(level)
