"""Differences, signs and gains of two groups of runs, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from training.studies.grid import comparison
from training.studies.grid.comparison import mean_and_spread, standard_error, transfer_signs

BEFORE = {"gaze min_L2": [0.2, 0.2], "gaze AUC": [0.5, 0.7], "domain mAP": [0.50, 0.52]}
AFTER = {"gaze min_L2": [0.1, 0.1], "gaze AUC": [0.6, 0.62], "domain mAP": [0.40, 0.42], "relation mAP": [0.9]}
COLUMNS = ("gaze min_L2", "gaze AUC", "domain mAP", "relation mAP")


def test_differences_are_of_means_and_plus_is_better() -> None:
    assert comparison.difference_row("d", BEFORE, AFTER, COLUMNS) == ["d", "-0.100", "+0.010", "-0.100", "–"]
    assert comparison.sign_row("s", BEFORE, AFTER, COLUMNS) == ["s", "+", "0", "-", "–"]
    assert comparison.sign("relation mAP", BEFORE, AFTER) is None


def test_swapping_groups_swaps_signs() -> None:
    assert [comparison.sign(name, AFTER, BEFORE) for name in COLUMNS[:3]] == [-1, 0, 1]


def test_gains_are_percent_of_before() -> None:
    assert comparison.relative_gain(("gaze min_L2",), BEFORE, AFTER) == pytest.approx(50)
    assert comparison.relative_gain(("domain mAP",), BEFORE, AFTER) == pytest.approx(-100 * 0.1 / 0.51)
    # (50 + 100 * 0.01 / 0.6) / 2; a figure missing in one group does not count.
    assert comparison.relative_gain(("gaze min_L2", "gaze AUC", "relation mAP"), BEFORE, AFTER) == pytest.approx(
        (50 + 1 / 0.6) / 2
    )
    assert comparison.relative_gain(("relation mAP",), BEFORE, AFTER) is None


def test_a_gain_over_zero_is_left_out() -> None:
    assert comparison.relative_gain(("a",), {"a": [0.0]}, {"a": [0.5]}) is None


SINGLE = np.array([[0.50, 0.30, 0.80], [0.54, 0.32, 0.80], [0.52, 0.34, 0.80]])
JOINT = np.array([[0.60, 0.33, 0.70], [0.64, 0.31, 0.70], [0.62, 0.35, 0.70]])


def test_mean_and_spread_by_hand() -> None:
    mean, spread = mean_and_spread(np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]))
    assert mean.tolist() == [2.0, 5.0] and spread.tolist() == [1.0, 0.0]


def test_a_single_run_has_no_spread() -> None:
    mean, spread = mean_and_spread(np.array([[0.4, 0.6]]))
    assert mean.tolist() == [0.4, 0.6] and spread.tolist() == [0.0, 0.0]


def test_standard_error_adds_both_variances() -> None:
    # Variances 1 and 4, of 2 and 4 runs: sqrt(1/2 + 4/4).
    one = np.array([[0.0], [np.sqrt(2)]])
    other = np.array([[0.0], [0.0], [2 * np.sqrt(3)], [0.0]]) * 2 / np.sqrt(3)
    assert other.var(ddof=1) == pytest.approx(4.0)
    assert standard_error(one, other) == pytest.approx([np.sqrt(1.5)])


def test_signs_are_better_undecided_worse() -> None:
    # Means differ by 0.10, 0.01 and -0.10; errors are 0.016, 0.016 and 0: two of them are 0.033.
    assert transfer_signs(SINGLE, JOINT).tolist() == [1, 0, -1]


def test_reversed_transfer_has_the_opposite_sign() -> None:
    assert (transfer_signs(JOINT, SINGLE) == -transfer_signs(SINGLE, JOINT)).all()
    assert not transfer_signs(SINGLE, SINGLE).any()


def test_signs_ignore_run_order_and_unit() -> None:
    expected = transfer_signs(SINGLE, JOINT).tolist()
    assert transfer_signs(SINGLE[[2, 0, 1]], JOINT[[1, 2, 0]]).tolist() == expected
    assert transfer_signs(100 * SINGLE - 7, 100 * JOINT - 7).tolist() == expected


def test_permuted_figures_have_permuted_signs() -> None:
    order = [2, 0, 1]
    assert transfer_signs(SINGLE[:, order], JOINT[:, order]).tolist() == transfer_signs(SINGLE, JOINT)[order].tolist()


def test_single_runs_have_the_sign_of_the_difference() -> None:
    # Table 1, Qwen2-VL: PISC domain, LAM accuracy; min L2 negated.
    single, joint = np.array([[91.9, 92.4, -0.077]]), np.array([[95.8, 92.4, -0.082]])
    assert transfer_signs(single, joint).tolist() == [1, 0, -1]
