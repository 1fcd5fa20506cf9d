"""Which boxes are one body, whose face is whose, and faces from keypoints."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core.types import Box
from sf_ros.runtime.faces import distinct, face_from_keypoints, match_faces


def test_a_second_box_around_people_who_embrace_has_no_face_of_its_own() -> None:
    bodies = [Box(0, 0, 40, 80), Box(10, 0, 52, 80), Box(4, 0, 46, 80)]
    faces = [Box(8, 4, 20, 18), Box(34, 4, 46, 18)]
    assert distinct(bodies, faces) == [0, 1]
    assert distinct(bodies) == distinct(bodies, faces[:1]) == [0]
    assert distinct([]) == []


def test_of_two_overlapping_bodies_each_gets_its_own_face() -> None:
    near, far = Box(0, 0, 100, 300), Box(60, 20, 140, 250)
    face_near, face_far = Box(35, 10, 65, 45), Box(88, 30, 112, 58)  # face_far lies in both bodies
    assert match_faces([near, far], [face_far, face_near]) == [(0, 1), (1, 0)]
    assert match_faces([near, far], [face_far]) == [(1, 0)]


@pytest.mark.parametrize(
    "face",
    [
        Box(35, 250, 65, 290),  # at the feet
        Box(200, 10, 230, 40),  # beside
        Box(35, -40, 65, -5),  # above
        Box(-20, 10, 10, 40),  # centre outside the width
    ],
)
def test_a_face_outside_the_upper_body_is_nobodys(face: Box) -> None:
    assert match_faces([Box(0, 0, 100, 300)], [face]) == []


def test_no_faces_or_no_bodies_match_nothing() -> None:
    assert match_faces([], [Box(0, 0, 5, 5)]) == []
    assert match_faces([Box(0, 0, 50, 50)], []) == []


def keypoints(**seen: tuple[float, float]) -> np.ndarray:
    names = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    points = np.zeros((17, 3))
    for name, point in seen.items():
        points[names.index(name)] = (*point, 0.9)
    return points


def test_a_frontal_and_a_profile_head_of_the_same_size_give_similar_boxes() -> None:
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
def test_a_head_that_shows_no_face_gives_none(points: np.ndarray) -> None:
    assert face_from_keypoints(points) is None
