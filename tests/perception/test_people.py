"""Detections of a frame become people: one per body, each with its face and a stable track id."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Box, Frame, Person
from sf_ros.perception.detectors.base import Detections
from sf_ros.perception.people import PeopleTracker

LEFT, RIGHT = (10.0, 20.0, 50.0, 180.0), (100.0, 20.0, 140.0, 180.0)
LEFT_FACE, RIGHT_FACE = (Box(22, 25, 38, 45), 0.8), (Box(112, 25, 128, 45), 0.7)


def track(tracker: PeopleTracker, detections: Detections, index: int = 0) -> tuple[Person, ...]:
    return tracker.update(detections, Frame(np.zeros((200, 200, 3), np.uint8), index / 15, index))


def detections(*bodies: tuple[float, ...], faces: tuple = (), owners: tuple = ()) -> Detections:
    return Detections(np.array(bodies).reshape(-1, 4), np.linspace(0.9, 0.8, len(bodies)), faces, owners)


def faces_of(people: tuple[Person, ...]) -> list[tuple]:
    return [(person.body.x1, person.face, person.face_score) for person in people]


def test_geometry_matches_faces_to_bodies() -> None:
    people = track(PeopleTracker(RuntimeConfig()), detections(LEFT, RIGHT, faces=(RIGHT_FACE, LEFT_FACE)))
    assert faces_of(people) == [(10, *LEFT_FACE), (100, *RIGHT_FACE)]


def test_a_detector_that_names_a_faces_owner_is_followed() -> None:
    leaning = detections(LEFT, RIGHT, faces=(RIGHT_FACE,), owners=(0,))
    people = track(PeopleTracker(RuntimeConfig()), leaning)
    assert faces_of(people) == [(10, *RIGHT_FACE), (100, None, 0.0)]


def test_the_owner_survives_a_duplicate_body_before_it() -> None:
    duplicate = (12.0, 20.0, 54.0, 180.0)
    owned = detections(LEFT, duplicate, RIGHT, faces=(LEFT_FACE, RIGHT_FACE), owners=(0, 2))
    assert faces_of(track(PeopleTracker(RuntimeConfig()), owned)) == [(10, *LEFT_FACE), (100, *RIGHT_FACE)]


def test_bodies_are_clipped_to_the_frame_and_those_outside_dropped() -> None:
    (person,) = track(PeopleTracker(RuntimeConfig()), detections((-30.0, 20.0, 50.0, 250.0), (210.0, 0.0, 300.0, 90.0)))
    assert person.body == Box(0, 20, 50, 200)


def test_a_duplicate_body_is_dropped_and_reset_restarts_ids() -> None:
    tracker = PeopleTracker(RuntimeConfig())
    duplicate = detections(LEFT, (12.0, 20.0, 54.0, 180.0), RIGHT)
    assert [person.track_id for person in track(tracker, duplicate)] == [1, 2]
    assert track(tracker, detections(), 1) == ()
    tracker.reset()
    (person,) = track(tracker, detections(RIGHT), 2)
    assert person.track_id == 1 and person.score == pytest.approx(0.9)


def test_a_person_half_covered_by_another_keeps_an_id_without_a_face() -> None:
    tracker, near, covered = PeopleTracker(RuntimeConfig()), (0.0, 20.0, 100.0, 180.0), (28.0, 20.0, 128.0, 180.0)
    faces = ((Box(40, 25, 56, 45), 0.8), (Box(80, 25, 96, 45), 0.7))
    both = [person.track_id for person in track(tracker, detections(near, covered, faces=faces))]
    assert both == [1, 2]
    for index in range(1, 4):  # their boxes overlap by more than a half, and only one face is seen
        people = track(tracker, detections(near, covered, faces=faces[:1]), index)
        assert [person.track_id for person in people] == both
    lone = PeopleTracker(RuntimeConfig())
    assert len(track(lone, detections(near, covered, faces=faces[:1]))) == 1


@pytest.mark.parametrize("change", [{"image": np.zeros((400, 400, 3), np.uint8)}, {"frame_id": "other_camera"}])
def test_another_size_or_camera_gives_new_ids(change: dict) -> None:
    """At twice the size the left person's box is where the right one's was."""
    tracker, both = PeopleTracker(RuntimeConfig()), detections((10, 20, 60, 180), (20, 40, 120, 360))
    frame = Frame(np.zeros((200, 200, 3), np.uint8), 0.0, 0)
    assert [person.track_id for person in tracker.update(both, frame)] == [1, 2]
    changed = dataclasses.replace(frame, stamp=0.1, index=1, **change)
    assert [person.track_id for person in tracker.update(both, changed)] == [3, 4]
    again = dataclasses.replace(changed, stamp=0.2, index=2)
    assert [person.track_id for person in tracker.update(both, again)] == [3, 4]


def test_faces_are_clipped_to_the_frame() -> None:
    above = (Box(22, -5, 38, 45), 0.8)
    (person,) = track(PeopleTracker(RuntimeConfig()), detections((10.0, 2.0, 50.0, 180.0), faces=(above,)))
    assert person.face == Box(22, 0, 38, 45)


def test_trackers_share_no_ids() -> None:
    one, other = PeopleTracker(RuntimeConfig()), PeopleTracker(RuntimeConfig())
    for tracker in (one, other, one, other):
        assert [person.track_id for person in track(tracker, detections(LEFT, RIGHT))] == [1, 2]
