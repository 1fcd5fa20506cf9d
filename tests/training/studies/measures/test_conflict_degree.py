"""Means, spreads and signs of transfer are those worked by hand, whatever the order of runs and the unit."""

from __future__ import annotations

import numpy as np
import pytest

from training.studies.grid.analysis import (
    conflict_matrix,
    conflict_of_products,
    mean_and_spread,
    mean_pair,
    shared_conflict,
    standard_error,
    transfer_signs,
)

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


# Gradients along the axes, along a diagonal, and against the first.
GRADIENTS = np.array([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [1.0, 1.0, 0.0], [-4.0, 0.0, 0.0]])


def test_conflict_degrees_are_those_worked_by_hand() -> None:
    half = 1 - np.sqrt(0.5)  # 45 degrees
    assert conflict_matrix(GRADIENTS) == pytest.approx(
        np.array([[0, 1, half, 2], [1, 0, half, 1], [half, half, 0, 2 - half], [2, 1, 2 - half, 0]]), abs=1e-12
    )


def test_orthogonal_gradients_have_degree_one() -> None:
    degrees = conflict_matrix(np.diag([1.0, 20.0, 0.003]))
    assert degrees.tolist() == (1 - np.eye(3)).tolist() and mean_pair(degrees) == 1.0


def test_conflict_is_symmetric_and_goes_with_the_order_of_tasks() -> None:
    gradients = np.random.default_rng(0).normal(size=(5, 40))
    degrees, order = conflict_matrix(gradients), [3, 0, 4, 1, 2]
    assert degrees == pytest.approx(degrees.T) and (degrees >= 0).all() and (degrees <= 2).all()
    assert conflict_matrix(gradients[order]) == pytest.approx(degrees[np.ix_(order, order)])


def test_conflict_knows_directions_not_lengths() -> None:
    gradients = np.random.default_rng(1).normal(size=(4, 30))
    lengths = np.array([[1e-3], [1.0], [50.0], [7.0]])
    assert conflict_matrix(lengths * gradients) == pytest.approx(conflict_matrix(gradients))
    turned = gradients * np.array([[1.0], [-1.0], [1.0], [1.0]])
    degrees = conflict_matrix(gradients)[0]
    assert conflict_matrix(turned)[0] == pytest.approx([0, 2 - degrees[1], *degrees[2:]])


def test_parameters_that_no_task_reaches_change_no_degree() -> None:
    wider = np.concatenate([GRADIENTS, np.zeros((4, 9))], axis=1)
    assert conflict_matrix(wider) == pytest.approx(conflict_matrix(GRADIENTS))


def test_a_task_without_gradient_has_no_degree_and_is_left_out_of_the_mean() -> None:
    degrees = conflict_matrix(np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]))
    assert np.isnan(degrees[1]).all() and np.isnan(degrees[:, 1]).all()
    assert mean_pair(degrees) == pytest.approx(1 - np.sqrt(0.5)) and np.isnan(mean_pair(np.full((2, 2), np.nan)))


def test_the_mean_is_over_pairs_of_different_tasks() -> None:
    assert mean_pair(np.array([[0.0, 0.2, 0.4], [0.2, 0.0, 0.9], [0.4, 0.9, 0.0]])) == pytest.approx(0.5)


def products(tensors: list[list[list[float]]]) -> np.ndarray:
    """Inner products by tensor; a tensor is a gradient (n) of every task."""
    return np.stack([np.array(tensor) @ np.array(tensor).T for tensor in tensors])


def test_a_tensor_that_one_task_alone_reaches_counts_for_neither_of_a_pair() -> None:
    # Both tasks agree on the first tensor; the second is a head that only the first task has.
    parts = products([[[1.0, 1.0], [2.0, 2.0]], [[3.0], [0.0]]])
    assert shared_conflict(parts)[0, 1] == pytest.approx(0.0, abs=1e-12)
    assert conflict_of_products(parts.sum(0))[0, 1] == pytest.approx(1 - 2 / np.sqrt(11 * 2))


def test_where_all_tasks_reach_everything_all_weights_are_shared() -> None:
    gradients = np.random.default_rng(2).normal(size=(4, 12))
    parts = products([gradients[:, :5].tolist(), gradients[:, 5:].tolist()])
    assert shared_conflict(parts) == pytest.approx(conflict_matrix(gradients), abs=1e-12)
