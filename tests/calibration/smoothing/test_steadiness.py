"""Flicker, delay and accuracy of streams small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.smoothing.recordings import Stream
from calibration.smoothing.steadiness import EARLY_S, measure, replay, segments
from sf_ros.core import gaze
from sf_ros.core.cues import TASKS, CueConfig

TENTHS = np.arange(101) / 10  # 10 s of frames
HALVES = np.arange(21) / 2  # a query every 0.5 s
A, B, X = 0, 1, 2


def labels(truth: np.ndarray, frames: np.ndarray = TENTHS, queries: np.ndarray = HALVES) -> Stream:
    answers = np.full((len(queries), len(TASKS["expression"].labels)), 1 / len(TASKS["expression"].labels))
    return Stream("expression", (1,), queries, answers, frames, truth)


CHANGE_AT_4 = labels(np.where(TENTHS < 4, A, B))


def published(**runs: int) -> np.ndarray:
    """A label for each query: at_3=B is B from the query of index 3 on."""
    values = np.full(len(HALVES), A)
    for name, label in runs.items():
        values[int(name.removeprefix("at_")) :] = label
    return values


def test_flicker_delay_and_accuracy_by_hand() -> None:
    # A, one B at 1 s; the change at 4 s is published at 5 s; one X at 7 s.
    counts = measure(CHANGE_AT_4, published(at_2=B, at_3=A, at_10=B, at_14=X, at_15=B))
    assert counts.flickers == 4  # to B and back, to X and back
    assert counts.still_s == pytest.approx(10) and counts.flicker_per_min == pytest.approx(24)
    assert counts.delays_s == pytest.approx([1.0]) and not counts.missed_s
    assert (counts.frames, counts.right) == (101, 101 - 5 - 10 - 5)
    assert counts.figures()["delay_s"] == 1.0 and counts.figures()["jitter_norm"] is None


def test_wrong_labels_before_the_right_one_are_flicker() -> None:
    counts = measure(CHANGE_AT_4, published(at_8=X, at_10=B))
    assert (counts.flickers, counts.delays_s) == (1, [1.0])


def test_a_missed_change_counts_with_its_duration() -> None:
    counts = measure(CHANGE_AT_4, published())
    assert (counts.flickers, counts.delays_s, counts.changes) == (0, [], 1)
    assert counts.missed_s == pytest.approx([6.0]) and counts.delay_s == pytest.approx(6.0)


def test_a_slightly_early_change_is_no_flicker() -> None:
    truth = np.where(TENTHS < 4 + EARLY_S, A, B)  # the query at 4 s is EARLY_S before
    counts = measure(labels(truth), published(at_8=B))
    assert (counts.flickers, counts.delays_s) == (0, [0.0])
    counts = measure(labels(truth), published(at_7=B))
    assert (counts.flickers, counts.delays_s) == (1, [0.0])


def test_an_unobserved_or_short_truth_is_no_change() -> None:
    hidden = (TENTHS < 4) | (TENTHS > 4.5)
    counts = measure(labels(np.where(TENTHS < 4, A, B)[hidden], TENTHS[hidden]), published(at_9=B))
    assert counts.changes == 0 and counts.still_s == pytest.approx(3.9 + 5.4)
    assert measure(labels(np.where(TENTHS < 9.5, A, B)), published(at_20=B)).changes == 0


def test_nothing_is_counted_before_the_first_query() -> None:
    late = labels(np.where(TENTHS < 4, A, B), queries=HALVES[10:])
    counts = measure(late, np.full(11, A))
    assert (counts.changes, counts.frames, counts.right) == (0, 51, 0)
    assert counts.still_s == pytest.approx(5.0)


def test_steadiness_adds_up() -> None:
    total = measure(CHANGE_AT_4, published(at_10=B))
    total += measure(CHANGE_AT_4, published())
    assert (total.changes, total.frames, total.delay_s) == (2, 202, pytest.approx(3.5))
    assert total.still_s == pytest.approx(20)


def test_a_replay_agrees_with_the_label_filter() -> None:
    answers = np.zeros((4, 8))
    answers[[0, 1, 2, 3], [A, B, B, B]] = 1
    stream = Stream("expression", (1,), np.array([0.0, 1.0, 2.0, 3.0]), answers, TENTHS[:31], np.zeros(31, int))
    assert replay(stream, CueConfig(half_life_s=0.0)).tolist() == [A, B, B, B]
    # Half-life 2 s: B has 0.29, 0.5, 0.65.
    assert replay(stream, CueConfig(half_life_s=2.0, enter=0.6, leave=0.1)).tolist() == [A, A, A, B]


def looking(movement_s: float = 0.4) -> Stream:
    """A gaze that moves from one target to another at 4 s in `movement_s`; a query every half second."""
    share = np.clip((TENTHS - 4) / movement_s, 0, 1)
    truth = np.stack([0.2 + 0.6 * share, np.full_like(share, 0.5)], axis=1)
    return Stream("gaze", (1,), HALVES, np.zeros((21, 8, 8)), TENTHS, truth)


def test_a_gaze_changes_in_the_middle_of_its_movement() -> None:
    first, second = segments(looking())
    assert (first.start_s, first.end_s, first.follows) == (0.0, pytest.approx(4.2), False)
    assert (second.start_s, second.end_s, second.follows) == (pytest.approx(4.2), 10.0, True)


def test_small_gaze_movements_stay_one_segment() -> None:
    drift = np.stack([0.2 + 0.01 * TENTHS, np.full_like(TENTHS, 0.5)], axis=1)
    step = np.stack([np.where(TENTHS < 4, 0.2, 0.3), np.full_like(TENTHS, 0.5)], axis=1)
    for truth in (drift, step):
        assert len(segments(Stream("gaze", (1,), HALVES, np.zeros((21, 8, 8)), TENTHS, truth))) == 1


def test_a_gaze_that_never_rests_is_not_scored() -> None:
    restless = np.stack([0.5 + 0.4 * np.sin(8 * TENTHS), np.full_like(TENTHS, 0.5)], axis=1)
    counts = measure(
        Stream("gaze", (1,), HALVES, np.zeros((21, 8, 8)), TENTHS[::40], restless[::40]), np.zeros((21, 2))
    )
    assert (counts.frames, counts.changes, counts.still_s) == (0, 0, 0.0)


def test_delay_jitter_and_error_of_gaze_by_hand() -> None:
    points = np.tile([0.2, 0.5], (21, 1))
    points[4] = 0.2, 0.54  # there and back: 0.08 of movement
    points[10:] = 0.8, 0.5  # published at 5 s, 0.8 s after the middle of the movement
    counts = measure(looking(), points)
    assert (counts.flickers, counts.missed_s) == (0, [])
    assert counts.delay_s == pytest.approx(0.8)
    assert counts.jitter_norm == pytest.approx(0.08 / 19)  # 20 steps between 21 queries, without the change
    # 4.4 to 4.9 s: 0.6 away in 6 frames; at 2.0 to 2.4 s 0.04 away; 3 frames of the movement do not count.
    assert counts.frames == 98 and counts.right == 92
    assert counts.error_norm == pytest.approx((6 * 0.6 + 5 * 0.04) / 98)


def test_a_gaze_replay_smooths_the_map() -> None:
    maps = np.stack([gaze.encode((x, 0.5), 32, 2.0) for x in (0.5, 0.55, 0.5)])
    stream = Stream("gaze", (1,), HALVES[:3], maps, TENTHS[:11], np.tile([0.5, 0.5], (11, 1)))
    jumping, steady = (replay(stream, CueConfig(half_life_s=value)) for value in (0.0, 2.0))
    assert np.ptp(jumping[:, 0]) > 0 and np.ptp(steady[:, 0]) == 0
