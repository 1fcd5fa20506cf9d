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
