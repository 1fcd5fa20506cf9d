"""What the figures of several runs say together; pure functions on small matrices (runs x figures)."""

from __future__ import annotations

import numpy as np

CLEAR = 2.0  # standard errors; a difference of means that is no larger is taken for chance


def mean_and_spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample standard deviation over runs (R, F) -> (F,) each; the spread of a single run is 0."""
    values = np.asarray(values, float)
    return values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])


def standard_error(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of the difference of the means of two groups of runs (R, F) and (S, F), without assuming equal spreads (F,)."""
    return np.sqrt(sum(mean_and_spread(group)[1] ** 2 / len(group) for group in (one, other)))


def transfer_signs(single: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """Sign of transfer per figure (F,): 1 where joint runs (S, F) are better than single ones (R, F), -1 where worse.

    0 where the means lie within CLEAR standard errors. More must be better in every column: negate distances. With one
    run each it is the sign of the difference, as in the paper's table 1.
    """
    difference = mean_and_spread(joint)[0] - mean_and_spread(single)[0]
    return np.where(np.abs(difference) > CLEAR * standard_error(single, joint), np.sign(difference), 0).astype(int)


def conflict_matrix(gradients: np.ndarray) -> np.ndarray:
    """Gradient conflict degrees 1 - cos of all pairs of tasks (T, T), from a gradient each (T, P); paper section 3.3.

    0 on the diagonal, 1 where gradients are orthogonal, 2 where they are opposite; NaN beside a gradient of zeros.
    """
    return conflict_of_products(gradients @ gradients.T)


def conflict_of_products(products: np.ndarray) -> np.ndarray:
    """The same from the inner products of the gradients (T, T), which add up over parts of the parameters."""
    products = np.asarray(products, float)
    lengths = np.sqrt(np.diag(products))
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = 1 - products / np.outer(lengths, lengths)
    degrees[np.diag_indices_from(degrees)] = np.where(lengths > 0, 0.0, np.nan)
    return degrees


def shared_conflict(parts: np.ndarray) -> np.ndarray:
    """Conflict degrees (T, T) where each pair is compared on what both its gradients reach.

    From inner products by tensor of the parameters (N, T, T). A tensor that one of the two never reaches adds nothing
    to their product, but to the other's length.
    """
    squares = np.diagonal(np.asarray(parts, float), axis1=1, axis2=2)  # (N, T)
    reached = squares > 0
    lengths = np.sqrt(np.einsum("nt,nu->tu", squares, reached.astype(float)))  # of t's gradient where u's is not zero
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = 1 - np.asarray(parts, float).sum(0) / (lengths * lengths.T)
    degrees[np.diag_indices_from(degrees)] = np.where(reached.any(0), 0.0, np.nan)
    return degrees


def mean_pair(degrees: np.ndarray) -> float:
    """The mean over all pairs of different tasks (T, T), without those that have no degree; NaN where none has one."""
    values = degrees[np.triu_indices(len(degrees), 1)]
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")
