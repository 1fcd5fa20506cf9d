"""Duplicate boxes, matching of faces to bodies, and faces from keypoints."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.perception.faces import distinct, face_from_keypoints, match_faces


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, float).reshape(-1, 4)


def test_a_duplicate_has_no_face_and_embracing_people_have_two() -> None:
    bodies = boxes((0, 0, 40, 80), (10, 0, 52, 80), (4, 0, 46, 80))
    faces = boxes((8, 4, 20, 18), (34, 4, 46, 18))
    assert distinct(bodies, faces) == [0, 1]
    assert distinct(bodies) == distinct(bodies, faces[:1]) == [0]
    assert distinct(boxes()) == []


@pytest.mark.parametrize(
    ("other", "alone"),
    [
        ((0, 0, 40, 80), False),
        ((15, 0, 55, 80), True),  # shares 25 of 55
        ((0, 26, 40, 106), False),  # 54 of 106
        ((0, 27, 40, 107), True),  # 53 of 107
        ((40, 0, 80, 80), True),
        ((20, 40, 20, 80), True),  # no area
    ],
)
def test_boxes_with_iou_above_a_half_are_duplicates(other: tuple[float, float, float, float], alone: bool) -> None:
    assert distinct(boxes((0, 0, 40, 80), other)) == ([0, 1] if alone else [0])


def test_overlapping_bodies_each_get_their_own_face() -> None:
    bodies = boxes((0, 0, 100, 300), (60, 20, 140, 250))
    near, far = (35, 10, 65, 45), (88, 30, 112, 58)  # far lies in both bodies
    assert match_faces(bodies, boxes(far, near)) == [(0, 1), (1, 0)]
    assert match_faces(bodies, boxes(far)) == [(1, 0)]


@pytest.mark.parametrize(
    "face",
    [
        (35, 250, 65, 290),  # at the feet
        (200, 10, 230, 40),  # beside
        (35, -40, 65, -5),  # above
        (-20, 10, 10, 40),  # centre outside the width
    ],
)
def test_a_face_outside_the_upper_body_is_unmatched(face: tuple[float, float, float, float]) -> None:
    assert match_faces(boxes((0, 0, 100, 300)), boxes(face)) == []


def test_no_faces_or_no_bodies_match_nothing() -> None:
    assert match_faces(boxes(), boxes((0, 0, 5, 5))) == []
    assert match_faces(boxes((0, 0, 50, 50)), boxes()) == []


def keypoints(**seen: tuple[float, float]) -> np.ndarray:
    names = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    points = np.zeros((17, 3))
    for name, point in seen.items():
        points[names.index(name)] = (*point, 0.9)
    return points


def test_frontal_and_profile_heads_give_similar_boxes() -> None:
    # 1 px is 1 mm: ears 150 apart, pupils 63; in profile nose to ear 125, eye to ear 90
    frontal = face_from_keypoints(
        keypoints(nose=(0, 40), left_eye=(31, 0), right_eye=(-31, 0), left_ear=(75, 15), right_ear=(-75, 15))
    )
    profile = face_from_keypoints(keypoints(nose=(0, 40), left_eye=(20, 0), left_ear=(118, 15)))
    assert frontal is not None
    assert profile is not None
    assert frontal[0].height == pytest.approx(205, rel=0.1)
    assert profile[0].height == pytest.approx(205, rel=0.1)
    assert frontal[0].center[0] == pytest.approx(0, abs=5)
    assert frontal[1] == pytest.approx(0.9)


@pytest.mark.parametrize(
    "points",
    [
        keypoints(),
        keypoints(nose=(10, 10)),
        keypoints(left_ear=(0, 0), right_ear=(50, 0)),  # from behind
        keypoints(left_ear=(0, 0), right_ear=(50, 0), left_eye=(10, 0)),  # ears swapped, no nose
        keypoints(left_eye=(10, 10), right_eye=(10, 10)),  # no extent
    ],
)
def test_keypoints_without_a_face_give_none(points: np.ndarray) -> None:
    assert face_from_keypoints(points) is None


def test_a_sure_face_wins_over_a_fist_that_lies_better() -> None:
    bodies = boxes((0, 0, 100, 200))
    face, fist = (5, 20, 35, 60), (40, 20, 60, 40)
    assert match_faces(bodies, boxes(face, fist)) == [(0, 1)]
    assert match_faces(bodies, boxes(face, fist), np.array([0.9, 0.45])) == [(0, 0)]
