"""Looking at me: head and irises add up, closed eyes see nothing."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sf_ros.engines.people.face_mesh import Face
from sf_ros.engines.people.looking import (
    OPERATING_POINT,
    STRAIGHT,
    UNSEEN,
    WIDTHS_PER_DEG,
    direction,
    probability,
)

EYES = ((33, 133, 468, 159, 145, -30.0), (263, 362, 473, 386, 374, 30.0))  # corners, iris, lids, middle


def face(head: tuple[float, float] = (0, 0), eyes: tuple[float, float] = (0, 0), opening: float = 0.35) -> Face:
    """A face with its head and its eyes in the head turned right and down by degrees."""
    points = np.zeros((478, 3))
    for outer, inner, iris, upper, lower, middle in EYES:
        points[outer, 0], points[inner, 0] = middle - 14, middle + 14
        points[iris, :2] = np.array([middle, 0]) + 28 * (STRAIGHT + WIDTHS_PER_DEG * eyes)
        points[[upper, lower]] = (middle, -14 * opening, 0), (middle, 14 * opening, 0)
    turn = cv2.Rodrigues(np.deg2rad([0, -head[0], 0.0]))[0] @ cv2.Rodrigues(np.deg2rad([head[1], 0.0, 0]))[0]
    return Face((points @ turn.T).astype(np.float32), np.zeros(52, np.float32), turn.astype(np.float32), 1.0)


def test_straight_eyes_in_a_frontal_head_look_into_the_lens() -> None:
    np.testing.assert_allclose(direction(face()), [0, 0, -1], atol=1e-3)
    assert probability(face()) > 0.9


@pytest.mark.parametrize(("turn", "axis", "sign"), [((20, 0), 0, 1), ((-20, 0), 0, -1), ((0, 20), 1, 1)])
def test_head_and_eyes_turn_the_gaze_alike(turn: tuple[float, float], axis: int, sign: int) -> None:
    for other in (face(head=turn), face(eyes=turn)):
        gaze = direction(other)
        assert gaze[axis] == pytest.approx(sign * np.sin(np.deg2rad(20)), abs=0.01)
        assert probability(other) < 0.1


def test_eyes_that_counter_the_head_still_look_into_the_lens() -> None:
    np.testing.assert_allclose(direction(face(head=(20, 0), eyes=(-20, 0))), [0, 0, -1], atol=0.01)
    assert probability(face(head=(20, 0), eyes=(-20, 0))) > OPERATING_POINT


def test_closed_eyes_do_not_look() -> None:
    assert probability(face(opening=0.12)) < 0.05


def test_probability_falls_with_the_angle_and_stays_within_bounds() -> None:
    values = [probability(face(eyes=(angle, 0))) for angle in (0, 5, 10, 15, 25)]
    assert values == sorted(values, reverse=True)
    assert 0 <= values[-1] < UNSEEN < values[0] < 1
