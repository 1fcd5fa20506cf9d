"""Two groups of runs, figure by figure: how far apart, which is better, by how much. L2 is better when smaller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from training.studies.grid import report
from training.studies.grid.analysis import CLEAR, mean_and_spread, transfer_signs

SMALLER_IS_BETTER = "L2"  # part of a figure's name
SIGNS = {1: "+", 0: "0", -1: "-"}
NOTE = f"Signs are 0 where the means are no further apart than {CLEAR:g} standard errors; L2 is better when smaller."
Values = Mapping[str, Sequence[float]]  # figure -> its value in every run


def difference_row(title: str, before: Values, after: Values, columns: Sequence[str]) -> list[str]:
    """A line of a table: the difference of the means, after minus before, per column."""
    return [title, *(_difference(before.get(name, ()), after.get(name, ())) for name in columns)]


def sign_row(title: str, before: Values, after: Values, columns: Sequence[str]) -> list[str]:
    """A line of a table: '+' where after is better than before, '-' where worse, '0' where that may be chance."""
    signs = [sign(name, before, after) for name in columns]
    return [title, *(report.MISSING if value is None else SIGNS[value] for value in signs)]


def sign(name: str, before: Values, after: Values) -> int | None:
    """1 where runs after are better than those before, -1 where worse, 0 where that may be chance; None without runs.

    With one run each it is the sign of the difference.
    """
    first, second = (np.array(values.get(name, ()), float)[:, None] for values in (before, after))
    if not (len(first) and len(second)):
        return None
    return int(transfer_signs(direction(name) * first, direction(name) * second)[0])


def relative_gain(names: Sequence[str], before: Values, after: Values) -> float | None:
    """Mean over figures of how much better after is, in percent of before; None where neither has any of them."""
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
        return report.MISSING
    return f"{_mean(after) - _mean(before):+.3f}"
