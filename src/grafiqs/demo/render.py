"""A picture of a head: each ray of the camera is followed to the surface, and shaded where it meets it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from grafiqs.demo.expression import express
from grafiqs.demo.head import Head
from grafiqs.demo.maps import BOTTOM, FRONT, HEIGHT, SPAN, TOP, WIDTH, Map, linear, single
from grafiqs.demo.scene import Scene
from grafiqs.demo.traits import Traits
from grafiqs.faces.template import SIZE, similarity

FINE = 136  # rays a side
COARSE = FINE // 8
NEAR = 150.0  # where rays begin, in mm before the axis
WIDE, NARROW, CLOSE = 9.0, 3.5, 0.3  # steps of a search, in mm, and when it is close enough
STRIDE = 5.0  # the longest step of a walk, in mm: a longer one leaps over thin things
BEHIND = 150.0  # how far behind what a ray's neighbours meet it may meet something, in mm


def render(head: Head, traits: Traits, scene: Scene) -> NDArray[np.uint8]:
    """A picture (112, 112, 3) RGB of the head, aligned to the ArcFace template."""
    head = express(head, traits, scene)
    turn = _rotation(scene)
    to_camera = _placement(head, scene, turn)
    depth, columns, rows, coverage = _meet(head.radius, turn, to_camera)
    light = _shade(head, scene, turn, columns, rows)
    picture = _background(scene)
    picture += (light - picture) * coverage[..., None]
    if scene.glasses and traits.frame != "none":
        _wear_glasses(picture, head, traits, turn, to_camera, depth)
    return _develop(cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA), scene)


# -- geometry ----------------------------------------------------------------------------------------------


def _rotation(scene: Scene) -> NDArray[np.float64]:
    """Head frame -> camera frame: yaw, then pitch, then roll."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (scene.yaw, scene.pitch, scene.roll))
    yaw = np.array([(cy, 0, sy), (0, 1, 0), (-sy, 0, cy)])
    pitch = np.array([(1, 0, 0), (0, cp, -sp), (0, sp, cp)])
    roll = np.array([(cr, -sr, 0), (sr, cr, 0), (0, 0, 1)])
    return np.asarray(roll @ pitch @ yaw)


def _texels(angles: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The columns and rows of the maps that are nearest to some angles and heights."""
    columns = np.rint((angles / SPAN + 1) / 2 * WIDTH - 0.5).astype(int)
    return columns, np.rint((y - TOP) / (BOTTOM - TOP) * HEIGHT - 0.5).astype(int)


def _on_surface(radius: Map, angles: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (N, 3) in mm of the surface at some angles and heights."""
    columns, rows = _texels(angles, y)
    reach = radius[rows, columns].astype(np.float64)
    return np.stack([reach * np.sin(angles), y, reach * np.cos(angles)], axis=1)


def _worn(head: Head, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points (N, 3) of the arm of glasses, lifted out of the surface; it ends where it goes under hair."""
    x, y, z = points.T
    columns, rows = _texels(np.arctan2(x, z), y)
    lift = 1 + np.maximum(head.radius[rows, columns] + 1 - np.hypot(x, z), 0) / np.hypot(x, z)
    under_hair = np.logical_or.accumulate(head.hair_cover[rows, columns] > 0.5)
    return np.stack([x * lift, y, z * lift], axis=1)[~under_hair]


def _placement(head: Head, scene: Scene, turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Camera plane in mm -> pixels of the fine picture, (2, 3): the landmarks onto the ArcFace template."""
    landmarks = _on_surface(head.radius, np.arcsin(head.landmarks[:, 0] / FRONT), head.landmarks[:, 1])
    seen = (landmarks @ turn.T)[:, :2]
    placement = similarity(seen) * scene.zoom
    placement[:, 2] += (1 - scene.zoom) * SIZE / 2 + np.array([scene.shift_x, scene.shift_y])
    # A pixel's centre is at (i + 0.5) in both pictures.
    placement[:, 2] += 0.5
    placement = placement * (FINE / SIZE)
    placement[:, 2] -= 0.5
    return placement


def _meet(radius: Map, turn: NDArray[np.float64], to_camera: NDArray[np.float64]) -> tuple[Map, Map, Map, Map]:
    """Where the rays meet the surface: their length and the texel (column, row), and the share of a pixel that is met.

    One ray in 64 is searched from near to far. All then walk from a little before what those around them met. Those
    that have not arrived, since they pass an edge, are searched too, and those that seem to miss in narrow steps.
    """
    inverse = cv2.invertAffineTransform(to_camera)
    size = float(1 / np.sqrt(np.linalg.det(to_camera[:, :2])))
    block = FINE // COARSE
    coarse = _rays(inverse, turn, COARSE, block)
    met, gap, _ = _search(radius, coarse, np.full_like(coarse[0][0], NEAR - 135), WIDE, 215)
    met, gap = (cv2.erode(found, np.ones((3, 3), np.uint8)) for found in (met, gap))
    outside = cv2.resize(gap, (FINE, FINE), interpolation=cv2.INTER_LINEAR) > np.float32(block * size)
    rays = _rays(inverse, turn, FINE, 1)
    start = cv2.resize(met - np.float32(4), (FINE, FINE), interpolation=cv2.INTER_LINEAR)
    length, distance, columns, rows = _walk(radius, rays, start)
    coverage = np.where(outside, np.float32(0), np.float32(1))
    late = np.flatnonzero((np.abs(distance) > np.float32(0.35 * size)) & ~outside)
    for step in (WIDE, NARROW):
        full_rows = np.concatenate([late, np.repeat(late[:1], -len(late) % FINE)]).reshape(-1, FINE)
        some = [(origin.ravel()[full_rows], way) for origin, way in rays]
        begin, gap, close = _search(radius, some, start.ravel()[full_rows], step, BEHIND)
        _, columns.ravel()[full_rows], rows.ravel()[full_rows], _ = _at(radius, some, begin)
        length.ravel()[full_rows], coverage.ravel()[full_rows] = begin, np.clip(1 - gap / np.float32(size), 0, 1)
        late = full_rows[close]
    length[coverage < np.float32(0.5)] = np.inf  # nothing is hidden behind what is not there
    return length, columns, rows, coverage


def _search(radius: Map, rays: Rays, start: Map, step: float, depth: float) -> tuple[Map, Map, NDArray[np.bool_]]:
    """The length at which rays first enter the head, and by how much those that do not enter it miss it, in mm.

    Points from `start` to `depth` mm behind it find the first that is inside, halving the way to the one before it the
    entry. Where a point before lies closer to the surface than half a step, something thin may have been missed: the
    third answer.
    """
    lengths = start + np.arange(0, depth, step, dtype=np.float32)[:, None, None]
    points = [(origin + way * lengths).reshape(-1, start.shape[-1]) for origin, way in rays]
    distance = _distance(radius, *points)[0].reshape(lengths.shape)
    gap = distance.min(axis=0)
    enters = gap < 0
    first = np.where(enters, (distance < 0).argmax(axis=0), len(lengths) + 1)
    before = np.arange(len(lengths))[:, None, None] < first - 1
    close: NDArray[np.bool_] = np.any((distance < np.float32(step / 2)) & before, axis=0)
    place = np.where(enters, first, distance.argmin(axis=0))[None]
    length = np.take_along_axis(lengths, place, axis=0)[0]
    half, inside = np.float32(step), enters
    while half > CLOSE:
        half /= 2
        length = length + np.where(inside, -half, half) * enters
        inside = _at(radius, rays, length)[0] < 0
    return length, gap, close


Rays = list[tuple[Map, np.float32]]
"""For -x, y and -z of the head frame: where the rays start, and their direction.

Turned by half a turn, so that OpenCV's angles of 0..2 pi break at the back of the head and not in the face.
"""


def _rays(inverse: NDArray[np.float64], turn: NDArray[np.float64], side: int, block: int) -> Rays:
    """Rays, side x side, through the centres of blocks of the fine picture's pixels."""
    centres = ((np.arange(side) + 0.5) * block - 0.5).astype(np.float32)
    back = turn.T  # camera frame -> head frame
    plane = single(back[:, :2] @ inverse[:, :2])
    origin = single(back[:, :2] @ inverse[:, 2] + back[:, 2] * NEAR)
    starts = plane[:, 0, None, None] * centres + plane[:, 1, None, None] * centres[:, None] + origin[:, None, None]
    starts[[0, 2]] *= -1
    return list(zip(starts, single(back[:, 2] * (1, -1, 1)), strict=True))


def _distance(radius: Map, x: Map, y: Map, z: Map) -> tuple[Map, Map, Map, Map]:
    """How far points are from the surface, away from the axis; their columns and rows, and distance from the axis."""
    reach, angle = cv2.cartToPolar(z, x)  # pi where the face looks
    angle *= np.float32(WIDTH / 2 / SPAN)
    angle += np.float32(WIDTH / 2 - 0.5 - np.pi * WIDTH / 2 / SPAN)
    rows = y * np.float32(HEIGHT / (BOTTOM - TOP))
    rows -= np.float32(TOP * HEIGHT / (BOTTOM - TOP) + 0.5)
    met = cv2.remap(radius, angle, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return reach - met, angle, rows, reach


def _at(radius: Map, rays: Rays, length: Map) -> tuple[Map, Map, Map, Map]:
    """What _distance says of the points at some length of the rays."""
    return _distance(radius, *(start + way * length for start, way in rays))


def _walk(radius: Map, rays: Rays, length: Map) -> tuple[Map, Map, Map, Map]:
    """Walk along the rays to the surface; a step is the distance to it, more where the ray runs along it."""
    (_, dx), _, (_, dz) = rays
    for _ in range(6):
        x, y, z = (start + way * length for start, way in rays)
        distance, _, _, reach = _distance(radius, x, y, z)
        approach = np.maximum(-(x * dx + z * dz) / reach, np.float32(0.75))
        length = length + np.minimum(np.float32(0.8) * distance / approach, np.float32(STRIDE))
    return length, *_at(radius, rays, length)[:3]


# -- light -------------------------------------------------------------------------------------------------


def _shade(head: Head, scene: Scene, turn: NDArray[np.float64], columns: Map, rows: Map) -> Map:
    """The light (FINE, FINE, 3) that the surface sends to the camera: Lambert, Blinn, and dim light from around."""
    slope_x = cv2.Sobel(head.radius, cv2.CV_32F, 1, 0, ksize=1, scale=WIDTH / 4 / SPAN)
    slope_y = cv2.Sobel(head.radius, cv2.CV_32F, 0, 1, ksize=1, scale=HEIGHT / 2 / (BOTTOM - TOP))
    slope_x /= head.radius
    tall, across = scene.light_elevation, scene.light_azimuth
    direction = np.array([np.sin(across) * np.cos(tall), -np.sin(tall), np.cos(across) * np.cos(tall)])
    tint = np.array([1 + 0.12 * scene.light_warmth, 1.0, 1 - 0.16 * scene.light_warmth])
    key, ambient = single(1.25 * scene.light_key * tint), single(scene.light_ambient * (2 - tint))
    towards = turn.T @ direction
    half = turn.T @ (direction + np.array([0, 0, 1]))
    half /= np.linalg.norm(half)
    up = turn.T @ np.array([0, -1, 0])

    def look(picture: Map) -> Map:
        return np.asarray(cv2.remap(picture, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))

    tilt_x, tilt_y, shine = look(slope_x), look(slope_y), look(head.gloss)
    angle = (columns - np.float32(WIDTH / 2 - 0.5)) * np.float32(2 * SPAN / WIDTH)
    cosine, sine = cv2.polarToCart(np.ones_like(angle), angle)
    normal_x = sine - cosine * tilt_x
    normal_z = cosine + sine * tilt_x
    scale = 1 / np.sqrt(normal_x * normal_x + normal_z * normal_z + tilt_y * tilt_y)

    def along(axis: NDArray[np.float64]) -> Map:
        a, b, c = single(axis)
        return np.asarray((a * normal_x - b * tilt_y + c * normal_z) * scale)

    # Skin scatters: its shadow's edge is soft.
    lambert = np.maximum((along(towards) + np.float32(0.18)) * np.float32(1 / 1.18), 0)
    highlight = cv2.pow(np.maximum(along(half), 0), 18) * shine * lambert
    around = look(head.cavity) * (np.float32(0.8) + np.float32(0.2) * along(up))
    received = lambert[..., None] * key + around[..., None] * ambient
    return np.asarray(look(head.albedo) * received + highlight[..., None] * key)


def _background(scene: Scene) -> Map:
    """What lies behind the head (FINE, FINE, 3): a gradient with soft shapes, out of focus."""
    rng = np.random.default_rng(scene.background)
    dull = rng.uniform(0.3, 1)

    def colour() -> Map:
        levels = rng.uniform(15, 240, 3)
        return linear(levels.mean() + (levels - levels.mean()) * (1 - dull))

    first, second = colour(), colour()
    ramp = np.linspace(0, 1, 28, dtype=np.float32)
    lean = rng.random()
    share = (lean * ramp[:, None] + (1 - lean) * ramp[None, :])[..., None]
    small = first * (1 - share) + second * share
    for _ in range(int(rng.integers(0, 6))):
        x, y, w, h = (int(v) for v in rng.integers(0, 28, 4))
        fill = colour().tolist()
        if rng.random() < 0.5:
            cv2.rectangle(small, (x, y), (x + w // 2, y + h), fill, -1)
        else:
            cv2.circle(small, (x, y), 2 + w // 4, fill, -1)
    small = cv2.GaussianBlur(small, (0, 0), float(rng.uniform(1, 3)))
    return np.asarray(cv2.resize(small, (FINE, FINE), interpolation=cv2.INTER_CUBIC).clip(0, 1), np.float32)


# -- glasses -----------------------------------------------------------------------------------------------


def _wear_glasses(
    picture: Map, head: Head, traits: Traits, turn: NDArray[np.float64], to_camera: NDArray[np.float64], depth: Map
) -> None:
    """Draw the frame in front of the face; what of it lies behind the surface is hidden."""
    angle = np.linspace(0, 2 * np.pi, 49)
    power = {"round": 1.0, "square": 0.45, "wide": 0.7}[traits.frame]
    wide = traits.frame_width * (1.08 if traits.frame == "wide" else 1)
    tall = traits.frame_height * (0.8 if traits.frame == "wide" else 1)
    across = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power * wide
    down = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power * tall + 3
    nasion = _on_surface(head.radius, np.array([0.0]), np.array([2.0]))[0, 2]
    middle = max(traits.eye_distance, traits.frame_width * 1.08 + 4)

    def before(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.stack([x, y, nasion + 4 - 0.0035 * x**2], axis=1)

    lines = [before(side * middle + across, down) for side in (-1, 1)]
    bridge = np.linspace(-1, 1, 12)
    lines.append(before(bridge * (middle - wide), -1 - 3 * (1 - bridge**2)))
    for side in (-1, 1):
        hinge = before(np.array([side * (middle + wide)]), np.array([-2.0]))[0]
        ear = _on_surface(head.radius, np.array([side * 1.47]), np.array([-4.0]))[0]
        lines.append(_worn(head, hinge + np.linspace(0, 1, 24)[:, None] * (ear - hinge)))
    mask = np.zeros((FINE, FINE), np.uint8)
    scale = np.sqrt(np.linalg.det(to_camera[:, :2]))
    thickness = max(2, round(traits.frame_thickness * scale))
    for line in lines:
        seen = line @ turn.T
        pixels = seen[:, :2] @ to_camera[:, :2].T + to_camera[:, 2]
        inside = np.clip(np.rint(pixels), 0, FINE - 1).astype(int)
        visible = NEAR - seen[:, 2] < depth[inside[:, 1], inside[:, 0]] + 3
        points = np.rint(pixels * 16).astype(np.int32)
        for i in np.flatnonzero(visible[:-1] & visible[1:]):
            cv2.line(mask, points[i].tolist(), points[i + 1].tolist(), 255, thickness, cv2.LINE_AA, 4)
    shade = 20 + 110 * traits.frame_shade**2
    colour = linear((shade * (1 + 0.5 * traits.frame_red), shade, shade * (1 - 0.4 * traits.frame_red)))
    picture += (colour * np.float32(0.8) - picture) * (mask.astype(np.float32) / 255)[..., None]


# -- camera ------------------------------------------------------------------------------------------------


def _develop(light: Map, scene: Scene) -> NDArray[np.uint8]:
    """Linear light -> sRGB levels: softness of the lens, exposure, saturation, contrast, noise."""
    if scene.softness > 0.15:
        light = cv2.GaussianBlur(light, (0, 0), scene.softness)
    levels = np.clip(light * np.float32(scene.exposure), 0, 1) ** np.float32(1 / 2.2)
    # One matrix does both: saturation about the grey of each pixel, contrast about the middle grey.
    mix = scene.saturation * np.eye(3) + (1 - scene.saturation) * np.array([0.299, 0.587, 0.114])
    offset = np.full((3, 1), 0.5 * (1 - scene.contrast))
    levels = cv2.transform(levels, np.hstack([scene.contrast * mix, offset]))
    rng = np.random.default_rng(scene.background + 1)
    noise = rng.standard_normal((SIZE, SIZE, 3), np.float32) * np.float32(scene.noise)
    return np.asarray(np.clip(np.rint(levels * 255 + noise), 0, 255), np.uint8)
