"""Degradations of known strength, laid on a finished face."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from grafiqs.errors import RequestError
from grafiqs.faces.template import LANDMARKS

Picture = NDArray[np.uint8]

YAW = "yaw"
"""The one degradation that does not change the picture: the head itself is turned."""


@dataclass(frozen=True)
class Degradation:
    """What is wrong with a face, and how badly: `strength` lies in (0, 1]. Raises RequestError for anything else."""

    kind: str
    strength: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise RequestError(f"there is no degradation {self.kind!r}; there are {', '.join(KINDS)}")
        if not 0 < self.strength <= 1:
            raise RequestError(f"the strength of a degradation lies above 0 and up to 1, not at {self.strength}")


def degrade(face: Picture, degradation: Degradation, rng: np.random.Generator) -> Picture:
    """The face (112, 112, 3) with the degradation; `rng` gives the noise."""
    change = KINDS[degradation.kind]
    return face if change is None else change(face, degradation.strength, rng)


def yaw_angle(strength: float) -> float:
    """How far a head is turned by the degradation `yaw`: 0.5 to 1.1 radians."""
    return 0.5 + 0.6 * strength


def _blur(face: Picture, strength: float, _: np.random.Generator) -> Picture:
    """Out of focus: a Gaussian of 0.4 to 4 pixels."""
    return np.asarray(cv2.GaussianBlur(face, (0, 0), 0.4 + 3.6 * strength), np.uint8)


def _noise(face: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Sensor noise: up to 40 levels of standard deviation."""
    noise = rng.standard_normal(face.shape, np.float32) * np.float32(40 * strength)
    return np.clip(np.rint(face + noise), 0, 255).astype(np.uint8)


def _darkness(face: Picture, strength: float, rng: np.random.Generator) -> Picture:
    """Low light: down to 1/256 of the light, and the noise that goes with few photons."""
    light = (face.astype(np.float32) / 255) ** np.float32(2.2) * np.float32(2 ** (-8 * strength))
    light += rng.standard_normal(face.shape, np.float32) * np.sqrt(light) * np.float32(0.012 * strength)
    return np.clip(np.rint(np.clip(light, 0, 1) ** np.float32(1 / 2.2) * 255), 0, 255).astype(np.uint8)


def _covered_eyes(face: Picture, strength: float, _: np.random.Generator) -> Picture:
    """A dark bar over the eyes, 7 to 31 pixels high."""
    covered = face.copy()
    middle, half = LANDMARKS[:2, 1].mean(), 3 + 12 * strength
    reach = 14 + 12 * strength
    (left, _), (right, _) = LANDMARKS[:2]
    corners = np.rint(np.array([(left - reach, middle - half), (right + reach, middle + half)])).astype(int).tolist()
    cv2.rectangle(covered, corners[0], corners[1], (18, 18, 20), -1)
    return covered


def _low_resolution(face: Picture, strength: float, _: np.random.Generator) -> Picture:
    """Few pixels: reduced to the whole .. an 8th of the side, and enlarged again."""
    height, width = face.shape[:2]
    factor = 1 / (1 + 7 * strength)
    small = cv2.resize(face, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def _jpeg(face: Picture, strength: float, _: np.random.Generator) -> Picture:
    """Compression: JPEG of quality 77 down to 2."""
    quality = round(77 - 75 * strength)
    data = cv2.imencode(".jpg", face[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1], np.uint8)


KINDS: dict[str, Callable[[Picture, float, np.random.Generator], Picture] | None] = {
    "blur": _blur,
    "noise": _noise,
    "darkness": _darkness,
    "covered_eyes": _covered_eyes,
    "low_resolution": _low_resolution,
    "jpeg": _jpeg,
    YAW: None,
}
"""Every degradation by name."""
