"""A face states by how much its picture is turned."""

from __future__ import annotations

import numpy as np
import pytest

from grafiqs.faces.face import COLUMNS, Face
from grafiqs.faces.likeness import is_crop
from grafiqs.faces.template import LANDMARKS, landmarks
from support.photos import Points, face_of

CLOCKWISE = np.array([(0.0, 1.0), (-1.0, 0.0)])
"""A quarter turn of points (N, 2) in a picture, whose y points down."""


def leaning(degrees: float) -> Points:
    """The template turned clockwise."""
    angle = np.radians(degrees)
    turn = np.array([(np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))])
    return np.asarray(300 + 2 * LANDMARKS @ turn)


@pytest.mark.parametrize("lean", [-44, -20, 0, 13, 44])
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_face_knows_which_turn_of_its_picture_sets_it_upright(turn: int, lean: float) -> None:
    face = face_of(leaning(lean - turn))  # a face that leans to the left is set upright clockwise
    assert face.turn == turn
    assert dict(zip(COLUMNS, face.written(), strict=True))["turn"] == turn


def test_a_quarter_turn_is_that_of_a_picture() -> None:
    assert np.allclose(leaning(90) - 300, (leaning(0) - 300) @ CLOCKWISE)
    spot = np.zeros((5, 7))
    spot[1, 5] = 1  # x 5, y 1; clockwise, the bottom becomes the left side
    (place,) = np.argwhere(np.rot90(spot, -1))[:, ::-1]
    middle, turned_middle = np.array((3, 2)), np.array((2, 3))
    assert np.array_equal((np.array((5, 1)) - middle) @ CLOCKWISE + turned_middle, place)


def test_points_that_coincide_have_no_turn() -> None:
    assert Face((3.0, 4.0) * 5).turn == 0


@pytest.mark.parametrize("size", [(112, 112), (112, 96), (160, 160), (224, 200)])
def test_a_crop_is_known_by_its_landmarks_in_any_size(size: tuple[int, int]) -> None:
    points = landmarks(size)
    away = size[0] / 112 * np.array((5.0, 5.0))  # 7 pixels of a crop
    assert is_crop(points.ravel().tolist(), size)
    assert is_crop((points + 0.8 * away).ravel().tolist(), (*size, 3))
    assert not is_crop((points + away).ravel().tolist(), size)
    assert not is_crop(points.ravel().tolist(), (2 * size[0], 2 * size[1]))
