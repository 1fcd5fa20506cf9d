"""Track ids survive crossings, weak boxes and gaps."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core.types import Box
from sf_ros.perception.tracker import PersonTracker


def boxes(*lefts: float) -> np.ndarray:
    return np.array([[x, 10, x + 40, 110] for x in lefts], float).reshape(-1, 4)


def test_ids_do_not_depend_on_the_order_of_detections() -> None:
    tracker = PersonTracker(0.35, 1.0)
    for index in range(20):
        walkers = boxes(10 + 4 * index, 300 - 4 * index)
        order = [1, 0] if index % 2 else [0, 1]
        rows = dict(tracker.update(walkers[order], np.array([0.9, 0.9]), index / 15))
        assert {track: order[i] for track, i in rows.items()} == {1: 0, 2: 1}


def test_a_weak_box_continues_a_track_but_starts_none() -> None:
    tracker = PersonTracker(0.35, 1.0)
    assert tracker.update(boxes(10), np.array([0.9]), 0.0) == [(1, 0)]
    assert tracker.update(boxes(12, 300), np.array([0.2, 0.2]), 0.1) == [(1, 0)]
    assert tracker.update(boxes(14, 300), np.array([0.05, 0.2]), 0.2) == []


def test_a_doubtful_box_continues_a_found_track_but_starts_none() -> None:
    """A second box of a body may be a person whom the first one covers, if somebody was there."""
    tracker, scores = PersonTracker(0.35, 1.0), np.array([0.9, 0.8])
    assert tracker.update(boxes(10, 60), scores, 0.0, doubtful_from=1) == [(1, 0)]
    assert tracker.update(boxes(10, 60), scores, 0.1) == [(1, 0)]  # seen once
    assert tracker.update(boxes(10, 60), scores, 0.2) == [(1, 0), (2, 1)]
    assert tracker.update(boxes(10, 62), scores, 0.3, doubtful_from=1) == [(1, 0), (2, 1)]
    assert tracker.update(boxes(10, 82), scores, 0.4, doubtful_from=1) == [(1, 0)]  # too far


@pytest.mark.parametrize(
    ("arm", "and_leg", "same"),
    [((0, 50), (0, 85), True), ((590, 640), (555, 640), True), ((300, 350), (300, 385), False)],
)
def test_a_box_at_the_edge_may_change_its_shape(arm: tuple[int, int], and_leg: tuple[int, int], same: bool) -> None:
    """At an edge an arm, then a leg too, are one person; in the middle of the image they would be two."""
    tracker, score = PersonTracker(0.35, 1.0), np.array([0.4])
    assert tracker.update(np.array([[arm[0], 100, arm[1], 300]]), score, 0.0, width=640) == [(1, 0)]
    later = tracker.update(np.array([[and_leg[0], 100, and_leg[1], 430]]), score, 0.1, width=640)
    assert later == ([(1, 0)] if same else [])


def test_a_later_person_gets_an_id_in_the_second_frame() -> None:
    tracker = PersonTracker(0.35, 1.0)
    tracker.update(boxes(10), np.array([0.9]), 0.0)
    assert tracker.update(boxes(10, 300), np.array([0.9, 0.9]), 0.1) == [(1, 0)]
    assert sorted(tracker.update(boxes(10, 300), np.array([0.9, 0.9]), 0.2)) == [(1, 0), (2, 1)]


@pytest.mark.parametrize("fps", [5, 15, 60])
@pytest.mark.parametrize(("hidden_s", "same_id"), [(0.7, True), (1.5, False)])
def test_a_hidden_person_is_remembered_for_seconds_at_any_rate(fps: int, hidden_s: float, same_id: bool) -> None:
    tracker, stamp, empty = PersonTracker(0.35, 1.0), 0.0, (np.zeros((0, 4)), np.zeros(0))
    for _ in range(10):
        tracker.update(boxes(10), np.array([0.9]), stamp)
        stamp += 1 / fps
    for _ in range(round(hidden_s * fps)):
        assert tracker.update(*empty, stamp) == []
        stamp += 1 / fps
    tracker.update(boxes(10), np.array([0.9]), stamp)
    assert (dict(tracker.update(boxes(10), np.array([0.9]), stamp + 1 / fps)) == {1: 0}) == same_id


def test_after_a_gap_everyone_gets_a_new_id_at_once() -> None:
    tracker = PersonTracker(0.35, 1.0)
    tracker.update(boxes(10), np.array([0.9]), 0.0)
    assert tracker.update(boxes(10), np.array([0.9]), 5.0) == [(2, 0)]


def test_a_face_keeps_its_id_when_body_boxes_merge() -> None:
    tracker = PersonTracker(0.35, 1.0)
    near, behind = [0, 0, 100, 200], [60, 0, 160, 200]
    face = Box(100, 10, 120, 35)
    assert tracker.update(np.array([near, behind]), np.array([0.9, 0.9]), 0.0, {1: face}) == [(1, 0), (2, 1)]
    merged = np.array([[10, 0, 110, 200.0]])  # one box is left, nearer to the first, around the face of the second
    assert tracker.update(merged, np.array([0.9]), 0.1, {0: face}) == [(2, 0)]


def test_an_old_face_decides_nothing() -> None:
    tracker = PersonTracker(0.35, 2.0)
    bodies, face = np.array([[0, 0, 100, 200], [300, 0, 400, 200.0]]), Box(40, 10, 60, 35)
    tracker.update(bodies, np.array([0.9, 0.9]), 0.0, {0: face})
    for step in range(1, 8):
        tracker.update(bodies, np.array([0.9, 0.9]), step * 0.1)
    moved = bodies[::-1]  # somebody else's body and face are where the first person was seen last
    assert tracker.update(moved, np.array([0.9, 0.9]), 0.8, {1: face}) == [(1, 1), (2, 0)]


def test_a_flickering_box_uses_up_no_id() -> None:
    tracker = PersonTracker(0.35, 1.0)
    tracker.update(boxes(10), np.array([0.9]), 0.0)
    tracker.update(boxes(10, 500), np.array([0.9, 0.9]), 0.1)
    tracker.update(boxes(10), np.array([0.9]), 0.2)
    tracker.update(boxes(10, 300), np.array([0.9, 0.9]), 0.3)
    assert tracker.update(boxes(10, 300), np.array([0.9, 0.9]), 0.4) == [(1, 0), (2, 1)]


@pytest.mark.parametrize("fps", [5, 30])
def test_a_walker_behind_a_pillar_comes_out_with_the_same_id(fps: int) -> None:
    tracker, empty = PersonTracker(0.35, 1.0), (np.zeros((0, 4)), np.zeros(0))
    for step in range(3 * fps):
        x, stamp = 120 * step / fps, step / fps
        hidden = 1.5 <= stamp < 2.1
        found = tracker.update(*(empty if hidden else (boxes(x), np.array([0.9]))), stamp)
        assert hidden or {track for track, _ in found} <= {1}
    assert found == [(1, 0)]
