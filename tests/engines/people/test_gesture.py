"""Gestures: the shipped classifier knows the drawn world's hands; place, size and side do not count."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.engines.people.gesture import LABELS, OPERATING_POINT, GestureReader, classify, features
from sf_ros.engines.people.hands import Hand
from training.data.hand_views import NO_GESTURE, sample_views
from training.data.scenes.person.gestures import GESTURES


@pytest.fixture(scope="module")
def reader() -> GestureReader:
    return GestureReader()


@pytest.fixture(scope="module")
def views() -> tuple[np.ndarray, ...]:
    return sample_views(20, np.random.default_rng(99))


def as_hand(points: np.ndarray, right: float = 1.0) -> Hand:
    return Hand(points.astype(np.float32), right, 1.0)


def test_labels_are_in_the_order_of_the_drawn_gestures() -> None:
    assert LABELS == GESTURES


def test_drawn_hands_get_their_gesture(reader: GestureReader, views: tuple[np.ndarray, ...]) -> None:
    points, other, seen, classes = views
    right = classify(reader._weights, features(points, other, seen)).argmax(axis=1) == classes
    assert right.mean() > 0.95
    assert min(right[classes == number].mean() for number in range(NO_GESTURE + 1)) >= 0.7


def test_place_and_size_do_not_count(views: tuple[np.ndarray, ...]) -> None:
    points, other, seen, _ = views
    moved = [400 * hands + np.array([320.0, 200, 7]) for hands in (points, other)]
    np.testing.assert_allclose(features(*moved, seen), features(points, other, seen), atol=1e-3)


def test_a_left_hand_is_read_as_the_mirrored_right_one(reader: GestureReader, views: tuple[np.ndarray, ...]) -> None:
    hand = views[0][views[3] == LABELS.index("peace")][0]
    right = reader.probabilities([as_hand(hand)])
    left = reader.probabilities([as_hand(hand * [-1, 1, 1], right=0.0)])
    assert LABELS[right.argmax()] == "peace"
    np.testing.assert_allclose(left, right, atol=1e-6)


def test_palm_and_back_are_told_apart_by_the_side_of_the_hand(
    reader: GestureReader, views: tuple[np.ndarray, ...]
) -> None:
    hands = views[0][(views[3] == LABELS.index("two_up")) & ~views[2]]
    as_left = [LABELS[reader.probabilities([as_hand(hand, 0.0)]).argmax()] for hand in hands]
    assert np.mean([label == "two_up_inverted" for label in as_left]) > 0.7


def test_without_a_gesture_no_label_reaches_its_operating_point(
    reader: GestureReader, views: tuple[np.ndarray, ...]
) -> None:
    np.testing.assert_allclose(reader.probabilities([]), 1 / 33)
    resting = views[0][(views[3] == NO_GESTURE) & ~views[2]]
    answers = np.array([reader.probabilities([as_hand(hand)]) for hand in resting])
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)
    assert (answers.max(axis=1) >= OPERATING_POINT).mean() <= 0.15


def test_a_resting_second_hand_does_not_hide_a_gesture(reader: GestureReader, views: tuple[np.ndarray, ...]) -> None:
    points, other, _, classes = views
    for name in ("peace", "one", "palm"):
        rows = np.flatnonzero(classes == LABELS.index(name))[:6]
        answers = [reader.probabilities([as_hand(other[row], 0.0), as_hand(points[row])]) for row in rows]
        assert np.mean([LABELS[answer.argmax()] == name for answer in answers]) >= 0.8
