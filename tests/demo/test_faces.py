"""Drawn faces: the same numbers give the same picture, and the picture is a face and nothing else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, astuple, dataclass, fields, replace
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from grafiqs.demo import maps
from grafiqs.demo.degrade import KINDS, YAW, Degradation, degrade
from grafiqs.demo.head import Head, build_head
from grafiqs.demo.identity import Face, Identity
from grafiqs.demo.render import render
from grafiqs.demo.scene import Scene
from grafiqs.demo.traits import BEARDS, FRAMES, HAIR_COLOURS, HAIR_STYLES, IRISES, Traits
from grafiqs.errors import RequestError
from grafiqs.faces.template import LANDMARKS, SIZE

Picture = NDArray[np.uint8]
Places = NDArray[np.float64]

SEED = 6
STRENGTHS = (0.05, 0.2, 0.35, 0.5, 0.75, 1.0)


@pytest.fixture(autouse=True)
def one_thread_of_opencv() -> Iterator[None]:
    """The pictures are too small for more."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(threads)


@cache
def person(number: int) -> Identity:
    """One of the identities that these tests look at; its head is built once."""
    return Identity(SEED, number)


@cache
def clean(number: int) -> Face:
    """The first face of that identity, drawn once; its picture is read only."""
    face = person(number).face(0)
    face.image.setflags(write=False)
    return face


@dataclass(frozen=True)
class Model:
    """A head whose scene a test chooses."""

    traits: Traits
    head: Head

    def picture(self, scene: Scene) -> Picture:
        return render(self.head, self.traits, scene)


@cache
def model(number: int, hair_style: str = "") -> Model:
    traits = person(number).traits
    traits = replace(traits, hair_style=hair_style or traits.hair_style)
    return Model(traits, build_head(traits, np.random.default_rng(number)))


def bare(scene: Scene) -> Scene:
    """The scene without glasses, and without what the camera adds."""
    return replace(scene, glasses=False, noise=0.0, softness=0.0)


# -- the same numbers, the same picture --------------------------------------------------------------------

PROGRAM = """
import hashlib, sys, cv2
cv2.setNumThreads(int(sys.argv[1]))
from grafiqs.demo.degrade import KINDS, Degradation
from grafiqs.demo.identity import Identity
digest = hashlib.sha256()
for number in range(3):
    identity = Identity(6, number)
    digest.update(repr(identity.traits).encode())
    for sample, kind in enumerate((None, *KINDS)):
        face = identity.face(sample, Degradation(kind, 0.4) if kind else None)
        digest.update(repr(face.scene).encode() + face.image.tobytes())
print(digest.hexdigest())
"""
"""Prints a checksum of faces with and without every degradation, drawn on so many threads."""


def checksum() -> str:
    """The checksum that PROGRAM prints, from this process."""
    digest = hashlib.sha256()
    for number in range(3):
        identity = Identity(SEED, number)
        digest.update(repr(identity.traits).encode())
        for sample, kind in enumerate((None, *KINDS)):
            face = identity.face(sample, Degradation(kind, 0.4) if kind else None)
            digest.update(repr(face.scene).encode() + face.image.tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("threads", [1, 2])
def test_another_process_with_other_hashes_and_threads_draws_the_same_bytes(threads: int) -> None:
    others = {"PYTHONHASHSEED": str(threads), "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(threads)],
        env=os.environ | others,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == checksum()


def test_the_number_of_threads_changes_no_byte() -> None:
    drawn = []
    for threads in (1, 2, 4):
        cv2.setNumThreads(threads)
        drawn.append(checksum())
    assert len(set(drawn)) == 1


def test_a_face_does_not_depend_on_what_was_drawn_before() -> None:
    identity = Identity(SEED, 3)
    for sample in (5, 0, 2):
        identity.face(sample, Degradation("noise", 1.0))
    after = identity.face(4)
    alone = Identity(SEED, 3).face(4)
    assert after.scene == alone.scene
    assert np.array_equal(after.image, alone.image)
    assert np.array_equal(identity.face(4).image, alone.image)


def test_an_identity_is_the_same_whenever_it_is_met() -> None:
    assert [Identity(SEED, number).traits for number in (2, 0, 1)] == [person(number).traits for number in (2, 0, 1)]


@pytest.mark.parametrize("other", [(SEED, 1), (SEED + 1, 0), (0, SEED), (4294967295, 0)])
def test_another_seed_or_number_is_another_person(other: tuple[int, int]) -> None:
    """Every number of the two differs, those that are exactly 0 for many aside; scene and picture do, too."""
    one, two = person(0), Identity(*other)
    same = [name for name, value in asdict(one.traits).items() if getattr(two.traits, name) == value]
    assert all(isinstance(getattr(one.traits, name), str | int) or name == "freckles" for name in same)
    assert one.scene(0) != two.scene(0)
    assert np.abs(one.face(0).image.astype(int) - two.face(0).image).mean() > 8


def test_every_sample_is_another_scene() -> None:
    scenes = {person(0).scene(sample) for sample in range(200)}
    assert len(scenes) == 200
    assert len({scene.background for scene in scenes}) == 200


def test_every_word_is_drawn_and_every_number_stays_in_its_range() -> None:
    traits = [Identity(SEED, number).traits for number in range(300)]
    for name, words in {
        "hair_style": HAIR_STYLES,
        "hair_colour": HAIR_COLOURS,
        "beard": BEARDS,
        "iris": IRISES,
        "frame": FRAMES,
    }.items():
        assert {getattr(one, name) for one in traits} == set(words)
    scenes = [person(0).scene(sample) for sample in range(500)]
    limits = {"yaw": 0.48, "pitch": 0.26, "roll": 0.15, "shift_x": 2.0, "shift_y": 2.0, "light_azimuth": 1.3}
    for name, limit in limits.items():
        values = np.array([getattr(scene, name) for scene in scenes])
        assert 0.8 * limit < np.abs(values).max() <= limit
        assert abs(values.mean()) < 0.1 * limit
    assert 0.5 < np.mean([scene.glasses for scene in scenes]) < 1


# -- the picture -------------------------------------------------------------------------------------------


def test_a_face_is_a_picture_of_the_template_s_size_with_what_it_was_drawn_from() -> None:
    degradation = Degradation("jpeg", 0.5)
    for wrong in (None, *(Degradation(kind, strength) for kind in KINDS for strength in (0.05, 1.0))):
        face = person(1).face(2, wrong)
        assert face.image.shape == (SIZE, SIZE, 3)
        assert face.image.dtype == np.uint8
        assert face.scene == person(1).scene(2, wrong)
        assert face.degradation == wrong
    assert person(1).face(2, degradation).degradation is degradation


def test_colours_are_red_green_blue() -> None:
    """Skin, at the cheeks, is redder than it is blue on every head."""
    for number in range(20):
        face = person(number).face(0).image[62:72, 36:76].reshape(-1, 3).mean(axis=0)
        assert face[0] > face[2] + 5


def landing(head: Head, scene: Scene) -> Places:
    """Where the landmarks of a head come to lie in a picture, by turns and a fit written once more."""
    x, y = head.landmarks.T
    angle = np.arcsin(x / maps.FRONT)
    column = (angle / maps.SPAN + 1) / 2 * maps.WIDTH - 0.5
    row = (y - maps.TOP) / (maps.BOTTOM - maps.TOP) * maps.HEIGHT - 0.5
    reach = head.radius[np.rint(row).astype(int), np.rint(column).astype(int)]
    x, z = reach * np.sin(angle), reach * np.cos(angle)
    x, z = np.cos(scene.yaw) * x + np.sin(scene.yaw) * z, np.cos(scene.yaw) * z - np.sin(scene.yaw) * x
    y = np.cos(scene.pitch) * y - np.sin(scene.pitch) * z
    x, y = np.cos(scene.roll) * x - np.sin(scene.roll) * y, np.sin(scene.roll) * x + np.cos(scene.roll) * y
    ones, zeros = np.ones(5), np.zeros(5)
    system = np.concatenate([np.stack([x, -y, ones, zeros], axis=1), np.stack([y, x, zeros, ones], axis=1)])
    fitted = system @ np.linalg.lstsq(system, LANDMARKS.T.ravel(), rcond=None)[0]
    middle = SIZE / 2
    return np.asarray((fitted.reshape(2, 5).T - middle) * scene.zoom + middle + [scene.shift_x, scene.shift_y])


def centre(weight: NDArray[np.int64]) -> Places:
    rows, columns = np.indices(weight.shape)
    return np.array([np.average(columns, weights=weight), np.average(rows, weights=weight)])


def found(one: Model, scene: Scene) -> Places:
    """Where a picture has its eyes and its mouth: what moves with the gaze, and what reddens with the lips."""

    def difference(first: Picture, second: Picture) -> NDArray[np.int64]:
        return np.asarray(np.abs(first.astype(int) - second).sum(axis=-1))

    left, right = (one.picture(replace(scene, gaze_x=gaze)) for gaze in (-0.35, 0.35))
    pale, red = (render(one.head, replace(one.traits, lip_red=red), scene) for red in (0.0, 1.0))
    eyes, lips = difference(left, right), difference(pale, red)
    eyes, lips = eyes * (eyes > 30), np.minimum(lips, 6)  # so that a lip in the shade counts as one in the light
    half = np.arange(SIZE) < SIZE / 2 + scene.shift_x
    return np.array([centre(eyes * half), centre(eyes * ~half), centre(lips)])


def still(scene: Scene) -> Scene:
    """The scene with eyes wide open and looking straight, and the mouth at rest."""
    return replace(bare(scene), eyes_open=1.1, gaze_y=0.0, smile=0.0, mouth_open=0.0, brow_raise=0.0)


def test_eyes_and_mouth_lie_where_the_template_has_them() -> None:
    """Each where the best turn, scale and shift of its head brings it; over many heads, on the template itself."""
    off = []
    for number in range(40):
        one, scene = model(number), still(person(number).scene(0))
        places, expected = found(one, scene), landing(one.head, scene)
        assert np.abs(places[:2] - expected[:2]).max() < 1.1
        across, down = np.abs(places[2] - expected[3:].mean(axis=0))
        assert across < 0.7
        assert down < 1.8  # the lower lip may be much thicker than the upper
        middle = SIZE / 2
        straight = (places - middle - [scene.shift_x, scene.shift_y]) / scene.zoom + middle
        off.append(straight - [*LANDMARKS[:2], LANDMARKS[3:].mean(axis=0)])
    assert np.abs(off).max() < 5  # heads are of different proportions
    assert np.abs(np.mean(off, axis=0)).max() < 1.3


def test_shift_and_zoom_move_the_face_by_what_they_say() -> None:
    one = model(0)
    scene = replace(still(person(0).scene(0)), shift_x=0.0, shift_y=0.0, zoom=1.0)
    before = found(one, scene)
    moved = found(one, replace(scene, shift_x=2.0, shift_y=-1.5))
    assert moved - before == pytest.approx(np.tile([2.0, -1.5], (3, 1)), abs=0.25)
    larger = found(one, replace(scene, zoom=1.2))
    assert larger == pytest.approx((before - SIZE / 2) * 1.2 + SIZE / 2, abs=0.4)


# -- nothing floats ----------------------------------------------------------------------------------------

YAWS = (-1.1, -0.6, -0.1, 0.0, 0.1, 0.3, 0.9)
BACKGROUNDS = (1, 7, 12)


def head_of(one: Model, scene: Scene) -> NDArray[np.uint8]:
    """The pixels that are the same whatever the background: 1 where the head is, 0 elsewhere."""
    first, *others = (one.picture(replace(scene, background=background)) for background in BACKGROUNDS)
    same = [(first == other).all(axis=-1) for other in others]
    return np.asarray(np.logical_and.reduce(same), np.uint8)


def sizes(mask: NDArray[np.uint8], connectivity: int) -> list[tuple[int, bool]]:
    """The components of a mask, largest first: how many pixels, and whether any lies at the frame."""
    _, labels = cv2.connectedComponents(mask, connectivity=connectivity)
    frame = {*labels[0], *labels[-1], *labels[:, 0], *labels[:, -1]}
    counts = np.bincount(labels.ravel())
    return sorted(((int(count), i in frame) for i, count in enumerate(counts) if i), reverse=True)


def pieces(head: NDArray[np.uint8]) -> tuple[list[int], list[int]]:
    """The sizes of what is cut off the head, and of the holes in it."""
    parts = [count for count, _ in sizes(head, connectivity=8)]
    gaps = [count for count, at_frame in sizes(1 - head, connectivity=4) if not at_frame]
    return parts[1:], gaps


def test_pieces_and_holes_are_found() -> None:
    head = np.zeros((SIZE, SIZE), np.uint8)
    head[20:, 30:80] = 1
    assert pieces(head) == ([], [])
    head[10:12, 50:53] = 1
    head[60:62, 40] = 0
    head[70, 70] = 0
    assert pieces(head) == ([6], [2, 1])


@pytest.mark.parametrize("style", HAIR_STYLES)
def test_a_head_is_one_piece_without_holes(style: str) -> None:
    """From the left to the right; a single pixel may be equal by chance, or seen through by rounding."""
    wrong = []
    for number in range(HAIR_STYLES.index(style), 50, 10):
        for sample, yaw in enumerate(YAWS):
            one, scene = model(number, style), replace(bare(person(number).scene(sample)), yaw=yaw)
            head = head_of(one, scene)
            assert 0.35 < head.mean() < 0.98
            if any(count > 1 for several in pieces(head) for count in several):
                wrong.append((number, sample, yaw, *pieces(head)))
    assert not wrong, "identity, sample, yaw, sizes of loose pieces, sizes of holes"


SPECK = 90
"""By how many levels a speck leaves all of its neighbours, in every colour.

Over 1200 faces nothing outside the eyes, where a glint is meant to be one, left its neighbours by more than 71; a
pixel that shows the background, another feature or a number out of range in the middle of a surface does.
"""


def specks(picture: Picture) -> set[tuple[int, int]]:
    """Rows and columns of the pixels that are far from each of their eight neighbours, the eyes aside."""
    levels = picture.astype(int)
    framed = np.pad(levels, ((1, 1), (1, 1), (0, 0)), mode="reflect")
    around = [
        framed[1 + down : 1 + down + SIZE, 1 + across : 1 + across + SIZE]
        for down in (-1, 0, 1)
        for across in (-1, 0, 1)
        if down or across
    ]
    beyond = np.maximum(levels - np.max(around, axis=0), np.min(around, axis=0) - levels).min(axis=-1)
    rows, columns = np.indices((SIZE, SIZE))
    for x, y in LANDMARKS[:2]:
        beyond[(np.abs(columns - x) < 12) & (np.abs(rows - y) < 8)] = 0
    return {(int(row), int(column)) for row, column in np.argwhere(beyond > SPECK)}


def test_no_face_has_a_speck() -> None:
    marked = {
        (number, sample): specks(person(number).face(sample).image) for number in range(100) for sample in range(2)
    }
    assert not {face: where for face, where in marked.items() if where}


def test_a_speck_would_be_found() -> None:
    for number, (row, column) in enumerate([(30, 56), (75, 40), (80, 70), (0, 0), (111, 60), (64, 2)]):
        picture = person(number).face(0).image.copy()
        picture[row, column] = np.where(picture[row, column] < 128, 255, 0)
        assert specks(picture) == {(row, column)}


# -- who it is ---------------------------------------------------------------------------------------------


def test_a_person_is_nearer_to_itself_with_another_expression_than_to_anybody_else() -> None:
    """One pose, one light, one background: what remains is the identity, and it outweighs an expression."""
    scene = person(0).scene(0)
    everybody = [model(number) for number in range(30)]
    gallery = np.array([one.picture(scene) for one in everybody], np.float64)
    within, between = [], []
    for number, one in enumerate(everybody):
        other = person(number).scene(1)
        expression = ("smile", "mouth_open", "brow_raise", "eyes_open", "gaze_x", "gaze_y")
        changed = replace(scene, **{name: getattr(other, name) for name in expression})
        distance = np.abs(gallery - one.picture(changed)).mean(axis=(1, 2, 3))
        within.append(distance[number])
        between.append(np.delete(distance, number).min())
    assert max(within) > 0.2
    assert min(between) > 2 * max(within)


# -- degradations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_a_degradation_leaves_the_scene_as_it_is_but_for_the_yaw(kind: str | None) -> None:
    for number in range(5):
        for sample in range(4):
            scene = person(number).scene(sample)
            degraded = person(number).scene(sample, Degradation(kind, 0.7) if kind else None)
            changed = {
                field.name for field in fields(Scene) if getattr(scene, field.name) != getattr(degraded, field.name)
            }
            assert changed == ({"yaw"} if kind == YAW else set())


def test_yaw_turns_the_head_further_to_its_own_side() -> None:
    for sample in range(20):
        start = person(2).scene(sample).yaw
        angles = [person(2).scene(sample, Degradation(YAW, strength)).yaw for strength in STRENGTHS]
        assert all(np.sign(angle) == np.sign(start) for angle in angles)
        assert np.abs([start, *angles]).tolist() == sorted(np.abs([start, *angles]))
        assert len(set(angles)) == len(STRENGTHS)
        assert np.abs(angles[-1]) == pytest.approx(1.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [0.05, 0.5, 1.0])
def test_every_degradation_changes_the_picture(kind: str, strength: float) -> None:
    for number in range(4):
        degraded = person(number).face(0, Degradation(kind, strength)).image
        assert (clean(number).image != degraded).any(axis=-1).mean() > 0.03


@pytest.mark.parametrize("kind", ["blur", "covered_eyes", "low_resolution", "jpeg"])
def test_a_degraded_face_is_the_clean_one_with_the_degradation_laid_on_it(kind: str) -> None:
    """To the byte, where no noise is drawn."""
    for strength in (0.05, 1.0):
        wrong = Degradation(kind, strength)
        expected = degrade(clean(0).image, wrong, np.random.default_rng())
        assert np.array_equal(person(0).face(0, wrong).image, expected)


def gradient_energy(picture: Picture, _: Picture) -> float:
    levels = picture.astype(np.float64)
    return float(sum((np.diff(levels, axis=axis) ** 2).mean() for axis in (0, 1)))


def residual(picture: Picture, clean: Picture) -> float:
    return float(np.abs(picture.astype(np.float64) - clean).mean())


def brightness(picture: Picture, _: Picture) -> float:
    return float(picture.mean())


def changed_pixels(picture: Picture, clean: Picture) -> float:
    return float((picture != clean).any(axis=-1).sum())


def fine_detail(picture: Picture, _: Picture) -> float:
    """How far pixels are from the mean of the block of 4 by 4 in which they lie."""
    blocks = picture.reshape(SIZE // 4, 4, SIZE // 4, 4, 3).astype(np.float64)
    return float(np.abs(blocks - blocks.mean(axis=(1, 3), keepdims=True)).mean())


MEASURES: dict[str, tuple[Callable[[Picture, Picture], float], int]] = {
    "blur": (gradient_energy, -1),
    "noise": (residual, 1),
    "darkness": (brightness, -1),
    "covered_eyes": (changed_pixels, 1),
    "low_resolution": (fine_detail, -1),
    "jpeg": (residual, 1),
}
"""What each degradation does to the picture, and whether more of it is more or less of that."""


@pytest.mark.parametrize("kind", MEASURES)
def test_a_degradation_grows_with_its_strength(kind: str) -> None:
    """On each face, by at least a hundredth from each strength to the next; JPEG on average."""
    measure, direction = MEASURES[kind]
    courses = []
    for number in range(8):
        picture = clean(number).image
        wrong = (Degradation(kind, strength) for strength in STRENGTHS)
        spoiled = [degrade(picture, one, np.random.default_rng(number)) for one in wrong]
        courses.append([measure(one, picture) for one in (picture, *spoiled)])
    values = np.array(courses)
    if kind == "jpeg":
        values = values.mean(axis=0, keepdims=True)
    if direction > 0:
        assert (values[:, 1:] > 1.01 * values[:, :-1]).all()
    else:
        assert (values[:, 1:] < 0.99 * values[:, :-1]).all()


def test_every_kind_has_its_measure() -> None:
    assert {*MEASURES, YAW} == set(KINDS)


def test_noise_is_as_strong_as_it_says() -> None:
    grey = np.full((SIZE, SIZE, 3), 128, np.uint8)
    for strength in (0.05, 0.5):
        noisy = degrade(grey, Degradation("noise", strength), np.random.default_rng(1)).astype(np.float64)
        assert noisy.std() == pytest.approx(40 * strength, rel=0.02)
        assert noisy.mean() == pytest.approx(128, abs=0.5)


def test_darkness_takes_as_many_stops_of_light_as_it_says() -> None:
    """Eight at full strength. What is near black is rounded, and noise lifts it: only bright places are exact."""
    white = np.full((SIZE, SIZE, 3), 255, np.uint8)
    for strength in (0.05, 0.5, 1.0):
        dark = degrade(white, Degradation("darkness", strength), np.random.default_rng(1))
        light = (dark.astype(np.float64) / 255) ** 2.2
        assert light.mean() == pytest.approx(2 ** (-8 * strength), rel=0.01)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_bar_covers_both_eyes(strength: float) -> None:
    """The landmarks of the template, and on every face the middle of its own eyes; and the mouth never."""
    for number in range(20):
        face, bar = clean(number), Degradation("covered_eyes", strength)
        covered = degrade(face.image, bar, np.random.default_rng(0))
        for x, y in [*LANDMARKS[:2], *landing(model(number).head, face.scene)[:2]]:
            assert covered[round(y), round(x)].tolist() == [18, 18, 20]
        assert np.array_equal(covered[75:], face.image[75:])


@pytest.mark.parametrize("kind", KINDS)
def test_degrading_leaves_the_picture_it_is_given_as_it_is(kind: str) -> None:
    given = clean(0).image.copy()
    given.setflags(write=False)
    degrade(given, Degradation(kind, 1.0), np.random.default_rng(0))
    assert np.array_equal(given, clean(0).image)


def test_a_degradation_of_no_known_kind_is_refused_with_the_kinds_there_are() -> None:
    for kind in ("fog", "", "Blur", "none"):
        with pytest.raises(RequestError, match=f"no degradation '{kind}'") as refused:
            Degradation(kind, 0.5)
        assert all(known in str(refused.value) for known in KINDS)


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.0000001, 40.0, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    for kind in KINDS:
        with pytest.raises(RequestError, match=r"lies above 0 and up to 1, not at ") as refused:
            Degradation(kind, strength)
        assert str(refused.value).endswith(str(strength))


def test_numbers_of_a_scene_are_plain() -> None:
    """No NumPy types, which would be written to tables in other words."""
    for values in (astuple(person(0).scene(0)), astuple(person(0).traits)):
        assert {type(value) for value in values} <= {float, int, bool, str}
