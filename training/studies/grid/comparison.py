"""Comparison of two groups of runs, figure by figure: difference, sign and gain. L2 is better when smaller."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.studies.grid.figures import Values

CLEAR = 2.0  # standard errors; a smaller difference of means counts as chance
MISSING = "–"
SMALLER_IS_BETTER = "L2"  # part of a figure's name
SIGNS = {1: "+", 0: "0", -1: "-"}
NOTE = f"Signs are 0 where the means are no further apart than {CLEAR:g} standard errors; L2 is better when smaller."


def mean_and_spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample standard deviation over runs (R, F) -> (F,) each; the deviation of a single run is 0."""
    values = np.asarray(values, float)
    return values.mean(0), values.std(0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])


def standard_error(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Standard error (F,) of the difference of the means of two groups of runs (R, F) and (S, F), after Welch."""
    return np.sqrt(sum(mean_and_spread(group)[1] ** 2 / len(group) for group in (first, second)))


def transfer_signs(single: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """Sign of transfer per figure (F,): 1 where joint runs (S, F) are better than single ones (R, F), -1 where worse.

    0 where the means lie within CLEAR standard errors. More must be better in every column: negate distances. With one
    run each it is the sign of the difference, as in the paper's table 1.
    """
    difference = mean_and_spread(joint)[0] - mean_and_spread(single)[0]
    return np.where(np.abs(difference) > CLEAR * standard_error(single, joint), np.sign(difference), 0).astype(int)


def difference_row(title: str, before: Values, after: Values, columns: Sequence[str]) -> list[str]:
    """A table row: the difference of the means, after minus before, per column."""
    return [title, *(_difference(before.get(name, ()), after.get(name, ())) for name in columns)]


def sign_row(title: str, before: Values, after: Values, columns: Sequence[str]) -> list[str]:
    """A table row: '+' where after is better than before, '-' where worse, '0' where the difference may be chance."""
    signs = [sign(name, before, after) for name in columns]
    return [title, *(MISSING if value is None else SIGNS[value] for value in signs)]


def sign(name: str, before: Values, after: Values) -> int | None:
    """1 where runs after are better than those before, -1 where worse, 0 where that may be chance; None without runs.

    With one run each it is the sign of the difference.
    """
    first, second = (np.array(values.get(name, ()), float)[:, None] for values in (before, after))
    if not (len(first) and len(second)):
        return None
    return int(transfer_signs(direction(name) * first, direction(name) * second)[0])


def relative_gain(names: Sequence[str], before: Values, after: Values) -> float | None:
    """Mean over figures of how much better after is, in percent of before; None where no figure has both."""
    gains = [
        100 * direction(name) * (_mean(after[name]) - _mean(before[name])) / abs(_mean(before[name]))
        for name in names
        if len(before.get(name, ())) and len(after.get(name, ())) and _mean(before[name])
    ]
    return float(np.mean(gains)) if gains else None


def direction(name: str) -> int:
    """1 where more of a figure is better, -1 where less is."""
    return -1 if SMALLER_IS_BETTER in name else 1


def _mean(values: Sequence[float]) -> float:
    return float(mean_and_spread(np.array(values, float)[:, None])[0][0])


def _difference(before: Sequence[float], after: Sequence[float]) -> str:
    if not (len(before) and len(after)):
        return MISSING
    return f"{_mean(after) - _mean(before):+.3f}"
