"""What makes a drawn identity: the numbers that all its samples share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from grafiqs.demo.drawn import between, by, drawn, whole

HAIR_STYLES = ("bald", "receding", "short", "fringe", "swept", "bob", "long")
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
IRISES = ("black", "brown", "amber", "hazel", "green", "grey", "blue")
HAIR_COLOURS = ("black", "brown", "chestnut", "blond", "red", "grey", "white")
FRAMES = ("none", "round", "square", "wide")


def _one_of(words: tuple[str, ...], weights: Callable[[float], tuple[float, ...]]) -> Any:
    """One of some words; their weights may depend on how light the skin is."""

    def rule(rng: np.random.Generator, known: Mapping[str, Any]) -> str:
        # Light eyes and hair are rarer on dark skin, but any combination can be drawn.
        each = weights(0.15 + max(0.0, 0.7 - known["skin_tone"]))
        return words[int(np.searchsorted(np.cumsum(each) / sum(each), rng.random(), side="right"))]

    return by(rule)


@dataclass(frozen=True)
class Traits:
    """One identity. Lengths are in mm on a head whose eyes look along +z; shares lie in 0..1."""

    face_width: float = between(0.89, 1.11)
    jaw_width: float = between(0.82, 1.18)
    chin_width: float = between(0.75, 1.3)
    chin_length: float = between(-7, 7)
    chin_depth: float = between(-6, 6)
    squareness: float = between(2.0, 2.9)
    cheekbones: float = between(0, 6)
    cheeks: float = between(-4, 6)
    brow_ridge: float = between(0, 5)
    skin_tone: float = between(0, 1)  # before all others, some of which depend on it
    skin_red: float = between(-1, 1)
    skin_yellow: float = between(-1, 1)
    freckles: float = by(lambda rng, known: max(0.0, -1.2 + 2.2 * float(rng.random())) * (1 - known["skin_tone"]))
    age: float = by(lambda rng, _: float(rng.random()) ** 1.5)
    eye_distance: float = between(28.5, 36)
    eye_width: float = between(12.3, 16.8)
    eye_height: float = between(4.2, 7.4)
    eye_tilt: float = between(-0.13, 0.2)
    eye_depth: float = between(2, 9)
    eye_crease: float = between(0, 1)
    iris: str = _one_of(IRISES, lambda light: (2, 4, light, light, light, light, 2 * light))
    brow_height: float = between(14.5, 24)
    brow_thickness: float = between(2.2, 6.4)
    brow_arch: float = between(-0.5, 5)
    brow_tilt: float = between(-0.2, 0.22)
    brow_length: float = between(15, 23)
    brow_gap: float = between(-3, 5)
    brow_strength: float = between(0.45, 1)
    nose_length: float = between(32, 44)
    nose_width: float = between(9.5, 18)
    nose_bridge: float = between(3, 12)
    nose_tip: float = between(13, 24)
    nose_hump: float = between(-2.5, 4)
    nose_slim: float = between(4.5, 8.5)
    mouth_height: float = between(67, 79)
    mouth_width: float = between(19, 30)
    upper_lip: float = between(2.4, 8)
    lower_lip: float = between(3.5, 10)
    lip_red: float = between(0, 1)
    hair_style: str = _one_of(HAIR_STYLES, lambda _: (0.8, 1.2, 3, 2, 2.5, 2, 3))
    hair_colour: str = _one_of(HAIR_COLOURS, lambda light: (3, 3, 1.5 * light + 0.5, 2 * light, light, 0.8, 0.4))
    hair_shade: float = between(0.7, 1.35)
    hair_line: float = between(52, 82)
    hair_part: float = between(-1, 1)
    hair_wave: float = between(0, 1)
    hair_volume: float = between(3, 16)
    ear_length: float = between(0.8, 1.25)
    ear_angle: float = between(5, 17)
    beard: str = _one_of(BEARDS, lambda _: (7, 1.5, 1, 1, 1.5))
    moles: int = whole(5)
    frame: str = _one_of(FRAMES, lambda _: (6, 1, 1, 1))
    frame_width: float = between(20, 26)
    frame_height: float = between(13, 20)
    frame_shade: float = between(0, 1)
    frame_red: float = between(0, 1)
    frame_thickness: float = between(1.2, 3.6)


def draw_traits(rng: np.random.Generator) -> Traits:
    """Draw an identity."""
    return drawn(Traits, rng, skin_tone=float(rng.random()))
