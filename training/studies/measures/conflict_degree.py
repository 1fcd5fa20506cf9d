"""Gradient conflict degrees 1 - cos between tasks, from gradients or from their inner products (paper section 3.3)."""

from __future__ import annotations

import numpy as np


def conflict_matrix(gradients: np.ndarray) -> np.ndarray:
    """Conflict degrees 1 - cos of all pairs of tasks (T, T), from one gradient per task (T, P).

    0 on the diagonal, 1 where gradients are orthogonal, 2 where they are opposite; NaN for a task whose gradient is 0.
    """
    return conflict_of_products(gradients @ gradients.T)


def conflict_of_products(products: np.ndarray) -> np.ndarray:
    """Conflict degrees (T, T) from the gradients' inner products (T, T), which add up over parts of the parameters."""
    products = np.asarray(products, float)
    lengths = np.sqrt(np.diag(products))
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = 1 - products / np.outer(lengths, lengths)
    degrees[np.diag_indices_from(degrees)] = np.where(lengths > 0, 0.0, np.nan)
    return degrees


def shared_conflict(products: np.ndarray) -> np.ndarray:
    """Conflict degrees (T, T) over the parameter tensors that both tasks of a pair reach.

    `products` (N, T, T) are the gradients' inner products per tensor. A tensor that only one of two tasks reaches adds
    nothing to their inner product but lengthens one gradient, so it is left out here.
    """
    products = np.asarray(products, float)
    squares = np.diagonal(products, axis1=1, axis2=2)  # (N, T)
    reached = squares > 0
    lengths = np.sqrt(np.einsum("nt,nu->tu", squares, reached.astype(float)))  # [t, u]: t's length where u has one
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = 1 - products.sum(0) / (lengths * lengths.T)
    degrees[np.diag_indices_from(degrees)] = np.where(reached.any(0), 0.0, np.nan)
    return degrees


def mean_pair(degrees: np.ndarray) -> float:
    """Mean over all pairs of different tasks (T, T), ignoring NaN; NaN where no pair has a degree."""
    values = degrees[np.triu_indices(len(degrees), 1)]
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")
