"""What varies from sample to sample of a drawn identity: pose, light, expression, background, camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scene:
    """One picture's circumstances. Angles in radians, lengths in mm, shares in 0..1; light of 1 fills the range."""

    yaw: float
    pitch: float
    roll: float
    shift_x: float
    shift_y: float
    zoom: float
    smile: float
    mouth_open: float
    brow_raise: float
    eyes_open: float
    gaze_x: float
    gaze_y: float
    glasses: bool
    light_azimuth: float
    light_elevation: float
    light_key: float
    light_ambient: float
    light_warmth: float
    exposure: float
    saturation: float
    contrast: float
    noise: float
    softness: float
    background: int


def draw_scene(rng: np.random.Generator) -> Scene:
    """Draw a picture's circumstances: those of an undegraded face."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(rng.random())

    def bell(spread: float, limit: float) -> float:
        return float(np.clip(spread * rng.standard_normal(), -limit, limit))

    return Scene(
        yaw=bell(0.2, 0.48),
        pitch=bell(0.1, 0.26),
        roll=bell(0.05, 0.15),
        shift_x=bell(0.7, 2.0),
        shift_y=bell(0.7, 2.0),
        zoom=1 + bell(0.015, 0.04),
        smile=between(-0.25, 1.0),
        mouth_open=max(0.0, between(-1.2, 0.8)),
        brow_raise=between(-0.5, 1.0),
        eyes_open=between(0.75, 1.1),
        gaze_x=bell(0.12, 0.35),
        gaze_y=bell(0.08, 0.2),
        glasses=bool(rng.random() < 0.9),
        light_azimuth=bell(0.65, 1.3),
        light_elevation=between(-0.1, 1.0),
        light_key=between(0.45, 1.0),
        light_ambient=between(0.22, 0.5),
        light_warmth=between(-1, 1),
        exposure=between(0.8, 1.25),
        saturation=between(0.75, 1.15),
        contrast=between(0.85, 1.15),
        noise=between(0.3, 2.0),
        softness=between(0.0, 0.45),
        background=int(rng.integers(0, 2**31)),
    )
