"""Hands as people hold them: every one-handed gesture, with bones of life's length, seen in perspective."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.hand_views import NO_GESTURE, sample_views
from training.data.scenes.person.gestures import BONES, GESTURES, TWO_HANDED
from training.data.scenes.person.holds import HOLDS, REST, sample_holds


def test_every_gesture_of_one_hand_has_holds() -> None:
    assert set(HOLDS) == set(GESTURES) - TWO_HANDED


@pytest.mark.parametrize("holds", [HOLDS["palm"], HOLDS["fist"], REST], ids=["palm", "fist", "rest"])
def test_bones_vary_around_their_lengths(holds: tuple) -> None:
    joints = sample_holds(holds, 200, np.random.default_rng(1))
    lengths = np.linalg.norm(np.diff(joints[:, 9:13], axis=1), axis=2)
    np.testing.assert_allclose(lengths.mean(axis=0), BONES[1], rtol=0.03)
    assert (lengths.std(axis=0) / lengths.mean(axis=0) > 0.03).all()


def test_likes_point_up_and_dislikes_down() -> None:
    for name, sign in (("like", -1), ("dislike", 1), ("call", -1)):
        joints = sample_holds(HOLDS[name], 200, np.random.default_rng(2))
        if name == "call":  # most calls
            assert (sign * (joints[:, 4, 1] - joints[:, 2, 1]) > 0).mean() > 0.6
        else:
            assert (sign * (joints[:, 4, 1] - joints[:, 2, 1]) > 0).mean() > 0.95


def test_views_hold_all_classes_and_both_hands() -> None:
    points, other, seen, classes = sample_views(10, np.random.default_rng(3))
    assert points.shape == other.shape == (10 * (NO_GESTURE + 1), 21, 3)
    assert np.bincount(classes).tolist() == [10] * (NO_GESTURE + 1)
    assert np.isfinite(points).all()
    assert np.isfinite(other).all()
    two_handed = np.isin(classes, [GESTURES.index(name) for name in TWO_HANDED])
    assert seen[two_handed].mean() > 0.6 > seen[~two_handed].mean() > 0.1
