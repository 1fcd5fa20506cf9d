"""Means, spreads and signs of transfer are those worked by hand, whatever the order of runs and the unit."""

from __future__ import annotations

import numpy as np
import pytest

from training.studies.analysis import mean_and_spread, standard_error, transfer_signs

SINGLE = np.array([[0.50, 0.30, 0.80], [0.54, 0.32, 0.80], [0.52, 0.34, 0.80]])
JOINT = np.array([[0.60, 0.33, 0.70], [0.64, 0.31, 0.70], [0.62, 0.35, 0.70]])


def test_mean_and_spread_are_those_worked_by_hand() -> None:
    mean, spread = mean_and_spread(np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]))
    assert mean.tolist() == [2.0, 5.0] and spread.tolist() == [1.0, 0.0]


def test_a_single_run_has_no_spread() -> None:
    mean, spread = mean_and_spread(np.array([[0.4, 0.6]]))
    assert mean.tolist() == [0.4, 0.6] and spread.tolist() == [0.0, 0.0]


def test_the_error_of_a_difference_adds_both_groups_variances() -> None:
    # Variances 1 and 4, of 2 and 4 runs: sqrt(1/2 + 4/4).
    one = np.array([[0.0], [np.sqrt(2)]])
    other = np.array([[0.0], [0.0], [2 * np.sqrt(3)], [0.0]]) * 2 / np.sqrt(3)
    assert other.var(ddof=1) == pytest.approx(4.0)
    assert standard_error(one, other) == pytest.approx([np.sqrt(1.5)])


def test_better_worse_and_undecided_figures_have_their_sign() -> None:
    # Means differ by 0.10, 0.01 and -0.10; errors are 0.016, 0.016 and 0: two of them are 0.033.
    assert transfer_signs(SINGLE, JOINT).tolist() == [1, 0, -1]


def test_transfer_the_other_way_round_has_the_other_sign() -> None:
    assert (transfer_signs(JOINT, SINGLE) == -transfer_signs(SINGLE, JOINT)).all()
    assert not transfer_signs(SINGLE, SINGLE).any()


def test_signs_depend_neither_on_the_order_of_runs_nor_on_the_unit() -> None:
    expected = transfer_signs(SINGLE, JOINT).tolist()
    assert transfer_signs(SINGLE[[2, 0, 1]], JOINT[[1, 2, 0]]).tolist() == expected
    assert transfer_signs(100 * SINGLE - 7, 100 * JOINT - 7).tolist() == expected


def test_a_permutation_of_figures_permutes_the_signs() -> None:
    order = [2, 0, 1]
    assert transfer_signs(SINGLE[:, order], JOINT[:, order]).tolist() == transfer_signs(SINGLE, JOINT)[order].tolist()


def test_with_one_run_each_any_difference_counts_as_in_the_paper() -> None:
    # Table 1, Qwen2-VL: PISC domain, LAM accuracy; min L2 negated.
    single, joint = np.array([[91.9, 92.4, -0.077]]), np.array([[95.8, 92.4, -0.082]])
    assert transfer_signs(single, joint).tolist() == [1, 0, -1]
