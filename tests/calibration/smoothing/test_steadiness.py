"""Flicker, delay and accuracy of streams made by hand, where they can be counted."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.camera.streams import Stream
from calibration.smoothing.steadiness import EARLY_S, measure, replay, segments
from sf_ros.core import gaze
from sf_ros.core.config import CueConfig
from sf_ros.core.tasks import TASKS

TENTHS = np.arange(101) / 10  # 10 s of frames
HALVES = np.arange(21) / 2  # a look every 0.5 s
A, B, X = 0, 1, 2


def labels(truth: np.ndarray, frames: np.ndarray = TENTHS, looks: np.ndarray = HALVES) -> Stream:
    answers = np.full((len(looks), len(TASKS["expression"].labels)), 1 / len(TASKS["expression"].labels))
    return Stream("expression", (1,), looks, answers, frames, truth)


CHANGE_AT_4 = labels(np.where(TENTHS < 4, A, B))


def published(**runs: int) -> np.ndarray:
    """A label for each look: at_3=B is B from the look of index 3 on."""
    values = np.full(len(HALVES), A)
    for name, label in runs.items():
        values[int(name.removeprefix("at_")) :] = label
    return values


def test_flicker_delay_and_accuracy_of_a_stream_counted_by_hand() -> None:
    # A, one look at 1 s says B; the change of 4 s is followed at 5 s; one look at 7 s says X.
    found = measure(CHANGE_AT_4, published(at_2=B, at_3=A, at_10=B, at_14=X, at_15=B))
    assert found.flickers == 4, "to B and back, to X and back; following the truth is none"
    assert found.still_s == pytest.approx(10) and found.flicker_per_min == pytest.approx(24)
    assert found.delays_s == pytest.approx([1.0]) and not found.missed_s
    assert (found.frames, found.right) == (101, 101 - 5 - 10 - 5)
    assert found.figures()["delay_s"] == 1.0 and found.figures()["jitter_norm"] is None


def test_wrong_labels_on_the_way_to_the_right_one_flicker() -> None:
    found = measure(CHANGE_AT_4, published(at_8=X, at_10=B))
    assert (found.flickers, found.delays_s) == (1, [1.0])


def test_a_change_never_followed_is_apart_and_costs_as_long_as_its_truth_held() -> None:
    found = measure(CHANGE_AT_4, published())
    assert (found.flickers, found.delays_s, found.changes) == (0, [], 1)
    assert found.missed_s == pytest.approx([6.0]) and found.delay_s == pytest.approx(6.0)


def test_what_comes_next_may_be_said_a_little_early_but_not_long_before() -> None:
    truth = np.where(TENTHS < 4 + EARLY_S, A, B)  # the look at 4 s comes EARLY_S before
    found = measure(labels(truth), published(at_8=B))
    assert (found.flickers, found.delays_s) == (0, [0.0])
    found = measure(labels(truth), published(at_7=B))
    assert (found.flickers, found.delays_s) == (1, [0.0])


def test_a_truth_out_of_sight_or_cut_short_is_no_change() -> None:
    hidden = (TENTHS < 4) | (TENTHS > 4.5)
    found = measure(labels(np.where(TENTHS < 4, A, B)[hidden], TENTHS[hidden]), published(at_9=B))
    assert found.changes == 0 and found.still_s == pytest.approx(3.9 + 5.4)
    assert measure(labels(np.where(TENTHS < 9.5, A, B)), published(at_20=B)).changes == 0


def test_nothing_is_counted_before_the_first_look() -> None:
    late = labels(np.where(TENTHS < 4, A, B), looks=HALVES[10:])
    found = measure(late, np.full(11, A))
    assert (found.changes, found.frames, found.right) == (0, 51, 0)
    assert found.still_s == pytest.approx(5.0)


def test_steadiness_adds_up() -> None:
    total = measure(CHANGE_AT_4, published(at_10=B))
    total += measure(CHANGE_AT_4, published())
    assert (total.changes, total.frames, total.delay_s) == (2, 202, pytest.approx(3.5))
    assert total.still_s == pytest.approx(20)


def test_a_replay_is_what_the_robots_filter_believes() -> None:
    answers = np.zeros((4, 8))
    answers[[0, 1, 2, 3], [A, B, B, B]] = 1
    stream = Stream("expression", (1,), np.array([0.0, 1.0, 2.0, 3.0]), answers, TENTHS[:31], np.zeros(31, int))
    assert replay(stream, CueConfig(half_life_s=0.0)).tolist() == [A, B, B, B]
    # Half-life 2 s: B has 0.29, 0.5, 0.65.
    assert replay(stream, CueConfig(half_life_s=2.0, enter=0.6, leave=0.1)).tolist() == [A, A, A, B]


def looking(way_s: float = 0.4) -> Stream:
    """A gaze at one place until 4 s, on its way for `way_s`, then at another; a look every half second."""
    share = np.clip((TENTHS - 4) / way_s, 0, 1)
    truth = np.stack([0.2 + 0.6 * share, np.full_like(share, 0.5)], axis=1)
    return Stream("gaze", (1,), HALVES, np.zeros((21, 8, 8)), TENTHS, truth)


def test_a_gaze_change_is_in_the_middle_of_its_way() -> None:
    first, second = segments(looking())
    assert (first.start_s, first.end_s, first.follows) == (0.0, pytest.approx(4.2), False)
    assert (second.start_s, second.end_s, second.follows) == (pytest.approx(4.2), 10.0, True)


def test_a_gaze_point_that_drifts_or_moves_a_little_stays_one_segment() -> None:
    drift = np.stack([0.2 + 0.01 * TENTHS, np.full_like(TENTHS, 0.5)], axis=1)
    step = np.stack([np.where(TENTHS < 4, 0.2, 0.3), np.full_like(TENTHS, 0.5)], axis=1)
    for truth in (drift, step):
        assert len(segments(Stream("gaze", (1,), HALVES, np.zeros((21, 8, 8)), TENTHS, truth))) == 1


def test_a_gaze_that_never_rests_tells_nothing() -> None:
    restless = np.stack([0.5 + 0.4 * np.sin(8 * TENTHS), np.full_like(TENTHS, 0.5)], axis=1)
    found = measure(Stream("gaze", (1,), HALVES, np.zeros((21, 8, 8)), TENTHS[::40], restless[::40]), np.zeros((21, 2)))
    assert (found.frames, found.changes, found.still_s) == (0, 0, 0.0)


def test_lag_jitter_and_error_of_a_gaze_counted_by_hand() -> None:
    points = np.tile([0.2, 0.5], (21, 1))
    points[4] = 0.2, 0.54  # there and back: 0.08 of way
    points[10:] = 0.8, 0.5  # followed at 5 s, 0.8 s after the middle of the way
    found = measure(looking(), points)
    assert (found.flickers, found.missed_s) == (0, [])
    assert found.delay_s == pytest.approx(0.8)
    assert found.jitter_norm == pytest.approx(0.08 / 19), "19 steps between 21 looks besides the one that follows"
    # 4.4 to 4.9 s: 0.6 away in 6 frames; at 2.0 to 2.4 s 0.04 away; 3 frames on the way are not judged.
    assert found.frames == 98 and found.right == 92
    assert found.error_norm == pytest.approx((6 * 0.6 + 5 * 0.04) / 98)


def test_a_gaze_replay_smooths_the_map() -> None:
    maps = np.stack([gaze.encode((x, 0.5), 32, 2.0) for x in (0.5, 0.55, 0.5)])
    stream = Stream("gaze", (1,), HALVES[:3], maps, TENTHS[:11], np.tile([0.5, 0.5], (11, 1)))
    jumping, steady = (replay(stream, CueConfig(half_life_s=value)) for value in (0.0, 2.0))
    assert np.ptp(jumping[:, 0]) > 0 and np.ptp(steady[:, 0]) == 0
