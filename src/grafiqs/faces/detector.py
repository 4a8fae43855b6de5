"""Faces and their landmarks, found by a YuNet model that the user brings (OpenCV's FaceDetectorYN)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from grafiqs.disk import files
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.faces.face import Face
from grafiqs.faces.turns import SAME, TURNS, overlap, surroundings, turned, turned_back
from grafiqs.faces.yunet import SCORE, detected, opened, survive
from grafiqs.settings import held

SURE = 0.92
"""A face that scores less may stand on its head, or lie: the picture is looked at in all four turns.

Of 1,580 photos of LFW and 1,172 crops of Glint360k (2026-11-26), turned by 90, 180 and 270 degrees, none scored more
than 0.918; upright, 95 and 75 % scored 0.92 and more, and every one more than in any other turn.
"""

LOOKS = (112, 160, 224)
"""The sides, in pixels, at which the surroundings of a face are looked at if it scores more in another turn."""

CLEAR, MARGIN = 0.9, 0.025
"""A face is turned if the mean of these looks is so much, and so much more than in any other turn.

What was measured is in docs/backbones.md.
"""

SIDES = (320, 640, 1280)
"""The longer side of the picture, in pixels, when faces are looked for; the larger ones if none was found.

YuNet finds faces of 10 to 300 pixels. The first side shows it the largest face there can be; the others, small faces.
In a picture that was reduced, the face is looked at again from near: of 10 pixels, landmarks are not worth much.
"""

NEAR = 224
"""The longer side at which the surroundings of a face, twice its box, are looked at again."""

_DIGITS = 3
"""Decimals of a pixel to which boxes and landmarks are rounded, before they are used: what align.csv says, was done."""

_making = threading.Lock()

_own = threading.local()
"""The models of each thread: they keep the picture they are at work on."""


class Detector:
    """A face detector, identified by the bytes of its model. Raises RequestError when the file is not a YuNet model.

    OpenCV dies of some damaged files, and would take this process with it: so a process of its own opens them first.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._model = files.read(path)
        except OSError as error:
            raise RequestError(f"cannot read the face detector {shown(path)}: {error.strerror}") from error
        self.sha256 = hashlib.sha256(self._model).hexdigest()
        try:
            survive(self._model)
            self._found(np.zeros((64, 64, 3), np.uint8))
        except (cv2.error, ArithmeticError, LookupError, RuntimeError, SystemError, TypeError, ValueError) as error:
            raise RequestError(
                f"{shown(path)} is not a YuNet detector that OpenCV {cv2.__version__} can run, or is damaged: get it "
                "again, or give another .onnx file, such as face_detection_yunet_2023mar.onnx of OpenCV's model zoo; "
                "one with dynamic shapes takes OpenCV 5"
            ) from error

    def __str__(self) -> str:
        return f"YuNet (SHA-256 {self.sha256})"

    def check(self, locations: Iterable[str]) -> None:
        """Nothing: it looks at pictures, whatever they are called."""

    def source(self) -> dict[str, Any]:
        """What decides which faces are found."""
        return {
            "detector": "YuNet",
            "sha256": self.sha256,
            "score": SCORE,
            "sides": list(SIDES),
            "near": NEAR,
            "turns": list(TURNS),
            "sure": SURE,
            "looks": list(LOOKS),
            "clear": CLEAR,
            "margin": MARGIN,
        }

    def face(self, location: str, pixels: NDArray[np.uint8]) -> Face:  # noqa: ARG002
        """The face that a picture, RGB (H, W, 3), is of: of several, the largest near the centre.

        An area counts in full in the centre of the picture, and the less, the farther from it, down to nothing in a
        corner. If it does not score SURE, the picture is looked at in all four turns, and turned if one of them wins
        clearly; box and landmarks are in pixels of the picture as it came. Raises UnreadableSampleError when there is
        none.
        """
        _, found, unsure = self._upright(pixels)
        return _face(found, unsure)

    def faces(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """Every face in a picture, RGB (H, W, 3): the one that `face` gives, then the others, the largest box first.

        They stand as that one does, but for those that clearly stand in another turn. Raises UnreadableSampleError
        when there is none.
        """
        usual, first, unsure = self._upright(pixels)
        known = [first]
        faces = []
        for group in self._groups(pixels, usual):
            if all(overlap(group[turn], other) <= SAME for turn in group for other in known):
                turn, sure = self._turn_of(pixels, group, usual)
                # What is found in another turn alone, and is not clear, is most often no face.
                if turn == usual or sure:
                    known.append(group[turn])
                    faces.append(_face(group[turn], not sure))
        return [_face(first, unsure), *sorted(faces, key=_by_size)]

    def _groups(self, pixels: NDArray[np.uint8], usual: int) -> list[dict[int, NDArray[np.float64]]]:
        """The faces of a picture, by turn, in pixels of it as it came: first those that are found in the usual one."""
        longer = max(pixels.shape[:2])
        groups: list[dict[int, NDArray[np.float64]]] = []
        for turn in sorted(TURNS, key=lambda turn: turn != usual):
            picture = turned(pixels, turn)
            for side in SIDES:
                for found in self._looked(picture, side):
                    face = found if side >= longer else self._again(picture, found)
                    face = face if overlap(face, found) > SAME else found  # seen from near, it is its neighbour
                    face = turned_back(face, turn, pixels.shape)
                    same = [group for group in groups if any(overlap(face, other) > SAME for other in group.values())]
                    if not same:
                        groups.append({turn: face})
                    elif turn not in same[0]:
                        same[0][turn] = face
                if side >= longer:
                    break
        return groups

    def _upright(self, pixels: NDArray[np.uint8]) -> tuple[int, NDArray[np.float64], bool]:
        """The face of a picture, in pixels of it as it came, in which turn it stands, and whether that is unsure.

        Raises UnreadableSampleError when there is none.
        """
        every: dict[int, NDArray[np.float64]] = {}
        for turn in TURNS:
            picture = turned(pixels, turn)
            like = turned_back(every[0], -turn % 360, picture.shape) if 0 in every else None
            found = self._main(picture, like)
            if found is not None:
                every[turn] = turned_back(found, turn, pixels.shape)
                if turn == 0 and found[14] >= SURE:
                    break
        if not every:
            raise UnreadableSampleError("no face was found in it")
        if 0 not in every:
            turn, sure = self._turn_of(pixels, every, 0)
            return turn, every[turn], not sure
        unsure = False
        for turn in sorted(every, key=lambda turn: -every[turn][14]):  # of equals the first
            if turn == 0:
                break
            _, sure = self._turn_of(pixels, {turn: every[turn]}, 0)
            if sure:
                return turn, every[turn], False
            unsure |= overlap(every[0], every[turn]) > SAME  # of another face it says nothing
        return 0, every[0], unsure

    def _turn_of(
        self, pixels: NDArray[np.uint8], group: dict[int, NDArray[np.float64]], usual: int
    ) -> tuple[int, bool]:
        """In which turn a face stands that was found in these, and whether that is sure: the usual one, if in doubt.

        The scores of one look are no measure: upright faces that are cut off below the mouth score more upside down.
        """
        best = max(group, key=lambda turn: (group[turn][14], turn == usual))
        if best == usual:
            return usual, True
        scores = self._near(pixels, group[best])
        clear = scores[best] >= CLEAR and scores[best] - max(scores[turn] for turn in TURNS if turn != best) >= MARGIN
        return (best, True) if clear else (usual if usual in group else best, False)

    def _near(self, pixels: NDArray[np.uint8], face: NDArray[np.float64]) -> dict[int, float]:
        """What a face scores in each turn of its surroundings: the mean of looks at several sizes, 0 if not found."""
        square = surroundings(pixels, face, max(LOOKS))
        scores = dict.fromkeys(TURNS, 0.0)
        for side in LOOKS if square is not None else ():
            picture = cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)
            for turn in TURNS:
                found = self._found(turned(picture, turn))
                central = np.abs(found[:, :2] + found[:, 2:4] / 2 - side / 2).max(axis=1, initial=0) < side / 4
                scores[turn] += float(found[central, 14].max(initial=0)) / len(LOOKS)
        return scores

    def _main(self, pixels: NDArray[np.uint8], like: NDArray[np.float64] | None = None) -> NDArray[np.float64] | None:
        """The largest face near the centre of a picture as it stands, or the one that is there; None if there is none.

        There is where it was seen in another turn: beside a face that stands otherwise, it may not be the largest.
        """
        height, width, _ = pixels.shape
        for side in SIDES:
            found = self._looked(pixels, side)
            if len(found):
                there = np.array([like is not None and overlap(face, like) > SAME for face in found])
                best = _largest_near_centre(found[there] if there.any() else found, (width, height))
                return best if side >= max(height, width) else self._again(pixels, best)
            if side >= max(height, width):
                break
        return None

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
            logger = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 has them there, 4 has not
            # It would say on standard error what it makes of a model; whatever matters raises.
            with _making, held(logger.getLogLevel, logger.setLogLevel, 0):
                models[self.sha256] = opened(self._model)
        found = detected(models[self.sha256], pixels)
        return np.asarray(found[np.isfinite(found).all(axis=1)], np.float64)


def _largest_near_centre(found: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """One of the faces in a picture of `size`, width and height."""
    off_centre = found[:, :2] + found[:, 2:4] / 2 - np.array(size) / 2
    distance = np.hypot(*off_centre.T) / (np.hypot(*size) / 2)  # 0 in the centre, 1 in a corner
    return np.array(found[(found[:, 2] * found[:, 3] * (1 - distance)).argmax()])


def _by_size(face: Face) -> tuple[float, ...]:
    """The key that orders faces: the largest box first, and of equal ones the leftmost."""
    x, y, width, height = face.box or (0.0,) * 4
    return -width * height, x, y


def _face(found: NDArray[np.float64], unsure: bool) -> Face:
    box, points = (tuple(values.round(_DIGITS).tolist()) for values in (found[:4], found[4:14]))
    return Face(points, box, round(float(found[14]), 4), unsure)
