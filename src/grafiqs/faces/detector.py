"""Faces and their landmarks, found by a YuNet model that the user brings (OpenCV's FaceDetectorYN)."""

from __future__ import annotations

import hashlib
import logging
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from grafiqs.disk import files
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError, UnreadableSampleError
from grafiqs.faces.face import Face
from grafiqs.settings import held

log = logging.getLogger(__name__)

SCORE = 0.6
"""What scores less is not a face."""

SURE = 0.92
"""A face that scores less may stand on its head, or lie: the picture is looked at in all four turns.

Of 1,580 photos of LFW and 1,172 crops of Glint360k (2026-11-26), turned by 90, 180 and 270 degrees, none scored more
than 0.918; upright, 95 and 75 % scored 0.92 and more, and every one more than in any other turn.
"""

TURNS = (0, 90, 180, 270)
"""By how many degrees a picture is turned, clockwise."""

SIDES = (320, 640, 1280)
"""The longer side of the picture, in pixels, when faces are looked for; the larger ones if none was found.

YuNet finds faces of 10 to 300 pixels. The first side shows it the largest face there can be; the others, small faces.
In a picture that was reduced, the face is looked at again from near: of 10 pixels, landmarks are not worth much.
"""

NEAR = 224
"""The longer side at which the surroundings of a face, twice its box, are looked at again."""

_OVERLAP, _MOST = 0.3, 5000  # OpenCV's own: which boxes are of one face, and how many are looked at
_SAME = 0.5
"""Boxes that share more than this of the smaller one are of one face."""

_DIGITS = 3
"""Decimals of a pixel to which boxes and landmarks are rounded, before they are used: what align.csv says, was done."""

_TRIAL = "import sys; sys.path[:] = sys.argv[1:]; from grafiqs.faces.detector import _trial; _trial()"
"""What the process runs that a model is tried in; it says so when it begins with that."""

_BEGUN = b"the trial begins\n"
_PATIENCE = 60.0
"""Seconds that a trial may last; as a rule it is half of one."""

_ROOM = 4 * 2**30
"""Bytes of memory that a model may take in its trial, beside what OpenCV takes itself."""

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
            _survive(self._model)
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
        }

    def face(self, location: str, pixels: NDArray[np.uint8]) -> Face:  # noqa: ARG002
        """The face that a picture, RGB (H, W, 3), is of: of several, the largest near the centre.

        An area counts in full in the centre of the picture, and the less, the farther from it, down to nothing in a
        corner. If it does not score SURE, it is the one that scores most in four turns of the picture; box and
        landmarks are in pixels of the picture as it came. Raises UnreadableSampleError when there is none.
        """
        turn, found = self._upright(pixels)
        return _face(_turned_back(found, turn, pixels.shape))

    def faces(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """Every face in a picture, RGB (H, W, 3): the one that `face` gives, then the others, the largest box first.

        All stand as that one does: none is looked for in other turns. Raises UnreadableSampleError when there is none.
        """
        turn, first = self._upright(pixels)
        turned = _turned(pixels, turn)
        longer = max(pixels.shape[:2])
        every = [first]
        for side in SIDES:
            for found in self._looked(turned, side):
                face = found if side >= longer else self._again(turned, found)
                face = face if _overlap(face, found) > _SAME else found  # seen from near, it is its neighbour
                if all(_overlap(face, known) <= _SAME for known in every):
                    every.append(face)
            if side >= longer:
                break
        faces = [_face(_turned_back(found, turn, pixels.shape)) for found in every]
        return [faces[0], *sorted(faces[1:], key=_by_size)]

    def _upright(self, pixels: NDArray[np.uint8]) -> tuple[int, NDArray[np.float64]]:
        """The turn in which the face of a picture scores most, and that face in the picture turned so.

        Raises UnreadableSampleError when there is none.
        """
        found = self._main(pixels)
        every = {} if found is None else {0: found}
        if found is None or found[14] < SURE:
            for turn in TURNS[1:]:
                found = self._main(_turned(pixels, turn))
                every |= {} if found is None else {turn: found}
        if not every:
            raise UnreadableSampleError("no face was found in it")
        turn = max(every, key=lambda turn: every[turn][14])  # of equals the first
        return turn, every[turn]

    def _main(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64] | None:
        """The largest face near the centre of a picture as it stands; None if there is none."""
        height, width, _ = pixels.shape
        for side in SIDES:
            found = self._looked(pixels, side)
            if len(found):
                best = _largest_near_centre(found, (width, height))
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
                models[self.sha256] = _opened(self._model)
        found = _detected(models[self.sha256], pixels)
        return np.asarray(found[np.isfinite(found).all(axis=1)], np.float64)


def _opened(model: bytes) -> Any:
    """OpenCV's detector of the bytes of a model. Raises whatever OpenCV does."""
    data, no_configuration = np.frombuffer(model, np.uint8), np.empty(0, np.uint8)
    return cv2.FaceDetectorYN.create("onnx", data, no_configuration, (64, 64), SCORE, _OVERLAP, _MOST)


def _detected(detector: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What OpenCV's detector finds in a picture, (N, 15). Raises whatever OpenCV does."""
    detector.setInputSize(pixels.shape[1::-1])
    _, found = detector.detect(np.ascontiguousarray(pixels[:, :, ::-1]))  # it was trained on BGR
    return np.empty((0, 15)) if found is None else np.asarray(found, np.float64)


def _largest_near_centre(found: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """One of the faces in a picture of `size`, width and height."""
    off_centre = found[:, :2] + found[:, 2:4] / 2 - np.array(size) / 2
    distance = np.hypot(*off_centre.T) / (np.hypot(*size) / 2)  # 0 in the centre, 1 in a corner
    return np.array(found[(found[:, 2] * found[:, 3] * (1 - distance)).argmax()])


def _turned(pixels: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """A picture turned clockwise by one of TURNS."""
    return np.ascontiguousarray(np.rot90(pixels, -turn // 90))


def _turned_back(found: NDArray[np.float64], turn: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A face of the picture turned so, in pixels of the picture as it came, whose shape this is."""
    back = found.copy()
    for quarter in range(turn // 90, 0, -1):  # each undoes one; the width of the turned one is this side of the other
        across = shape[0] if quarter % 2 else shape[1]
        x, y, width, height = back[:4]
        back[:4] = y, across - 1 - (x + width), height, width
        back[4:14:2], back[5:14:2] = back[5:14:2].copy(), across - 1 - back[4:14:2]
    return back


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Which share of the smaller of two boxes lies in the larger one."""
    start = np.maximum(one[:2], other[:2])
    sides = np.minimum(one[:2] + one[2:4], other[:2] + other[2:4]) - start
    return float(sides.clip(0).prod() / max(min(one[2:4].prod(), other[2:4].prod()), 1e-9))


def _by_size(face: Face) -> tuple[float, ...]:
    """The key that orders faces: the largest box first, and of equal ones the leftmost."""
    x, y, width, height = face.box or (0.0,) * 4
    return -width * height, x, y


def _face(found: NDArray[np.float64]) -> Face:
    box, points = (tuple(values.round(_DIGITS).tolist()) for values in (found[:4], found[4:14]))
    return Face(points, box, round(float(found[14]), 4))


# -- in a process of its own -------------------------------------------------------------------------------


def _survive(model: bytes) -> None:
    """Raise RuntimeError when a process that opens a model, and looks at pictures with it, fails.

    It imports from where this process does, but for the current folder, and no variable of the environment changes it.
    If it does not get as far as the model, nothing is known of that, and a warning says so.
    """
    options = ["-I", "-X", f"utf8={sys.flags.utf8_mode}"]
    failed, said = True, b""
    try:
        done = subprocess.run(  # noqa: S603 - it is this interpreter
            [sys.executable, *options, "-c", _TRIAL, *_import_path()],
            input=model,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE,
            check=False,
        )
        failed, said, why = done.returncode != 0, done.stdout, f"exit code {done.returncode}"
    except subprocess.TimeoutExpired as error:
        said, why = error.stdout or b"", f"it was not done after {_PATIENCE:g} seconds"
    except (OSError, ValueError) as error:
        why = str(error)
    if _BEGUN not in said:
        log.warning(
            "the detector could not be tried in another process first (%s): a damaged one may end this one", why
        )
    elif failed:
        raise RuntimeError(f"the process that tried it failed: {why}")


def _import_path() -> list[str]:
    """Where this process imports from, but for the current folder, and where this package lies."""
    here = os.path.realpath(os.curdir)
    path = [entry for entry in sys.path if entry and os.path.realpath(entry) != here]
    return list(dict.fromkeys([*path, str(Path(__file__).parents[2])]))


def _trial() -> None:
    """What that process does: open the model on its standard input, and look at pictures, in bounds."""
    model = sys.stdin.buffer.read()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):  # if the system does not say what is taken, or has narrower bounds
        taken = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + _ROOM, resource.getrlimit(resource.RLIMIT_AS)[1]))
    cv2.setNumThreads(1)  # each would take memory
    sys.stdout.buffer.write(_BEGUN)
    sys.stdout.buffer.flush()
    detector = _opened(model)
    for side in (64, SIDES[0]):
        _detected(detector, np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))
