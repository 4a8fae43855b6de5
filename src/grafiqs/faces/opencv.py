"""Optional OpenCV: its wheels conflict with one another, so it is an extra."""

from __future__ import annotations

from contextlib import AbstractContextManager

from grafiqs.errors import RequestError
from grafiqs.settings import held


def need_opencv(what: str) -> None:
    """Raise RequestError, which says what to install, if OpenCV is missing."""
    try:
        import cv2  # noqa: F401
    except ImportError as error:
        raise RequestError(f"{what} needs OpenCV ({error}): pip install opencv-python-headless") from error


def opencv_version() -> str:
    """The version of OpenCV, which finds faces and cuts them out."""
    import cv2

    return str(cv2.__version__)


def one_thread() -> AbstractContextManager[None]:
    """Keep OpenCV to the thread that calls it, inside the block: with pictures on many threads, they would fight."""
    import cv2

    return held(cv2.getNumThreads, cv2.setNumThreads, 1)
