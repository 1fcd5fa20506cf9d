"""Differences, signs and gains between two groups of runs are those worked by hand."""

from __future__ import annotations

import pytest

from training.studies.grid import gains

BEFORE = {"gaze min_L2": [0.2, 0.2], "gaze AUC": [0.5, 0.7], "domain mAP": [0.50, 0.52]}
AFTER = {"gaze min_L2": [0.1, 0.1], "gaze AUC": [0.6, 0.62], "domain mAP": [0.40, 0.42], "relation mAP": [0.9]}
COLUMNS = ("gaze min_L2", "gaze AUC", "domain mAP", "relation mAP")


def test_differences_are_of_means_and_signs_of_what_is_better() -> None:
    assert gains.difference_row("d", BEFORE, AFTER, COLUMNS) == ["d", "-0.100", "+0.010", "-0.100", "–"]
    assert gains.sign_row("s", BEFORE, AFTER, COLUMNS) == ["s", "+", "0", "-", "–"]
    assert gains.sign("relation mAP", BEFORE, AFTER) is None


def test_exchanging_the_groups_exchanges_the_signs() -> None:
    assert [gains.sign(name, AFTER, BEFORE) for name in COLUMNS[:3]] == [-1, 0, 1]


def test_gains_are_percent_of_before_and_positive_where_it_is_better() -> None:
    assert gains.relative_gain(("gaze min_L2",), BEFORE, AFTER) == pytest.approx(50)
    assert gains.relative_gain(("domain mAP",), BEFORE, AFTER) == pytest.approx(-100 * 0.1 / 0.51)
    # (50 + 100 * 0.01 / 0.6) / 2; a figure that one of them lacks does not count.
    assert gains.relative_gain(("gaze min_L2", "gaze AUC", "relation mAP"), BEFORE, AFTER) == pytest.approx(
        (50 + 1 / 0.6) / 2
    )
    assert gains.relative_gain(("relation mAP",), BEFORE, AFTER) is None


def test_a_gain_on_nothing_is_left_out() -> None:
    assert gains.relative_gain(("a",), {"a": [0.0]}, {"a": [0.5]}) is None
