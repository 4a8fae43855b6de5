"""A sample's expression on an identity's head: eyes, brows and mouth are moved and painted anew for each sample."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from grafiqs.demo.head import Head
from grafiqs.demo.maps import Map, both, bumps, linear, single, texels
from grafiqs.demo.scene import Scene
from grafiqs.demo.traits import Traits

IRIS = {
    "black": linear((34, 24, 20)),
    "brown": linear((84, 52, 30)),
    "amber": linear((142, 92, 38)),
    "hazel": linear((116, 104, 58)),
    "green": linear((86, 122, 84)),
    "grey": linear((128, 140, 146)),
    "blue": linear((78, 122, 170)),
}
SCLERA, PUPIL, GLINT, LASH = map(linear, ((226, 219, 214), (10, 8, 8), (255, 255, 255), (22, 16, 14)))
MOUTH, TEETH, LIP_LINE = map(linear, ((58, 22, 22), (222, 214, 200), (64, 26, 26)))
_SUBPIXEL = 4
Outline = NDArray[np.float64]
"""Points (N, 2) in mm, as seen from the front."""


def express(head: Head, traits: Traits, scene: Scene) -> Head:
    """The head with this sample's eyes, brows and mouth."""
    albedo, gloss = head.albedo.copy(), head.gloss.copy()
    for side in (-1, 1):
        _paint_eye(_Patch(albedo, gloss, (side * traits.eye_distance - 21, -17), (42, 28)), traits, scene, side)
        _paint_brow(_Patch(albedo, gloss, (side * traits.eye_distance - 29, -38), (58, 36)), head, traits, scene, side)
    mouth = (-traits.mouth_width - 9, traits.mouth_height - 17)
    _paint_mouth(_Patch(albedo, gloss, mouth, (-2 * mouth[0], 42)), head, traits, scene)
    smile = scene.smile
    width, height = traits.mouth_width, traits.mouth_height
    moved = bumps(
        [
            *both(width + 9, height - 16, 8, 10, 3.2 * max(smile, 0)),
            *both(width + 2, height - 2, 4, 5, -1.8 * max(smile, 0)),
            *both(traits.nose_width + 5, traits.nose_length + 8, 2.6, 7, -1.1 * max(smile, 0)),
            (0, height + 3, width * 0.5, 2 + 4 * scene.mouth_open, -4 * scene.mouth_open),
            *both(traits.eye_distance - 6, -25, 13, 2.5, 0.9 * scene.brow_raise),
        ]
    )
    return replace(head, radius=head.radius + moved, albedo=albedo, gloss=gloss)


class _Patch:
    """A rectangle of the maps in which polygons are laid."""

    def __init__(self, albedo: Map, gloss: Map, corner: tuple[float, float], size: tuple[float, float]) -> None:
        ends = np.array([corner, (corner[0] + size[0], corner[1] + size[1])], np.float64)
        (left, top), (right, bottom) = np.rint(texels(ends)).astype(int)
        self._origin = np.array([left, top])
        self._albedo, self._gloss = albedo[top:bottom, left:right], gloss[top:bottom, left:right]

    def mask(self, outline: Outline, feather: float = 0.0) -> Map:
        """The share of each texel that the outline covers; `feather` softens its edge, in texels."""
        points = np.rint((texels(outline) - self._origin) * 2**_SUBPIXEL).astype(np.int32)
        mask = np.zeros(self._gloss.shape, np.uint8)
        cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, _SUBPIXEL)
        if feather:
            mask = cv2.GaussianBlur(mask, (0, 0), feather)
        return np.multiply(mask, np.float32(1 / 255), dtype=np.float32)

    def lay(self, mask: Map, colour: Map, gloss: float | None = None) -> None:
        """Cover what the mask covers with a colour (3,) or a picture of colours."""
        self._albedo += (colour - self._albedo) * mask[..., None]
        if gloss is not None:
            self._gloss += (np.float32(gloss) - self._gloss) * mask

    def shade(self, mask: Map, factor: float) -> None:
        """Darken what the mask covers."""
        self._albedo *= (1 - mask * np.float32(1 - factor))[..., None]


def _band(middle: Outline, thickness: NDArray[np.float64]) -> Outline:
    """A line of varying thickness as an outline."""
    offset = np.stack([np.zeros_like(thickness), thickness / 2], axis=1)
    return np.concatenate([middle - offset, (middle + offset)[::-1]])


_CIRCLE = np.array([(np.cos(turn), np.sin(turn)) for turn in np.linspace(0, 2 * np.pi, 20, endpoint=False)])


def _disc(x: float, y: float, radius: float) -> Outline:
    return _CIRCLE * radius + (x, y)


def _paint_eye(patch: _Patch, traits: Traits, scene: Scene, side: int) -> None:
    centre = side * traits.eye_distance
    along = np.linspace(-1, 1, 15)  # from the nose outward
    x = centre + side * along * traits.eye_width
    tilt = -along * traits.eye_tilt * traits.eye_width
    arch = (1 - along**2) ** 0.75
    opening = scene.eyes_open * traits.eye_height * (1 - 0.12 * max(scene.smile, 0))
    top = tilt - arch * opening * 1.05
    bottom = tilt + arch * (0.62 * traits.eye_height + 0.4) * (1 - 0.18 * max(scene.smile, 0))
    upper, lower = np.stack([x, top], axis=1), np.stack([x, bottom], axis=1)

    lid = np.stack([x, tilt - arch * (opening + 3.2 + 1.6 * traits.eye_crease)], axis=1)
    patch.shade(patch.mask(np.concatenate([lid, upper[::-1]]), 2.0), 0.86 - 0.1 * traits.eye_depth / 9)
    patch.shade(patch.mask(_band(lid, 1.1 * np.sqrt(1.02 - along**2)), 0.7), 0.75 - 0.3 * traits.eye_crease)

    opened = patch.mask(np.concatenate([upper, lower[::-1]]))
    patch.lay(opened, SCLERA, gloss=0.12)
    gaze_x = centre + 7.5 * scene.gaze_x
    gaze_y = -0.4 + 6 * scene.gaze_y
    colour = IRIS[traits.iris]
    patch.lay(opened * patch.mask(_disc(gaze_x, gaze_y, 6.2)), colour * np.float32(0.45), gloss=0.25)
    patch.lay(opened * patch.mask(_disc(gaze_x, gaze_y, 5.2), 0.8), colour)
    patch.lay(opened * patch.mask(_disc(gaze_x, gaze_y, 2.5)), PUPIL)
    patch.shade(opened * patch.mask(_band(upper, 4.2 * np.ones(15)), 1.2), 0.55)
    glint_x = gaze_x + 2.6 * np.sin(scene.light_azimuth)
    glint_y = gaze_y - 1.2 - 2.0 * max(scene.light_elevation, 0)
    patch.lay(opened * patch.mask(_disc(glint_x, glint_y, 1.25)), GLINT)

    patch.lay(patch.mask(_band(upper, 1.5 + 0.5 * along), 0.4) * np.float32(0.85), LASH)
    patch.lay(patch.mask(_band(lower, 0.8 + 0.2 * along), 0.6) * np.float32(0.35), LASH)


def _paint_brow(patch: _Patch, head: Head, traits: Traits, scene: Scene, side: int) -> None:
    along = np.linspace(-1, 1, 15)
    x = side * (traits.eye_distance + traits.brow_gap + along * traits.brow_length)
    x = np.where(x * side < 3, 3 * side, x)
    middle = -traits.brow_height - 3.2 * scene.brow_raise - traits.brow_arch * (1 - (along - 0.25) ** 2)
    middle = middle + along * traits.brow_tilt * traits.brow_length * 0.5
    thickness = traits.brow_thickness * np.clip(1.15 - 0.35 * along - 0.55 * np.maximum(along, 0) ** 2, 0.15, None)
    mask = patch.mask(_band(np.stack([x, middle], axis=1), thickness), 1.0)
    colour = head.hair * np.float32(0.55) if traits.hair_colour not in ("grey", "white") else head.hair * 0.5
    patch.lay(mask * np.float32(traits.brow_strength), np.minimum(colour, head.skin * np.float32(0.6)), gloss=0.03)


def _paint_mouth(patch: _Patch, head: Head, traits: Traits, scene: Scene) -> None:
    along = np.linspace(-1, 1, 21)
    smile, parted = scene.smile, scene.mouth_open
    width = traits.mouth_width * (1 + 0.13 * smile - 0.06 * parted)
    x = along * width
    line = traits.mouth_height + (0.5 - along**2) * 3.4 * smile
    taper = np.sqrt(np.clip(1 - np.abs(along) ** 2.2, 0, 1))
    bow = 1 - 0.28 * np.exp(-((along / 0.16) ** 2)) + 0.1 * np.exp(-(((np.abs(along) - 0.3) / 0.15) ** 2))
    gap = parted * 7 * taper * np.clip(1.2 - np.abs(along), 0, 1)
    stretch = 1 - 0.2 * max(smile, 0)
    top = line - 0.35 * gap - traits.upper_lip * stretch * taper * bow
    above, below = line - 0.35 * gap, line + 0.65 * gap
    bottom = below + traits.lower_lip * stretch * np.clip(1 - np.abs(along) ** 2.4, 0, 1) ** 0.75
    points = [np.stack([x, y], axis=1) for y in (top, above, below, bottom)]
    rose = linear((178 - 70 * traits.skin_tone, 84 - 30 * traits.skin_tone, 82 - 30 * traits.skin_tone))
    amount = np.float32(0.35 + 0.55 * traits.lip_red)
    lips = head.skin * single([0.82, 0.6, 0.58]) * (1 - amount) + rose * amount
    upper = patch.mask(np.concatenate([points[0], points[1][::-1]]), 0.6)
    patch.lay(upper, lips * np.float32(0.82), gloss=0.14)
    patch.lay(patch.mask(np.concatenate([points[2], points[3][::-1]]), 0.6), lips, gloss=0.3)
    opened = patch.mask(np.concatenate([points[1], points[2][::-1]]))
    patch.lay(opened, MOUTH)
    if parted > 0.1:
        teeth = np.stack([x * 0.72, np.minimum(above + 0.62 * gap, below)], axis=1)
        teeth_top = np.stack([x * 0.72, above], axis=1)
        patch.lay(opened * patch.mask(np.concatenate([teeth_top, teeth[::-1]]), 0.5), TEETH, gloss=0.3)
    dark = LIP_LINE * np.float32(0.6 + 0.4 * (1 - traits.skin_tone))
    patch.lay(patch.mask(_band(points[1], 0.9 * taper + 0.25), 0.5) * np.float32(0.8), dark, gloss=0.05)
    shadow = np.stack([x * 0.6, bottom + 3], axis=1)
    patch.shade(patch.mask(_band(shadow, 4 * taper), 2.5), 0.86)
