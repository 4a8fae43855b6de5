"""An identity's head: its surface as distances from a vertical axis, and the colour painted on it.

All features lie on the surface, so none can leave it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from grafiqs.demo.maps import FRONT, HEIGHT, WIDTH, Bump, Map, both, bumps, grid, linear, single
from grafiqs.demo.traits import Traits

SKIN = ((244, 208, 186), (230, 182, 152), (204, 148, 112), (162, 108, 74), (112, 72, 50), (70, 46, 36))
HAIR = {
    "black": (24, 21, 22),
    "brown": (66, 44, 32),
    "chestnut": (104, 62, 38),
    "blond": (202, 164, 104),
    "red": (156, 72, 34),
    "grey": (138, 136, 134),
    "white": (214, 212, 206),
}


@dataclass(frozen=True)
class Head:
    """An identity's maps, as they are before a sample's expression is laid on."""

    radius: Map  # (H, W) mm
    albedo: Map  # (H, W, 3) linear RGB
    gloss: Map  # (H, W) strength of the specular light
    cavity: Map  # (H, W) share of the ambient light that arrives
    hair_cover: Map  # (H, W) share of the surface that is hair
    skin: Map  # (3,) linear RGB
    hair: Map  # (3,) linear RGB
    landmarks: NDArray[np.float64]  # (5, 2) front x and y: eyes, nose tip, corners of the mouth


def build_head(traits: Traits, rng: np.random.Generator) -> Head:
    """Model and paint an identity; `rng` gives what is too fine for a trait: pores, strands, places of moles."""
    skin, hair = _skin_colour(traits), linear(HAIR[traits.hair_colour]) * np.float32(traits.hair_shade)
    skull = cv2.GaussianBlur(cv2.resize(_skull(traits), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), (0, 0), 2.5)
    radius = skull + bumps(_feature_bumps(traits)) + _ears(traits)
    cover, thickness = _hair(traits, rng)
    rise = cv2.GaussianBlur(np.clip((cover - 0.6) / 0.4, 0, 1), (0, 0), 1.5)
    cover = np.clip(np.maximum(1.7 * cover, 8 * rise), 0, 1)  # no skin shows where the surface rises
    beard, beard_thickness = _beard(traits, rng)
    strands = _strands(traits, rng)
    radius = np.maximum(radius + beard_thickness, _hair_surface(skull, radius, rise, thickness, strands))
    albedo = _skin_paint(traits, skin, rng)
    albedo *= 1 - np.clip(1.2 * cv2.GaussianBlur(rise, (0, 0), 2), 0, 0.7)[..., None]  # hair shades the skin beside it
    albedo += (hair * (0.45 + 0.75 * strands[..., None]) * 0.8 + skin * 0.04 - albedo) * beard[..., None]
    albedo += (hair * (0.4 + 0.9 * strands[..., None]) - albedo) * cover[..., None]
    gloss = np.float32(0.06) + np.float32(0.07) * np.exp(-((grid()[0] / np.float32(0.25)) ** 2))
    gloss = gloss * (1 - np.maximum(cover, beard)) + 0.05 * np.maximum(cover, beard)
    hollow = cv2.GaussianBlur(radius, (0, 0), 7) - radius
    cavity = np.clip(1 - 0.09 * np.maximum(hollow, 0), 0.35, 1)
    eye, corner, mouth = traits.eye_distance, traits.mouth_width * 0.92, traits.mouth_height
    return Head(
        radius=radius.astype(np.float32),
        albedo=albedo.astype(np.float32),
        gloss=gloss.astype(np.float32),
        cavity=cavity.astype(np.float32),
        hair_cover=cover.astype(np.float32),
        skin=skin,
        hair=hair,
        landmarks=np.array([(-eye, 0), (eye, 0), (0, traits.nose_length), (-corner, mouth), (corner, mouth)]),
    )


# -- the surface -------------------------------------------------------------------------------------------


def _skull(traits: Traits) -> Map:
    """The head without features, on a quarter of the texels a side: superellipses stacked along y."""
    chin = 110 + traits.chin_length
    wide, jaw, point = 71 * traits.face_width, 1 + 0.55 * (traits.jaw_width - 1), traits.chin_width
    width = _profile(
        (-126, 20), (-110, 52), (-90, 67), (-60, 74), (-30, 74), (0, wide), (25, wide - 2), (50, (wide - 7) * jaw),
        (75, (wide - 16) * jaw), (chin - 15, 40 * jaw * (0.6 + 0.4 * point)), (chin - 3, 31 * point), (chin + 6, 42),
        (chin + 12, 52), (180, 56),
    )  # fmt: skip
    out = traits.chin_depth
    depth = _profile(
        (-126, 22), (-110, 62), (-90, 84), (-60, 95), (-30, 97), (-15, 96), (0, 92), (20, 91), (50, 91), (75, 90),
        (chin - 15, 88 + 0.6 * out), (chin - 4, 84 + out), (chin + 3, 70), (chin + 9, 52), (chin + 15, 46), (180, 46),
    )  # fmt: skip
    back = _profile((-126, 22), (-110, 60), (-60, 95), (0, 92), (40, 80), (75, 68), (180, 64))
    angles, heights = (axis.astype(np.float64) for axis in grid(4))
    angle, y = angles[None, :], heights[:, None]
    # The jaw rises from the chin to the ear: what lies at height y at the side is what lies lower at the front.
    rise = np.clip((y - 5) / 60, 0, 1)
    level = y + 36 * (1 - np.cos(angle)) * rise * rise * (3 - 2 * rise)
    sine, cosine = np.abs(np.sin(angle)), np.cos(angle)
    forward = np.where(cosine > 0, np.interp(level, *depth), np.interp(level, *back))
    power = traits.squareness
    reach = (sine / np.interp(level, *width)) ** power + (np.abs(cosine) / forward) ** power
    return np.asarray(reach ** (-1 / power), np.float32)


def _profile(*knots: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A smooth curve through (nearly) the knots (y, value): its samples at each mm."""
    places = np.arange(-140.0, 181.0)
    values = np.interp(places, [y for y, _ in knots], [value for _, value in knots])
    padded = np.pad(values, 12, mode="edge")
    return places, np.asarray(cv2.GaussianBlur(padded[None], (0, 0), 4)[0, 12:-12])


def _feature_bumps(traits: Traits) -> list[Bump]:
    eye, nose, mouth = traits.eye_distance, traits.nose_length, traits.mouth_height
    chin = 110 + traits.chin_length
    slim, wing = traits.nose_slim, traits.nose_width
    return [
        *both(eye - 7, -16, 15, 6, 1 + traits.brow_ridge),
        (0, -14, 9, 8, 0.5 + 0.5 * traits.brow_ridge),
        *both(eye - 1, 1, 14, 10, -3.5 - traits.eye_depth),
        *both(eye, 0.5, traits.eye_width * 0.75, 7, 3 + 0.55 * traits.eye_depth),
        *both(eye, 13 + 2 * traits.age, 11, 3.5, 1.2 + 1.6 * traits.age),
        *both(eye + 1, 9, 12, 2.2, -0.8 - 1.2 * traits.age),
        (0, 2, slim, 11, traits.nose_bridge * 0.75),
        (0, nose * 0.36, slim + 0.5, 9, traits.nose_bridge + traits.nose_hump),
        (0, nose * 0.68, slim + 1.5, 9, 0.45 * (traits.nose_bridge + traits.nose_tip)),
        (0, nose - 1, 0.5 * slim + 4, 7, traits.nose_tip * 0.8),
        *both(wing * 0.78, nose + 2, 0.26 * wing + 1.2, 5.5, 3 + 0.35 * wing),
        *both(wing * 0.42, nose + 7.5, 3, 2, -3.5),
        (0, nose + 9, 9, 3.5, -2),
        *both(46, 24, 13, 11, 0.5 + traits.cheekbones),
        *both(40, 54, 14, 16, traits.cheeks),
        *both(17.5, nose + 9, 2.6, 7, -0.7 - 1.6 * traits.age),
        *both(24, nose + 18, 2.8, 7, -0.5 - 1.4 * traits.age),
        (0, mouth - 12, 2.5, 5, -1.2),
        (0, mouth - 5, traits.mouth_width * 0.55, 4, 2 + 0.4 * traits.upper_lip),
        (0, mouth + 6, traits.mouth_width * 0.5, 4.5, 2 + 0.4 * traits.lower_lip),
        (0, mouth + 0.5, traits.mouth_width * 0.75, 1.6, -2.4),
        (0, mouth + 15, 13, 4, -3),
        (0, chin - 14, 12 * traits.chin_width, 9, 3 + 0.3 * traits.chin_depth),
        *both(64, -26, 12, 20, -3),
    ]


def _ears(traits: Traits) -> Map:
    """Two flaps at the sides, with a rim and a hollow."""
    angles, heights = grid()
    side = np.abs(angles)[None, :]
    y = heights[:, None]
    tall = 31 * traits.ear_length
    middle = 16.0
    lean = side - 1.66 + 0.0022 * (y - middle)
    inside = 1 - ((y - middle) / tall) ** 2 - (lean / 0.17) ** 2
    flap = np.clip(inside * 2.2, 0, 1)
    bowl = np.exp(-((((y - middle + 3) / (0.5 * tall)) ** 2) + (((lean + 0.01) / 0.075) ** 2)))
    outward = traits.ear_angle * (0.45 + 0.55 * np.clip((lean + 0.17) / 0.3, 0, 1))
    return np.asarray(outward * flap * (1 - 0.4 * bowl), np.float32)


# -- hair and beard ----------------------------------------------------------------------------------------


def _hair(traits: Traits, rng: np.random.Generator) -> tuple[Map, Map]:
    """Where hair covers the head, 0..1, and how far it stands off, in mm."""
    style, (angles, heights) = traits.hair_style, grid()
    side = np.abs(angles)
    if style == "bald":
        return np.zeros((HEIGHT, WIDTH), np.float32), np.zeros((HEIGHT, WIDTH), np.float32)
    line = np.full(WIDTH, -traits.hair_line)
    # From the forehead the line falls to the temple, then in front of the ear, then behind it to the nape.
    temple = {"receding": 0.55, "short": 0.95, "fringe": 0.9, "swept": 0.9, "bob": 0.8, "long": 0.78}[style]
    if style == "receding":
        line -= 16 * np.exp(-(((side - 0.42) / 0.16) ** 2)) + 6
    if style == "fringe":
        line = np.maximum(line, -30 - 5 * traits.hair_part * np.cos(7 * angles))
    if style == "swept":
        line += 18 * np.clip(traits.hair_part * angles / 0.6, -0.6, 1)
    line = line + 6 * np.exp(-(((angles - 0.25 * traits.hair_part) / 0.2) ** 2)) * (style != "fringe")
    low = {"bob": 78 + 20 * traits.hair_wave, "long": 200.0}.get(style, 44.0)
    sideburn = {"bob": low, "long": low}.get(style, -12 + 34 * traits.hair_wave)
    ear = 1.38
    if style in ("bob", "long"):
        fall = np.clip((side - temple) / (0.28 + 0.12 * traits.hair_wave), 0, 1)
        line = line + (low - line) * fall * fall * (3 - 2 * fall)
    else:
        fall = np.clip((side - temple - 0.1) / 0.22, 0, 1)
        line = line + (sideburn - line) * fall * fall * (3 - 2 * fall)
        line = np.where(side > ear, -14.0, line)
        line = np.where(side > ear + 0.42, low, line)
    # Strands end at different heights.
    ragged = cv2.GaussianBlur(rng.standard_normal((1, WIDTH)), (0, 0), 1.6)[0]
    ragged = ragged * 2.2 + cv2.GaussianBlur(rng.standard_normal((1, WIDTH)), (0, 0), 7)[0] * 6
    soft = 3.0 if style != "receding" else 7.0
    line = line + ragged
    # Across a steep line the edge is as soft as across a level one.
    steep = np.sqrt(1 + np.gradient(cv2.GaussianBlur(line[None], (0, 0), 1)[0], angles * FRONT) ** 2)
    cover = np.clip((line - heights[:, None]) / (soft * steep) + 0.5, 0, 1)
    cover = cv2.GaussianBlur(cover.astype(np.float32), (0, 0), 1.0)
    volume = traits.hair_volume * {"receding": 0.3, "short": 0.5, "fringe": 0.7, "swept": 0.9}.get(style, 1.0)
    thickness = cv2.GaussianBlur(cover, (0, 0), 5.5) * np.float32(2.5 + volume)
    if style not in ("bob", "long"):
        thickness *= np.clip((40 - heights[:, None]) / 70, 0.1, 1)
    return cover, thickness


def _hair_surface(skull: Map, radius: Map, rise: Map, thickness: Map, strands: Map) -> Map:
    """The surface where hair lies: off the skin, and hanging straight down from the widest part of the head."""
    widest = np.maximum(np.maximum.accumulate(skull, axis=0) * np.float32(0.93), skull)
    fall = np.clip((grid()[1][:, None] - 10) / 60, 0, 1)
    surface = skull + (widest - skull) * fall + thickness + 1.6 * (strands - 0.5)
    return np.asarray(radius + (np.maximum(surface, radius) - radius) * rise)


def _strands(traits: Traits, rng: np.random.Generator) -> Map:
    """The pattern of hair, 0..1: noise drawn out along strands, which wave."""
    noise = rng.standard_normal((HEIGHT, WIDTH), np.float32)
    fine = cv2.GaussianBlur(noise, (0, 0), sigmaX=0.9, sigmaY=9 - 6.5 * traits.hair_wave)
    broad = cv2.GaussianBlur(noise[::-1].copy(), (0, 0), sigmaX=4, sigmaY=26 - 18 * traits.hair_wave)
    pattern = fine / fine.std() + 0.8 * broad / broad.std()
    columns, rows = np.meshgrid(np.arange(WIDTH, dtype=np.float32), np.arange(HEIGHT, dtype=np.float32))
    bend = np.float32(1 + 7 * traits.hair_wave)
    columns += bend * np.sin(rows / np.float32(22 - 12 * traits.hair_wave) + columns / 60)
    wavy = cv2.remap(pattern, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(np.clip(0.5 + 0.22 * wavy, 0, 1))


def _beard(traits: Traits, rng: np.random.Generator) -> tuple[Map, Map]:
    """Where the beard covers the face, 0..1, and how far it stands off, in mm."""
    empty = np.zeros((HEIGHT, WIDTH), np.float32)
    if traits.beard == "none":
        return empty, empty
    angles, heights = grid()
    x = np.abs(np.where(np.abs(angles) < np.pi / 2, FRONT * np.sin(angles), 1e3))[None, :]
    y = heights[:, None]
    mouth, nose, chin = traits.mouth_height, traits.nose_length, 110 + traits.chin_length
    lips = ((x / (traits.mouth_width * 0.98)) ** 2 + ((y - mouth) / (1.5 + traits.lower_lip)) ** 2) < 1
    moustache = (x < traits.mouth_width + 5) & (y > nose + 9 + 0.012 * x * x) & (y < mouth + 0.15 * x)
    goatee = (x < 19 - 0.004 * (y - mouth) ** 2) & (y > mouth + 4) | (x > traits.mouth_width - 1) & (
        x < traits.mouth_width + 8
    ) & (y > mouth - 6)
    edge = mouth - 14 - 22 * np.clip((x - 40) / 30, 0, 1)
    full = (y > edge) & (x < 82) | moustache
    area, density, depth = {
        "stubble": (full, 0.32, 0.0),
        "moustache": (moustache, 0.85, 2.5),
        "goatee": (moustache | goatee, 0.85, 3.0),
        "full": (full, 0.9, 5.0),
    }[traits.beard]
    area = area & ~lips & (y < chin + 14)
    cover = cv2.GaussianBlur(area.astype(np.float32), (0, 0), 3)
    grain = cv2.GaussianBlur(rng.standard_normal((HEIGHT, WIDTH), np.float32), (0, 0), 0.9)
    cover = cover * np.clip(density + 0.35 * grain, 0, 1)
    return cover.astype(np.float32), cv2.GaussianBlur(cover, (0, 0), 2) * np.float32(depth)


# -- the skin ----------------------------------------------------------------------------------------------


def _skin_colour(traits: Traits) -> Map:
    place = traits.skin_tone * (len(SKIN) - 1)
    below = min(int(place), len(SKIN) - 2)
    share = place - below
    colour = (1 - share) * np.array(SKIN[below]) + share * np.array(SKIN[below + 1])
    colour *= np.array([1 + 0.03 * traits.skin_red, 1 - 0.03 * traits.skin_red, 1 - 0.08 * traits.skin_yellow])
    return linear(np.clip(colour, 0, 255))


def _skin_paint(traits: Traits, skin: Map, rng: np.random.Generator) -> Map:
    """The skin's colour everywhere: rosy, dark and spotted places, mottling, pores, moles."""
    eye, nose, mouth = traits.eye_distance, traits.nose_length, traits.mouth_height
    rosy = bumps([*both(40, 35, 16, 14, 1.0), (0, nose, 11, 8, 1.0), (0, mouth + 32, 12, 8, 0.4)])
    rosy = np.clip(rosy, 0, 1) * np.float32(0.10 + 0.07 * (1 + traits.skin_red))
    rings = np.clip(bumps([*both(eye - 2, 4, 15, 9, 1.0)]), 0, 1) * np.float32(0.10 + 0.16 * traits.age)
    nostrils = np.clip(bumps([*both(traits.nose_width * 0.45, nose + 6.5, 3.1, 1.7, 1.0)]), 0, 1) * np.float32(0.85)
    noise = rng.standard_normal((HEIGHT, WIDTH), np.float32)
    pores = 0.035 * cv2.GaussianBlur(noise, (0, 0), 0.8) + 0.28 * cv2.GaussianBlur(noise, (0, 0), 6)
    light = (1 + pores) * (1 - rings) * (1 - nostrils)
    paint = 1 + rosy[..., None] * single([0.35, -0.9, -0.8])
    paint *= skin
    paint *= light[..., None]
    if traits.freckles > 0:
        speckle = cv2.GaussianBlur(rng.standard_normal((HEIGHT, WIDTH), np.float32), (0, 0), 1.1)
        where = np.clip(bumps([*both(30, 30, 22, 14, 1.0), (0, 20, 14, 18, 1.0)]), 0, 1)
        spots = np.clip(speckle / speckle.std() - 1.5, 0, 1) * where * np.float32(traits.freckles)
        paint *= 1 - spots[..., None] * single([0.35, 0.55, 0.65])
    if traits.moles:
        places = zip(rng.uniform(-55, 55, traits.moles), rng.uniform(-50, 95, traits.moles), strict=True)
        spots = np.clip(bumps([(x, y, 1.5, 1.5, 1.6) for x, y in places]), 0, 1)
        paint *= (1 - np.float32(0.7) * spots)[..., None]
    return np.asarray(paint, np.float32)
