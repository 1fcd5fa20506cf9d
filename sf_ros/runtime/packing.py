"""Which questions share which visual tokens, and the sequence and mask that let them.

Questions about the same picture and boxes share one visual prefix: [V ; T1 ; T2 ...]. Each Ti sees V and itself, and
its positions start again behind V, so the packed answers are those of asking one by one. The mask is always given:
restarted positions alone make transformers guess at packed sequences and cut later questions off V.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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


@dataclass(frozen=True)
class Layout:
    """The packed sequence behind N visual tokens: what may see what, positions, and where each answer is read."""

    mask: Tensor  # (L, L) bool, True: the row may see the column
    positions: Tensor  # (L,)
    last: Tensor  # (questions,) index of each prompt's last token


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


def layout(visual_tokens: int, prompt_lengths: Sequence[int]) -> Layout:
    """Mask, positions and read-out places of [V ; T1 ; T2 ...] with causal attention everywhere.

    With no prompts it is V alone, as for gaze.
    """
    total = visual_tokens + sum(prompt_lengths)
    mask = torch.ones(total, total, dtype=torch.bool).tril()
    positions = torch.arange(total)
    last, start = [], visual_tokens
    for length in prompt_lengths:
        mask[start : start + length, visual_tokens:start] = False  # not the questions before it
        positions[start : start + length] = torch.arange(visual_tokens, visual_tokens + length)
        start += length
        last.append(start - 1)
    return Layout(mask, positions, torch.tensor(last, dtype=torch.long))
