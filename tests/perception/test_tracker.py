"""Track ids survive crossings, weak boxes and gaps."""

from __future__ import annotations

import numpy as np
import pytest

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
