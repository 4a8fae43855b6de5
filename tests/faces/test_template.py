"""The ArcFace template and the similarity that brings landmarks to it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from grafiqs.faces.template import LANDMARKS, SIZE, similarity

Points = NDArray[np.float64]


def oracle(points: Points, targets: Points) -> Points:
    """The least-squares similarity from the real 2N x 4 system of x' = ax - by + c, y' = bx + ay + d."""
    system = np.zeros((2 * len(points), 4))
    system[0::2, 0], system[0::2, 1], system[0::2, 2] = points[:, 0], -points[:, 1], 1
    system[1::2, 0], system[1::2, 1], system[1::2, 3] = points[:, 1], points[:, 0], 1
    a, b, c, d = np.linalg.lstsq(system, targets.ravel(), rcond=None)[0]
    return np.array([(a, -b, c), (b, a, d)])


def known(scale: float, angle: float, shift: tuple[float, float]) -> Points:
    turn = scale * np.array([(np.cos(angle), -np.sin(angle)), (np.sin(angle), np.cos(angle))])
    return np.column_stack([turn, shift])


def applied(matrix: Points, points: Points) -> Points:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def test_landmarks_stay_where_they_are() -> None:
    assert similarity(LANDMARKS) == pytest.approx(np.eye(2, 3), abs=1e-12)


def test_landmarks_are_those_of_a_face_that_fills_the_crop() -> None:
    left_eye, right_eye, nose, left_corner, right_corner = LANDMARKS
    assert LANDMARKS.shape == (5, 2)
    assert left_eye[0] < left_corner[0] < nose[0] < right_corner[0] < right_eye[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_corner[1], right_corner[1])
    assert LANDMARKS.min() > 0.25 * SIZE
    assert LANDMARKS.max() < SIZE - 0.15 * SIZE
    assert SIZE == 112


@pytest.mark.parametrize("noise", [0.0, 0.1, 5.0, 300.0])
@pytest.mark.parametrize("count", [2, 3, 5, 68])
def test_it_is_the_least_squares_answer(count: int, noise: float) -> None:
    generator = np.random.default_rng(round(10 * noise) + count)
    for _ in range(20):
        points = generator.uniform(-200, 200, (count, 2))
        scale, angle = generator.uniform(0.1, 5), generator.uniform(-np.pi, np.pi)
        targets = applied(known(scale, angle, (30, -70)), points) + noise * generator.standard_normal((count, 2))
        assert similarity(points, targets) == pytest.approx(oracle(points, targets), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("angle", [0.0, 0.3, -1.2, np.pi / 2, 3.1])
@pytest.mark.parametrize("scale", [0.01, 1.0, 40.0])
def test_a_known_similarity_is_recovered(scale: float, angle: float) -> None:
    matrix = known(scale, angle, (-12.5, 200.0))
    points = np.random.default_rng(3).uniform(-50, 50, (5, 2))
    assert similarity(points, applied(matrix, points)) == pytest.approx(matrix, rel=1e-10, abs=1e-10)


def test_points_come_to_the_template_where_no_targets_are_given() -> None:
    matrix = known(2.5, -0.4, (7, 9))
    assert applied(similarity(applied(matrix, LANDMARKS)), applied(matrix, LANDMARKS)) == pytest.approx(LANDMARKS)


def test_it_never_mirrors() -> None:
    """Not even where the targets are a mirror image of the points."""
    generator = np.random.default_rng(5)
    for _ in range(50):
        points = generator.uniform(-50, 50, (5, 2))
        targets = points * (-1, 1) + generator.standard_normal((5, 2))
        matrix = similarity(points, targets)
        assert np.linalg.det(matrix[:, :2]) > 0
        assert matrix[0, 0] == matrix[1, 1]
        assert matrix[0, 1] == -matrix[1, 0]
