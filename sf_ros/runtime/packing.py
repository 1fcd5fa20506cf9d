"""Which questions share which visual tokens (their sequence: sf_ros.model.sequence)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box
from sf_ros.runtime.engine import Question


@dataclass(frozen=True)
class Look:
    """One visual prefix: a picture of one kind around (or with) some boxes, and the questions that read it.

    `indices` are the positions of those questions in the caller's list.
    """

    view: str
    boxes: tuple[Box, ...]
    questions: tuple[str, ...]
    indices: tuple[int, ...]


def looks(questions: Sequence[Question]) -> list[Look]:
    """Group questions that look at the same thing, in order of first appearance."""
    groups: dict[tuple[str, str, float, tuple[Box, ...]], list[int]] = {}
    for index, question in enumerate(questions):
        spec = TASKS[question.task]
        groups.setdefault((spec.view, spec.region, spec.margin, question.boxes), []).append(index)
    return [
        Look(key[0], key[3], tuple(questions[i].task for i in members), tuple(members))
        for key, members in groups.items()
    ]
