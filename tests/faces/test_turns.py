"""Pictures that lie or stand on their head: their faces are found upright; and every face of a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from grafiqs.errors import UnreadableSampleError
from grafiqs.faces.cut import cut_out
from grafiqs.faces.detector import SURE, Detector
from grafiqs.faces.face import Face
from grafiqs.faces.template import LANDMARKS
from grafiqs.images.decoding import decode
from support import marked
from support.making import picture
from support.photos import CROP, PHOTOS, Points, real

pytestmark = pytest.mark.usefixtures("one_thread")

TURNS = (0, 90, 180, 270)


@pytest.fixture
def dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Detector:
    return Detector(marked.detector(monkeypatch, tmp_path))


def points_of(face: Face) -> Points:
    return np.array(face.points).reshape(5, 2)


def turned_points(points: Points, size: tuple[int, int], turn: int) -> Points:
    """Where points of a picture of this height and width lie once it is turned counter-clockwise: by its pixels."""
    found = []
    for x, y in points.round().astype(int):
        spot = np.zeros(size)
        spot[y, x] = 1
        found.append(np.argwhere(np.rot90(spot, turn // 90))[0][::-1])
    return np.array(found, np.float64)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("size", [(200, 300), (300, 170), (150, 150)])
def test_landmarks_and_box_lie_where_they_are_in_the_picture_as_it_came(
    size: tuple[int, int], turn: int, dots: Detector
) -> None:
    lying = marked.marked(size, [(13, 4, 1.0)], turn)
    face = dots.face("", lying)
    assert face.turn == turn
    assert face.score == 0.95
    expected = turned_points(LANDMARKS.round() + np.array((13, 4)), size, turn)
    assert np.array_equal(points_of(face), expected)
    assert face.box is not None
    start = np.array(face.box[:2])
    sides = np.array(face.box[2:])
    low = np.minimum(start, start + sides)
    assert np.abs(low - expected.min(axis=0)).max() <= 1
    assert np.abs(sides - np.ptp(expected, axis=0)).max() <= 1e-9


@pytest.mark.parametrize("turn", TURNS)
def test_every_face_of_a_turned_picture_stands_upright_and_the_first_is_the_one_taken_alone(
    turn: int, dots: Detector
) -> None:
    """One near the centre; the others by size, and of one size by place."""
    places = [(0, 0, 1.0), (100, 60, 1.0), (220, 0, 1.1), (220, 140, 0.7)]
    lying = marked.marked((260, 310), places, turn)
    alone, every = dots.face("", lying), dots.faces(lying)
    assert every[0] == alone
    assert [face.turn for face in every] == [turn] * 4
    heights = [np.ptp(points_of(face), axis=0).max() / np.ptp(LANDMARKS, axis=0).max() for face in every]
    assert np.allclose(heights, [1.0, 1.1, 1.0, 0.7], atol=0.03)
    assert len({face.points for face in every}) == 4


def test_an_upright_face_that_is_sure_is_looked_at_once(dots: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    usual = Detector._found
    monkeypatch.setattr(Detector, "_found", lambda self, pixels: seen.append(pixels.shape) or usual(self, pixels))  # type: ignore[func-returns-value]
    dots.face("", marked.marked((200, 300), [(13, 4, 1.0)]))
    assert seen == [(200, 300, 3)]
    dots.face("", marked.marked((200, 300), [(13, 4, 1.0)], 180))
    assert seen[1:] == [(200, 300, 3), (300, 200, 3), (200, 300, 3), (300, 200, 3)]


@pytest.mark.parametrize("score", [0.61, 0.95])
def test_of_equal_scores_the_upright_one_is_kept(score: float, dots: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    row = np.array([[10, 10, 60, 60, *(LANDMARKS + 5).ravel(), score]])
    monkeypatch.setattr(Detector, "_found", lambda *_: row.copy())
    assert dots.face("", picture(1)).turn == 0


@pytest.mark.parametrize(
    ("scores", "clear"),
    [
        ({0: 0.85, 90: 0.0, 180: 0.93, 270: 0.0}, True),
        ({0: 0.0, 90: 0.0, 180: 0.901, 270: 0.87}, True),
        ({0: 0.0, 90: 0.0, 180: 0.89, 270: 0.0}, False),
        ({0: 0.9, 90: 0.0, 180: 0.92, 270: 0.0}, False),
        ({0: 0.8, 90: 0.92, 180: 0.93, 270: 0.0}, False),
    ],
)
def test_a_photo_is_turned_if_its_face_wins_clearly(
    scores: dict[int, float], clear: bool, dots: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one look it scores 0.85 as it came, and 0.95 upside down."""
    monkeypatch.setattr(Detector, "_near", lambda *_: scores)
    face = dots.face("", marked.marked((200, 300), [(13, 4, 1.0)], 180))
    assert (face.score, face.unsure) == ((0.95, False) if clear else (0.85, True))


def test_a_face_that_is_found_in_another_turn_alone_is_taken_and_unsure(
    dots: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = marked.found
    lying = marked.marked((200, 300), [(13, 4, 1.0)], 180)

    def upright(detector: object, pixels: np.ndarray) -> np.ndarray:
        rows = usual(detector, pixels)
        return rows[rows[:, 14] > 0.9]

    monkeypatch.setattr(Detector, "_found", upright)
    monkeypatch.setattr(Detector, "_near", lambda *_: dict.fromkeys(TURNS, 0.7))
    assert [(face.turn, face.unsure) for face in (dots.face("", lying), *dots.faces(lying))] == [(180, True)] * 2


def test_another_face_upside_down_does_not_take_the_place_of_an_upright_one(
    dots: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One scores 0.85 in the middle; beside it, one scores 0.9 in another turn, but not clearly."""
    near, beside = (np.array([*box, *(LANDMARKS + box[0]).ravel(), score]) for box, score in (
        ((100.0, 100.0, 60.0, 60.0), 0.85), ((10.0, 10.0, 60.0, 60.0), 0.9)
    ))  # fmt: skip
    looks = iter([near[None], beside[None], np.empty((0, 15)), np.empty((0, 15))])
    monkeypatch.setattr(Detector, "_found", lambda *_: next(looks))
    monkeypatch.setattr(Detector, "_near", lambda *_: dict.fromkeys(TURNS, 0.9))
    face = dots.face("", np.zeros((260, 260, 3), np.uint8))
    assert (face.score, face.turn, face.unsure) == (0.85, 0, False)


def test_every_face_stands_in_its_own_turn(dots: Detector) -> None:
    mixed = marked.marked((200, 300), [(20, 40, 1.0), (180, 30, 0.9)])
    mixed[:, 150:] = mixed[:, 150:][::-1, ::-1]
    assert [face.turn for face in dots.faces(mixed)] == [0, 180]
    assert [face.turn for face in dots.faces(np.ascontiguousarray(np.rot90(mixed)))] == [90, 270]


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (40, 2)])
def test_nothing_is_found_where_nothing_is(size: tuple[int, int], dots: Detector) -> None:
    for look in (lambda pixels: dots.face("", pixels), dots.faces):
        with pytest.raises(UnreadableSampleError, match="no face was found in it"):
            look(np.zeros((*size, 3), np.uint8))


# -- a real detector ---------------------------------------------------------------------------------------


def photos(count: int) -> list[np.ndarray]:
    return [decode(path.read_bytes()) for path in sorted(PHOTOS.glob("*/*_0001.jpg"))[:count]]


@real
@pytest.mark.parametrize("turn", TURNS)
def test_real_photos_are_righted(turn: int, detector: Detector) -> None:
    """Of all 1,580, turned in each way, every one: here some."""
    for source in photos(12):
        upright, face = detector.face("", source), detector.face("", np.rot90(source, turn // 90))
        assert (upright.turn, face.turn, face.score) == (0, turn, upright.score)
        crops = [
            cut_out(pixels, found, CROP).astype(int)
            for pixels, found in ((source, upright), (np.ascontiguousarray(np.rot90(source, turn // 90)), face))
        ]
        assert np.abs(crops[0] - crops[1]).mean() < 0.5


@real
def test_a_lying_face_at_the_border_of_a_large_photo_is_righted(detector: Detector) -> None:
    for source in photos(3):
        large = np.full((900, 1400, 3), 127, np.uint8)
        large[640:890, :250] = source
        upright = detector.face("", large)
        face = detector.face("", np.rot90(large))
        assert (upright.turn, face.turn) == (0, 90)
        assert np.abs(turned_points(points_of(upright), large.shape[:2], 90) - points_of(face)).max() < 1


@real
def test_photos_that_are_mirrored_and_turned_by_exif_are_cut_as_they_are_seen(
    detector: Detector, tmp_path: Path
) -> None:
    """Landmarks are those of the picture as EXIF turns it: upright, so that nothing is left to turn."""
    source = Image.fromarray(photos(1)[0])
    for orientation, back in ((2, 0), (5, 5), (7, 6), (6, 2)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = source.transpose(Image.Transpose(back))
        stored.save(tmp_path / "photo.png", exif=exif)
        face = detector.face("", decode((tmp_path / "photo.png").read_bytes()))
        assert face.turn == 0
        assert face.score is not None
        assert face.score >= SURE - 0.03


@real
def test_thirty_faces_are_found_upright_and_turned(detector: Detector) -> None:
    tiles = [source[40:210, 40:210] for source in photos(30)]
    grid = np.vstack([np.hstack(tiles[6 * row : 6 * row + 6]) for row in range(5)])
    every = detector.faces(grid)
    assert len(every) == 30
    assert every[0] == detector.face("", grid)
    sizes = [face.box[2] * face.box[3] for face in every[1:] if face.box]
    assert sizes == sorted(sizes, reverse=True)
    tiles_seen = {tuple((points_of(face).mean(axis=0) // 170).astype(int)) for face in every}
    assert tiles_seen == {(column, row) for column in range(6) for row in range(5)}
    lying = detector.faces(np.ascontiguousarray(np.rot90(grid, 2)))
    assert [face.turn for face in lying] == [180] * 30


@real
def test_a_small_face_beside_a_large_one_is_found_once(detector: Detector) -> None:
    face, other = (source[50:200, 50:200] for source in photos(2))
    canvas = np.full((1500, 2000, 3), 127, np.uint8)
    canvas[100:1100, 100:1100] = cv2.resize(face, (1000, 1000))
    canvas[1200:1260, 1800:1860] = cv2.resize(other, (60, 60))
    large, small = detector.faces(canvas)
    assert (points_of(large) < 1100).all()
    assert (points_of(small) > (1800, 1200)).all()


@real
def test_upright_photos_of_poor_quality_are_not_turned(detector: Detector) -> None:
    """Each scores more in another turn."""
    kinds: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "John_Howard/John_Howard_0003.jpg": lambda pixels: pixels[:150],
        "John_Snow/John_Snow_0004.jpg": lambda pixels: cv2.warpAffine(
            pixels, cv2.getRotationMatrix2D((125, 125), 30, 1), (250, 250), flags=cv2.INTER_LINEAR
        ),
        "Tommy_Franks/Tommy_Franks_0003.jpg": lambda pixels: cv2.rectangle(
            pixels.copy(), (78, 98), (172, 124), (20, 20, 20), -1
        ),
    }
    for path, spoilt in kinds.items():
        face = detector.face("", np.ascontiguousarray(spoilt(decode((PHOTOS / path).read_bytes()))))
        assert (face.turn, face.unsure) == (0, True)


@real
def test_faces_of_a_collage_that_stand_in_different_turns_are_all_righted(detector: Detector) -> None:
    tiles = [source[40:210, 40:210] for source in photos(4)]
    turned = [np.rot90(tile, turn // 90) for tile, turn in zip(tiles, (0, 180, 0, 90), strict=True)]
    every = detector.faces(np.ascontiguousarray(np.hstack(turned)))
    assert [face.turn for face in sorted(every, key=lambda face: face.points[0])] == [0, 180, 0, 90]
