"""The crowd is the same for every method: people who stand in the frame, and every question about them once."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from export.benchmark import crowd
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Frame
from sf_ros.perception.people import Follower


@pytest.mark.parametrize("people", [1, 2, 4, 8])
def test_everybody_and_every_pair_is_asked_about_once(people: int) -> None:
    asked = crowd.questions(people)
    pairs = people * (people - 1) // 2
    assert Counter(q.task for q in asked) == {
        t: n for t, s in TASKS.items() if (n := pairs if s.boxes == 2 else people)
    }
    assert len(set(asked)) == len(asked)


def test_people_stand_in_the_frame_and_faces_are_inside_bodies() -> None:
    asked = crowd.questions(len(crowd.PEOPLE))
    faces = {q.track_ids: q.boxes[0] for q in asked if q.task == "gaze"}
    bodies = {q.track_ids: q.boxes[0] for q in asked if q.task == "gesture"}
    assert len(faces) == len(bodies) == len(crowd.PEOPLE)
    for ids, body in bodies.items():
        assert body.clipped(crowd.WIDTH, crowd.HEIGHT) == body
        assert body.intersection(faces[ids]) == pytest.approx(faces[ids].area)


def test_more_people_are_the_same_people_and_others() -> None:
    assert set(crowd.questions(2)) < set(crowd.questions(4)) < set(crowd.questions(8))


@pytest.mark.parametrize("people", [0, 9, -1])
def test_a_crowd_that_is_not_there_is_refused(people: int) -> None:
    with pytest.raises(ValueError, match=f"{people} people; expected 1 to 8"):
        crowd.questions(people)


@pytest.mark.parametrize("people", range(1, 1 + len(crowd.PEOPLE)))
def test_all_of_the_benchmarks_crowd_are_followed_with_their_own_faces(people: int) -> None:
    follower, image = Follower(RuntimeConfig()), np.zeros((crowd.HEIGHT, crowd.WIDTH, 3), np.uint8)
    first, second = (follower.follow(crowd.found(people), Frame(image, i / 15, i)) for i in range(2))
    assert first == second and [person.track_id for person in first] == list(range(1, people + 1))
    assert {(p.body, p.face) for p in first} == {(p.body, p.face) for p in crowd.persons(people)}
