"""Where people stand in the frame that work is counted and time is measured on: the same for every method and run.

A camera at the height of a chest sees a group at two to five metres: whoever is nearer is larger and reaches higher.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from sf_ros.core.types import Box, Person
from sf_ros.engines.base import Question
from sf_ros.perception.people import Found

WIDTH, HEIGHT = 1280, 720  # px
# Middle of the head, top of the head and height of the person, in pixels: people are added in this order.
PEOPLE = (
    (420, 200, 500),
    (760, 170, 540),
    (220, 235, 430),
    (1010, 225, 450),
    (590, 255, 360),
    (90, 265, 340),
    (1180, 260, 350),
    (890, 280, 300),
)
HEAD = 7  # heads that a person is tall
SHOULDERS = 2.2  # heads that a person is wide


def persons(people: int) -> tuple[Person, ...]:
    """The first `people` of them, as a detector would report them. ValueError for more than there are."""
    if not 1 <= people <= len(PEOPLE):
        raise ValueError(f"{people} people; expected 1 to {len(PEOPLE)}.")
    return tuple(Person(i, _llm(i), 0.9, _face(i), 0.9) for i in range(1, people + 1))


def found(people: int) -> Found:
    """What a detector would find of the first `people` of them. ValueError for more than there are."""
    crowd = persons(people)
    bodies = np.array([person.body.as_tuple() for person in crowd])
    faces = tuple((person.face, person.face_score) for person in crowd if person.face is not None)
    return Found(bodies, np.array([person.score for person in crowd]), faces)


def questions(people: int) -> list[Question]:
    """Every question about the first `people` of them and all their pairs. ValueError for more than there are."""
    asked = []
    crowd = persons(people)
    for person in crowd:
        track_id, face, body = person.track_id, person.face, person.body
        assert face is not None
        asked += [Question(task, (track_id,), (face,)) for task in ("gaze", "looking_at_me", "expression")]
        asked.append(Question("gesture", (track_id,), (body,)))
    for one, other in combinations(crowd, 2):
        pair, bodies = (one.track_id, other.track_id), (one.body, other.body)
        asked += [Question(task, pair, bodies) for task in ("domain", "relation")]
    return asked


def _face(track_id: int) -> Box:
    x, top, height = PEOPLE[track_id - 1]
    size = height / HEAD
    return Box(x - 0.4 * size, top + 0.1 * size, x + 0.4 * size, top + size)


def _llm(track_id: int) -> Box:
    x, top, height = PEOPLE[track_id - 1]
    half = SHOULDERS * height / HEAD / 2
    return Box(x - half, top, x + half, min(top + height, HEIGHT))
