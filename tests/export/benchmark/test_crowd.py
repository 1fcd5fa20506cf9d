"""The benchmark's crowd: people inside the frame, and every task about them once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from export.benchmark import crowd
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Frame
from sf_ros.perception.people import PeopleTracker


@pytest.mark.parametrize("people", [1, 2, 4, 8])
def test_every_person_and_pair_is_queried_once(people: int) -> None:
    answers = Counter((task, query.ids) for query in crowd.queries(people) for task in query.tasks)
    pairs = people * (people - 1) // 2
    assert set(answers.values()) == {1}
    assert Counter(task for task, _ in answers) == {
        name: count for name, task in TASKS.items() if (count := pairs if task.boxes == 2 else people)
    }


def test_people_are_inside_the_frame_with_faces_in_bodies() -> None:
    persons = crowd.persons(len(crowd.PEOPLE))
    for person in persons:
        assert person.face is not None
        assert person.body.clipped(crowd.WIDTH, crowd.HEIGHT) == person.body
        assert person.body.intersection(person.face) == pytest.approx(person.face.area)


def test_larger_crowds_include_smaller_ones() -> None:
    few, some, many = ({replace(query, others=()) for query in crowd.queries(people)} for people in (2, 4, 8))
    assert few < some < many


@pytest.mark.parametrize("people", [0, 9, -1])
def test_other_numbers_of_people_are_refused(people: int) -> None:
    with pytest.raises(ValueError, match=f"{people} people; expected 1 to 8"):
        crowd.queries(people)


@pytest.mark.parametrize("people", range(1, 1 + len(crowd.PEOPLE)))
def test_everybody_is_tracked_with_their_own_face(people: int) -> None:
    tracker, image = PeopleTracker(RuntimeConfig()), np.zeros((crowd.HEIGHT, crowd.WIDTH, 3), np.uint8)
    first, second = (tracker.update(crowd.detections(people), Frame(image, i / 15, i)) for i in range(2))
    assert first == second and [person.track_id for person in first] == list(range(1, people + 1))
    assert {(p.body, p.face) for p in first} == {(p.body, p.face) for p in crowd.persons(people)}
