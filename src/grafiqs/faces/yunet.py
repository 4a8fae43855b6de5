"""YuNet models (OpenCV's FaceDetectorYN): tried in a process of their own, opened, and asked for faces.

OpenCV dies of some damaged files, and would take this process with it.
"""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

SCORE = 0.6
"""What scores less is not a face."""

_OVERLAP, _MOST = 0.3, 5000  # OpenCV's own: which boxes are of one face, and how many are looked at
_TRIAL = "import sys; sys.path[:] = sys.argv[1:]; from grafiqs.faces.yunet import _trial; _trial()"
"""What the process runs that a model is tried in; it says so when it begins with that."""

_SIDE = 320
"""The longer side of the larger picture that it is tried on."""

_BEGUN = b"the trial begins\n"
_PATIENCE = 60.0
"""Seconds that a trial may last; as a rule it is half of one."""

_ROOM = 4 * 2**30
"""Bytes of memory that a model may take in its trial, beside what OpenCV takes itself."""


def opened(model: bytes) -> Any:
    """OpenCV's detector of the bytes of a model. Raises whatever OpenCV does."""
    data, no_configuration = np.frombuffer(model, np.uint8), np.empty(0, np.uint8)
    return cv2.FaceDetectorYN.create("onnx", data, no_configuration, (64, 64), SCORE, _OVERLAP, _MOST)


def detected(detector: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What OpenCV's detector finds in a picture, (N, 15). Raises whatever OpenCV does."""
    detector.setInputSize(pixels.shape[1::-1])
    _, found = detector.detect(np.ascontiguousarray(pixels[:, :, ::-1]))  # it was trained on BGR
    return np.empty((0, 15)) if found is None else np.asarray(found, np.float64)


def survive(model: bytes) -> None:
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
    detector = opened(model)
    for side in (64, _SIDE):
        detected(detector, np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))
