"""The crowd that work is counted and time is measured on: the same people in the same places in every run.

A camera at chest height sees a group at two to five metres: the nearer a person, the larger the body and the higher the
head in the image.
"""

from __future__ import annotations

import numpy as np

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Box, Person
from sf_ros.engines.base import Query
from sf_ros.perception.detectors.base import Detections
from sf_ros.perception.scheduler import Scheduler

WIDTH, HEIGHT = 1280, 720  # px
# Middle of the head, top of the head and height of the person in pixels, in the order in which people are added.
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
HEADS_TALL, HEADS_WIDE = 7, 2.2  # size of a person in heads
EVERYTHING = RuntimeConfig(budget_ms=1e7, max_pairs=len(PEOPLE) ** 2)  # leaves no query out


def persons(people: int) -> tuple[Person, ...]:
    """The first `people` of the crowd, as tracked. ValueError for more than the crowd has."""
    if not 1 <= people <= len(PEOPLE):
        raise ValueError(f"{people} people; expected 1 to {len(PEOPLE)}.")
    return tuple(Person(i, _body(i), 0.9, _face(i), 0.9) for i in range(1, people + 1))


def detections(people: int) -> Detections:
    """The first `people` of the crowd, as detected. ValueError for more than the crowd has."""
    crowd = persons(people)
    bodies = np.array([person.body.as_tuple() for person in crowd])
    faces = tuple((person.face, person.face_score) for person in crowd if person.face is not None)
    return Detections(bodies, np.array([person.score for person in crowd]), faces)


def queries(people: int) -> list[Query]:
    """Every task about the first `people` of the crowd and all their pairs, as the scheduler groups them."""
    return Scheduler(EVERYTHING).pick(persons(people), 0.0, (WIDTH, HEIGHT))


def _face(track_id: int) -> Box:
    x, top, height = PEOPLE[track_id - 1]
    size = height / HEADS_TALL
    return Box(x - 0.4 * size, top + 0.1 * size, x + 0.4 * size, top + size)


def _body(track_id: int) -> Box:
    x, top, height = PEOPLE[track_id - 1]
    half = HEADS_WIDE * height / HEADS_TALL / 2
    return Box(x - half, top, x + half, min(top + height, HEIGHT))
