"""Conflict degrees are those computed by hand, and depend on directions alone."""

from __future__ import annotations

import numpy as np
import pytest

from training.studies.measures.conflict_degree import conflict_matrix, conflict_of_products, mean_pair, shared_conflict

# Gradients along the axes, along a diagonal, and against the first.
GRADIENTS = np.array([[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [1.0, 1.0, 0.0], [-4.0, 0.0, 0.0]])


def test_conflict_degrees_by_hand() -> None:
    half = 1 - np.sqrt(0.5)  # 45 degrees
    assert conflict_matrix(GRADIENTS) == pytest.approx(
        np.array([[0, 1, half, 2], [1, 0, half, 1], [half, half, 0, 2 - half], [2, 1, 2 - half, 0]]), abs=1e-12
    )


def test_orthogonal_gradients_have_degree_one() -> None:
    degrees = conflict_matrix(np.diag([1.0, 20.0, 0.003]))
    assert degrees.tolist() == (1 - np.eye(3)).tolist() and mean_pair(degrees) == 1.0


def test_conflict_is_symmetric_and_follows_task_order() -> None:
    gradients = np.random.default_rng(0).normal(size=(5, 40))
    degrees, order = conflict_matrix(gradients), [3, 0, 4, 1, 2]
    assert degrees == pytest.approx(degrees.T) and (degrees >= 0).all() and (degrees <= 2).all()
    assert conflict_matrix(gradients[order]) == pytest.approx(degrees[np.ix_(order, order)])


def test_conflict_ignores_gradient_length() -> None:
    gradients = np.random.default_rng(1).normal(size=(4, 30))
    lengths = np.array([[1e-3], [1.0], [50.0], [7.0]])
    assert conflict_matrix(lengths * gradients) == pytest.approx(conflict_matrix(gradients))
    turned = gradients * np.array([[1.0], [-1.0], [1.0], [1.0]])
    degrees = conflict_matrix(gradients)[0]
    assert conflict_matrix(turned)[0] == pytest.approx([0, 2 - degrees[1], *degrees[2:]])


def test_unreached_parameters_change_no_degree() -> None:
    wider = np.concatenate([GRADIENTS, np.zeros((4, 9))], axis=1)
    assert conflict_matrix(wider) == pytest.approx(conflict_matrix(GRADIENTS))


def test_zero_gradients_have_no_degree() -> None:
    degrees = conflict_matrix(np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]))
    assert np.isnan(degrees[1]).all() and np.isnan(degrees[:, 1]).all()
    assert mean_pair(degrees) == pytest.approx(1 - np.sqrt(0.5)) and np.isnan(mean_pair(np.full((2, 2), np.nan)))


def test_mean_is_over_pairs_of_different_tasks() -> None:
    assert mean_pair(np.array([[0.0, 0.2, 0.4], [0.2, 0.0, 0.9], [0.4, 0.9, 0.0]])) == pytest.approx(0.5)


def products(tensors: list[list[list[float]]]) -> np.ndarray:
    """Inner products by tensor; a tensor is a gradient (n) of every task."""
    return np.stack([np.array(tensor) @ np.array(tensor).T for tensor in tensors])


def test_shared_conflict_ignores_tensors_of_one_task() -> None:
    # Both tasks agree on the first tensor; the second is a head that only the first task has.
    parts = products([[[1.0, 1.0], [2.0, 2.0]], [[3.0], [0.0]]])
    assert shared_conflict(parts)[0, 1] == pytest.approx(0.0, abs=1e-12)
    assert conflict_of_products(parts.sum(0))[0, 1] == pytest.approx(1 - 2 / np.sqrt(11 * 2))


def test_shared_conflict_equals_conflict_if_all_is_shared() -> None:
    gradients = np.random.default_rng(2).normal(size=(4, 12))
    parts = products([gradients[:, :5].tolist(), gradients[:, 5:].tolist()])
    assert shared_conflict(parts) == pytest.approx(conflict_matrix(gradients), abs=1e-12)
