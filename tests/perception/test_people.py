"""What was found in a frame becomes people: each body once, with its own face, under an id that keeps."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Box, Frame
from sf_ros.perception.people import Follower, Found

LEFT, RIGHT = (10.0, 20.0, 50.0, 180.0), (100.0, 20.0, 140.0, 180.0)
LEFT_FACE, RIGHT_FACE = (Box(22, 25, 38, 45), 0.8), (Box(112, 25, 128, 45), 0.7)


def frame(index: int = 0, width: int = 200, height: int = 200) -> Frame:
    return Frame(np.zeros((height, width, 3), np.uint8), index / 15, index)


def found(*bodies: tuple[float, ...], faces: tuple = (), owners: tuple = ()) -> Found:
    return Found(np.array(bodies).reshape(-1, 4), np.linspace(0.9, 0.8, len(bodies)), faces, owners)


def test_geometry_gives_faces_to_bodies_unless_the_detector_knows_whose_they_are() -> None:
    by_place = Follower(RuntimeConfig()).follow(found(LEFT, RIGHT, faces=(RIGHT_FACE, LEFT_FACE)), frame())
    assert [(p.body.x1, p.face, p.face_score) for p in by_place] == [(10, *LEFT_FACE), (100, *RIGHT_FACE)]
    told = found(LEFT, RIGHT, faces=(RIGHT_FACE,), owners=(0,))  # the left one leans over
    by_owner = Follower(RuntimeConfig()).follow(told, frame())
    assert [(p.body.x1, p.face, p.face_score) for p in by_owner] == [(10, *RIGHT_FACE), (100, None, 0.0)]


def test_a_body_found_twice_is_one_person_and_ids_begin_anew_after_a_reset() -> None:
    follower = Follower(RuntimeConfig())
    twice = found(LEFT, (12.0, 20.0, 54.0, 180.0), RIGHT)
    assert [p.track_id for p in follower.follow(twice, frame())] == [1, 2]
    assert follower.follow(found(), frame(1)) == ()
    follower.reset()
    (only,) = follower.follow(found(RIGHT), frame(2))
    assert only.track_id == 1 and only.score == pytest.approx(0.9)
