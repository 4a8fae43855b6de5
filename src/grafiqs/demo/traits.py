"""What makes a drawn identity: the numbers that all its samples share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HAIR_STYLES = ("bald", "receding", "short", "fringe", "swept", "bob", "long")
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
IRISES = ("black", "brown", "amber", "hazel", "green", "grey", "blue")
HAIR_COLOURS = ("black", "brown", "chestnut", "blond", "red", "grey", "white")
FRAMES = ("none", "round", "square", "wide")


@dataclass(frozen=True)
class Traits:
    """One identity. Lengths are in mm on a head whose eyes look along +z; shares lie in 0..1."""

    face_width: float
    jaw_width: float
    chin_width: float
    chin_length: float
    chin_depth: float
    squareness: float
    cheekbones: float
    cheeks: float
    brow_ridge: float
    skin_tone: float
    skin_red: float
    skin_yellow: float
    freckles: float
    age: float
    eye_distance: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    eye_depth: float
    eye_crease: float
    iris: str
    brow_height: float
    brow_thickness: float
    brow_arch: float
    brow_tilt: float
    brow_length: float
    brow_gap: float
    brow_strength: float
    nose_length: float
    nose_width: float
    nose_bridge: float
    nose_tip: float
    nose_hump: float
    nose_slim: float
    mouth_height: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    lip_red: float
    hair_style: str
    hair_colour: str
    hair_shade: float
    hair_line: float
    hair_part: float
    hair_wave: float
    hair_volume: float
    ear_length: float
    ear_angle: float
    beard: str
    moles: int
    frame: str
    frame_width: float
    frame_height: float
    frame_shade: float
    frame_red: float
    frame_thickness: float


def draw_traits(rng: np.random.Generator) -> Traits:
    """Draw an identity."""

    def share() -> float:
        return float(rng.random())

    def between(low: float, high: float) -> float:
        return low + (high - low) * share()

    def one_of(words: tuple[str, ...], weights: tuple[float, ...]) -> str:
        return words[int(np.searchsorted(np.cumsum(weights) / sum(weights), share(), side="right"))]

    tone = share()
    # Light eyes and hair are rarer on dark skin, but any combination can be drawn.
    light = 0.15 + max(0.0, 0.7 - tone)
    return Traits(
        face_width=between(0.89, 1.11),
        jaw_width=between(0.82, 1.18),
        chin_width=between(0.75, 1.3),
        chin_length=between(-7, 7),
        chin_depth=between(-6, 6),
        squareness=between(2.0, 2.9),
        cheekbones=between(0, 6),
        cheeks=between(-4, 6),
        brow_ridge=between(0, 5),
        skin_tone=tone,
        skin_red=between(-1, 1),
        skin_yellow=between(-1, 1),
        freckles=max(0.0, between(-1.2, 1)) * (1 - tone),
        age=share() ** 1.5,
        eye_distance=between(28.5, 36),
        eye_width=between(12.3, 16.8),
        eye_height=between(4.2, 7.4),
        eye_tilt=between(-0.13, 0.2),
        eye_depth=between(2, 9),
        eye_crease=share(),
        iris=one_of(IRISES, (2, 4, light, light, light, light, 2 * light)),
        brow_height=between(14.5, 24),
        brow_thickness=between(2.2, 6.4),
        brow_arch=between(-0.5, 5),
        brow_tilt=between(-0.2, 0.22),
        brow_length=between(15, 23),
        brow_gap=between(-3, 5),
        brow_strength=between(0.45, 1),
        nose_length=between(32, 44),
        nose_width=between(9.5, 18),
        nose_bridge=between(3, 12),
        nose_tip=between(13, 24),
        nose_hump=between(-2.5, 4),
        nose_slim=between(4.5, 8.5),
        mouth_height=between(67, 79),
        mouth_width=between(19, 30),
        upper_lip=between(2.4, 8),
        lower_lip=between(3.5, 10),
        lip_red=share(),
        hair_style=one_of(HAIR_STYLES, (0.8, 1.2, 3, 2, 2.5, 2, 3)),
        hair_colour=one_of(HAIR_COLOURS, (3, 3, 1.5 * light + 0.5, 2 * light, light, 0.8, 0.4)),
        hair_shade=between(0.7, 1.35),
        hair_line=between(52, 82),
        hair_part=between(-1, 1),
        hair_wave=share(),
        hair_volume=between(3, 16),
        ear_length=between(0.8, 1.25),
        ear_angle=between(5, 17),
        beard=one_of(BEARDS, (7, 1.5, 1, 1, 1.5)),
        moles=int(rng.integers(0, 5)),
        frame=one_of(FRAMES, (6, 1, 1, 1)),
        frame_width=between(20, 26),
        frame_height=between(13, 20),
        frame_shade=share(),
        frame_red=share(),
        frame_thickness=between(1.2, 3.6),
    )
