"""From a face to its crop: against a slow reference, to the byte where it can be."""

from __future__ import annotations

import numpy as np
import pytest

from grafiqs.errors import UnreadableSampleError
from grafiqs.faces.cut import cut_out
from grafiqs.faces.face import Face
from grafiqs.faces.template import LANDMARKS, SIZE, landmarks, similarity
from support.making import picture
from support.photos import (
    CROP,
    Points,
    face_of,
    known,
    moved,
    photo,
    slow_reference,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("number", [0, 1001, 2002])
def test_a_crop_whose_landmarks_are_those_of_the_template_comes_back_to_the_byte(number: int) -> None:
    assert np.array_equal(cut_out(picture(number), face_of(LANDMARKS), CROP), picture(number))


@pytest.mark.parametrize("angle", [0.0, 0.3, -2.5])
@pytest.mark.parametrize("scale", [0.6, 1.0, 1.9])
def test_a_face_is_turned_scaled_and_shifted_as_a_slow_reference_does(scale: float, angle: float) -> None:
    matrix = known(scale, angle, (120.3, 99.8))
    source = photo(picture(5), matrix, (210, 240))
    points = moved(matrix, LANDMARKS) + np.random.default_rng(0).normal(0, 2, (5, 2))
    expected = slow_reference(source, similarity(points))
    assert np.abs(cut_out(source, face_of(points), CROP) - expected).max() < 0.51


@pytest.mark.parametrize("angle", [0.0, 0.5, -2.5])
@pytest.mark.parametrize("scale", [1.9, 2.6, 5.0, 10.0])
def test_a_large_face_comes_back_as_it_was_before_it_was_enlarged(scale: float, angle: float) -> None:
    side = round(170 * scale)
    matrix = known(scale, angle, (side / 2 + 0.3, side / 2))
    found = cut_out(photo(picture(5), matrix, (side, side + 3)), face_of(moved(matrix, LANDMARKS)), CROP)
    away = np.abs(found.astype(int) - picture(5))[3:-3, 3:-3]
    assert away.mean() < 0.6
    assert np.quantile(away, 0.999) <= 12


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.9, 2.05, 3.3, 10.0, 17.7])
def test_a_spot_in_a_face_of_any_size_lies_where_it_should_to_a_twentieth_of_a_pixel(scale: float) -> None:
    side = int(160 * scale) + 7
    for angle in (0.0, 0.4, -2.0):
        for target in (LANDMARKS[0], LANDMARKS[4], np.array((25.0, 25.0)), np.array((86.0, 30.5))):
            matrix = known(scale, angle, (side / 2, side / 2 + 2.7))
            (x, y), (rows, columns) = moved(matrix, target), np.mgrid[: side + 9, :side]
            spot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2 / (4 * scale) ** 2)
            source = np.repeat(spot.round().astype(np.uint8)[:, :, None], 3, axis=2)
            found = cut_out(source, face_of(moved(matrix, LANDMARKS)), CROP)[:, :, 1].astype(np.float64)
            rows, columns = np.mgrid[:SIZE, :SIZE]
            centre = np.array(((found * columns).sum(), (found * rows).sum())) / found.sum()
            assert np.abs(centre - target).max() < 0.05


def test_nothing_is_lost_between_the_pixels_of_a_large_face() -> None:
    """Lines one pixel wide, twelve apart, which a crop of a twelfth of the size shows as an even grey."""
    source = np.zeros((1600, 1600, 3), np.uint8)
    source[:, ::12] = 240
    for shift in (50, 53, 56):
        found = cut_out(source, face_of(LANDMARKS * 12 + shift), CROP)
        assert np.abs(found.astype(int) - 20).max() <= 3


def test_beyond_the_picture_it_is_black() -> None:
    white = np.full((112, 112, 3), 255, np.uint8)
    found = cut_out(white, face_of(LANDMARKS - (40, 30)), CROP)
    expected = np.zeros_like(white)
    expected[30:, 40:] = 255
    assert np.array_equal(found, expected)


def test_crops_of_another_size_have_the_template_as_high_as_they_are_and_in_their_middle() -> None:
    assert landmarks(CROP) == pytest.approx(LANDMARKS, abs=1e-12)
    assert landmarks((112, 96)) == pytest.approx(LANDMARKS - (8, 0), abs=1e-12)
    assert landmarks((224, 224)) == pytest.approx(LANDMARKS * 2, abs=1e-12)
    assert np.array_equal(cut_out(picture(5), face_of(LANDMARKS), (112, 96)), picture(5)[:, 8:104])
    face = face_of(moved(known(3.3, 0.2, (60, 50)), LANDMARKS))
    narrow, usual, wide = (cut_out(picture(5), face, (112, width)).astype(int) for width in (96, 112, 160))
    assert (narrow.shape, wide.shape) == ((112, 96, 3), (112, 160, 3))
    assert np.abs(narrow - usual[:, 8:104]).max() <= 1
    assert np.abs(wide[:, 24:136] - usual).max() <= 1


@pytest.mark.parametrize("width", [20_000, 40_000, 70_000])
def test_a_face_in_a_very_wide_picture_is_cut_out_to_the_byte(width: int) -> None:
    source = np.pad(picture(5), [(0, 0), (width - 300, 188), (0, 0)])
    assert np.array_equal(cut_out(source, face_of(LANDMARKS + np.array((width - 300, 0))), CROP), picture(5))


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (2, 20_000), (40_000, 1)])
@pytest.mark.parametrize("scale", [3e-2, 1.0, 30.0])
def test_pictures_of_strange_sizes_are_cut_to_crops(size: tuple[int, int], scale: float) -> None:
    """A white one is white in the middle of a crop around its middle, where it is not shrunk to less than a pixel."""
    middle = (np.array(size[::-1]) - 1) / 2
    found = cut_out(np.full((*size, 3), 255, np.uint8), face_of((LANDMARKS - 56) * scale + middle), CROP)
    assert found.shape == (*CROP, 3)
    if scale < 1:
        assert found[56, 56].min() == 255


@pytest.mark.parametrize(
    "points",
    [np.full((5, 2), 3.7), np.zeros((5, 2)), 7 + LANDMARKS * 1e-2, LANDMARKS * 0 + (1e15, -1e15)],
    ids=["one", "zero", "nearly", "far"],
)
def test_landmarks_that_coincide_are_no_face(points: Points) -> None:
    with pytest.raises(UnreadableSampleError, match="its landmarks lie within one pixel"):
        cut_out(picture(5), face_of(points), CROP)


@pytest.mark.parametrize(
    "points",
    [LANDMARKS + 1000, LANDMARKS - 1000, LANDMARKS + np.array((1e9, 0)), LANDMARKS * 1e20, LANDMARKS * 1e200],
    ids=["below", "above", "beside", "large", "beyond numbers"],
)
def test_landmarks_with_nothing_of_the_picture_between_them_are_no_face(points: Points) -> None:
    """A black crop would be a wrong table unnoticed."""
    with pytest.raises(UnreadableSampleError):
        cut_out(picture(5), face_of(points), CROP)


@pytest.mark.parametrize(("box", "score"), [((1.5, -2.0, 30.25, 40.0), 0.9), (None, None), (None, 0.5)])
def test_a_face_is_what_its_row_says(box: tuple[float, ...] | None, score: float | None) -> None:
    face = Face(tuple(map(float, range(10))), box, score)
    assert len(face.row()) == 15
    assert Face.of_row(face.row()) == face
