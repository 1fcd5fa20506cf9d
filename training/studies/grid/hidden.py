"""Tasks whose labels a split hides (LAM's test): asked for before any work, since they cannot be scored after it."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from training.data.source import labels_hidden, open_source
from training.studies.grid.arguments import StudyArguments
from training.studies.grid.cells import Cell


def visible(arguments: StudyArguments, tasks: Sequence[str]) -> tuple[str, ...]:
    """The tasks whose labels --split shows. DatasetError for a missing dataset."""
    source = open_source(arguments.data)
    return tuple(
        task for task in tasks if not labels_hidden(source.samples(task, arguments.split, count=arguments.samples))
    )


def with_scores(arguments: StudyArguments, cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """The cells with a task to score, and remarks on the hidden ones, which are also printed to stderr.

    A cell of several tasks is scored on those with labels. ValueError when no cell is left.
    """
    tasks = dict.fromkeys(task for cell in cells for task in tasks_of(cell))
    seen = visible(arguments, tuple(tasks))
    remarks = [
        f"'{task}' has no scores: its labels of '{arguments.split}' are hidden; --split val has them."
        for task in tasks
        if task not in seen
    ]
    kept = [cell for cell in cells if set(tasks_of(cell)) & set(seen)]
    if not kept:
        raise ValueError(remarks[0])
    for remark in remarks:
        print(remark, file=sys.stderr)
    return kept, remarks


def tasks_of(cell: Cell) -> tuple[str, ...]:
    """The tasks of a cell that is trained or probed."""
    return tuple(cell.settings["tasks"]) if "tasks" in cell.settings else (cell.settings["task"],)
