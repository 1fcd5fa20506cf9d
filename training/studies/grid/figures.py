"""Figures of a study: single numbers named 'task metric', gathered over runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.evaluation import published_results
from training.studies.grid.cells import Record

# The paper's five tasks; PISC's two are one of them (paper section 4.1).
FIVE_TASKS: dict[str, tuple[str, ...]] = {
    "gesture": ("gesture",),
    "social_relation": ("domain", "relation"),
    "looking_at_me": ("looking_at_me",),
    "gaze": ("gaze",),
    "expression": ("expression",),
}
CHANCE = "chance"
PAPER_FIGURES = tuple(f"{column.task} {column.metric}" for column in published_results.COLUMNS)  # table 1, in its order
Values = Mapping[str, Sequence[float]]  # figure -> its value in every run
Figures = Mapping[str, Values]  # group of runs -> its figures


def figures_of(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Figure -> value, from results of training.evaluate.

    Gaze also has figures of the targets before and after the head, where their positions are known.
    """
    figures: dict[str, float] = {}
    for task, result in scores.items():
        parts = {task: result["metrics"]}
        for order in ("after", "before"):
            part = result.get(f"target_{order}_head", {})
            parts[f"{task} {order} head"] = {name: part[name] for name in part if name != "samples"}
        figures |= {f"{name} {metric}": value for name, metrics in parts.items() for metric, value in metrics.items()}
    return figures


def by_group(groups: Mapping[str, str], records: Sequence[Record]) -> dict[str, dict[str, list[float]]]:
    """Group -> figure -> its value in every run of the group; `groups` maps cells to groups.

    The last group is CHANCE: the scores of guessing, which are the same in all cells.
    """
    figures: dict[str, dict[str, list[float]]] = {group: {} for group in (*groups.values(), CHANCE)}
    for record in records:
        scores = record.facts.get("scores", {})
        for name, value in figures_of(scores).items():
            figures[groups[record.cell]].setdefault(name, []).append(value)
        for task, result in scores.items():
            figures[CHANCE] |= {f"{task} {metric}": [value] for metric, value in result["chance"].items()}
    return figures
