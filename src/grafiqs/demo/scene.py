"""What varies from sample to sample of a drawn identity: pose, light, expression, background, camera."""

from __future__ import annotations

from dataclasses import dataclass

from grafiqs.demo.drawn import bell, between, by, whole


@dataclass(frozen=True)
class Scene:
    """One picture's circumstances. Angles in radians, lengths in mm, shares in 0..1; light of 1 fills the range."""

    yaw: float = bell(0.2, 0.48)
    pitch: float = bell(0.1, 0.26)
    roll: float = bell(0.05, 0.15)
    shift_x: float = bell(0.7, 2.0)
    shift_y: float = bell(0.7, 2.0)
    zoom: float = bell(0.015, 0.04, middle=1)
    smile: float = between(-0.25, 1.0)
    mouth_open: float = between(-1.2, 0.8, least=0.0)
    brow_raise: float = between(-0.5, 1.0)
    eyes_open: float = between(0.75, 1.1)
    gaze_x: float = bell(0.12, 0.35)
    gaze_y: float = bell(0.08, 0.2)
    glasses: bool = by(lambda rng, _: bool(rng.random() < 0.9))
    light_azimuth: float = bell(0.65, 1.3)
    light_elevation: float = between(-0.1, 1.0)
    light_key: float = between(0.45, 1.0)
    light_ambient: float = between(0.22, 0.5)
    light_warmth: float = between(-1, 1)
    exposure: float = between(0.8, 1.25)
    saturation: float = between(0.75, 1.15)
    contrast: float = between(0.85, 1.15)
    noise: float = between(0.3, 2.0)
    softness: float = between(0.0, 0.45)
    background: int = whole(2**31)
