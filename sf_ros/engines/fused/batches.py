"""Which questions share which visual tokens, and in which passes of the LLM they are read.

Questions about one thing share a look. Looks that ask the same are read together, as one batch. Looks at the frame have
the same picture and other boxes: under causal attention their tokens before the first boxed patch are the same, so
that these may be read once per frame and their keys and values reused; where boxes are tokens of their own, behind
the picture, it is all of them. Where prompts come first a question shares tokens with its own kind only, and is read
in passes of its own. (The sequence itself: sf_ros.model.sequence.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sf_ros.core import views
from sf_ros.core.config import ModelConfig
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box
from sf_ros.engines.base import Question

# What a pass costs whatever its length, in tokens: launching every layer and reading its weights. Measured on a CPU:
# 45 (layers of Llama-3.2-1B, float32) to 140 (tiny body, bfloat16); see docs/performance.md.
PASS_TOKENS = 80


@dataclass(frozen=True)
class Look:
    """One visual prefix: a picture of one kind around (or with) some boxes, and the questions that read it.

    `indices` are the positions of those questions in the caller's list.
    """

    view: str
    boxes: tuple[Box, ...]
    questions: tuple[str, ...]
    indices: tuple[int, ...]

    @property
    def marked(self) -> tuple[Box, ...]:
        """The boxes that are told to the model: those of a frame, as a crop's is all that is seen."""
        return self.boxes if TASKS[self.questions[0]].boxes else ()

    def asking(self, question: str) -> list[int]:
        """The positions of one of its questions: several where people were given the same box."""
        return [index for index, name in zip(self.indices, self.questions, strict=True) if name == question]


@dataclass(frozen=True)
class Pass:
    """One run of the LLM over a batch of looks with the same questions.

    `looks` are positions in the list of looks; their first `reused` visual tokens come from the frame's own pass.
    """

    questions: tuple[str, ...]
    looks: tuple[int, ...]
    reused: int = 0


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


def marks(asked: Sequence[Look], width: int, height: int, grid: int) -> np.ndarray:
    """Which patches each look marks in a picture of (width, height) pixels: bool (looks, grid * grid)."""
    marked = np.zeros((len(asked), grid * grid), bool)
    for row, look in zip(marked, asked, strict=True):
        if look.marked:
            row[:] = views.box_mask(look.marked, width, height, grid)
    return marked


def reusable(asked: Sequence[Look], marked: np.ndarray, model: ModelConfig) -> list[int]:
    """How many of each look's first visual tokens are the bare frame's: whole rows, so that few lengths occur.

    None of a crop. Where boxes mark patches, none either if visual tokens see one another both ways, and the last row
    is never among them: a pass without tokens of its own would have no answer to read.
    """
    if model.boxes == "token":
        return [model.visual_tokens if look.view == "frame" else 0 for look in asked]
    counts = []
    for look, patches in zip(asked, marked, strict=True):
        rows = patches.reshape(model.encoder.grid, -1).any(axis=1)
        bare = int(rows.argmax()) if rows.any() else len(rows)
        shared = look.view == "frame" and model.attention == "causal"
        counts.append(min(bare // model.pooling, model.visual_grid - 1) * model.visual_grid if shared else 0)
    return counts


def plan(asked: Sequence[Look], marked: np.ndarray, model: ModelConfig, reuse: str) -> list[Pass]:
    """The passes that read all looks, whose marked patches are `marked` (looks, grid * grid).

    `reuse` as in RuntimeConfig.prefix_reuse: off, on (the fewest tokens) or auto (the least work, passes counted too).
    """
    counts = [0] * len(asked) if reuse == "off" else reusable(asked, marked, model)
    pass_tokens = 0.0 if reuse == "on" else PASS_TOKENS
    apart = model.order == "prompt_first"
    groups = kinds(asked, apart)
    if not apart:
        return passes(groups, counts, pass_tokens)
    return [one for kind, members in groups.items() for one in passes({kind: members}, counts, pass_tokens)]


def kinds(asked: Sequence[Look], apart: bool = False) -> dict[tuple[str, ...], list[int]]:
    """Questions that are read together -> the looks that ask them; `apart`: every question by itself."""
    found: dict[tuple[str, ...], list[int]] = {}
    for index, look in enumerate(asked):
        for questions in [(name,) for name in look.questions] if apart else [look.questions]:
            members = found.setdefault(questions, [])
            if members[-1:] != [index]:  # a question that is asked twice is read once
                members.append(index)
    return found


def passes(groups: Mapping[tuple[str, ...], Sequence[int]], counts: Sequence[int], pass_tokens: float) -> list[Pass]:
    """The cheapest passes that read all looks of some kinds; `counts` of each look's first tokens may be reused.

    Reuse costs one pass more, over the most tokens that any look takes from it, and looks that are read together take
    what the least of them can: every choice of "the most" is tried, a pass being worth `pass_tokens` tokens.
    """
    levels = sorted({0, *(counts[index] for members in groups.values() for index in members)}, reverse=True)

    def cheapest(most: int) -> tuple[float, list[Pass]]:
        found, saved = [], -(most + pass_tokens) if most else 0.0
        for questions, members in groups.items():
            for group in _groups({index: min(counts[index], most) for index in members}, pass_tokens):
                reused = min(min(counts[index], most) for index in group)
                found.append(Pass(questions, tuple(group), reused))
                saved += reused * len(group) - pass_tokens
        return saved, found

    return max(map(cheapest, levels), key=lambda tried: tried[0])[1]


def _groups(counts: dict[int, int], pass_tokens: float) -> list[list[int]]:
    """Cut looks with a number of reusable tokens each into groups, so that least is lost.

    A group reuses what the least of its members can, and costs a pass. Groups are runs of the sorted looks, so the
    best cut of the first k runs extends the best cut of fewer.
    """
    levels = sorted(set(counts.values()), reverse=True)
    members = [[index for index, count in counts.items() if count == level] for level in levels]
    best: list[tuple[float, list[list[int]]]] = [(0.0, [])]
    for end in range(1, len(levels) + 1):
        options = []
        for start in range(end):
            group = sorted(index for level in members[start:end] for index in level)
            gain = best[start][0] + levels[end - 1] * len(group) - pass_tokens
            options.append((gain, [*best[start][1], group]))
        best.append(max(options, key=lambda option: option[0]))
    return best[-1][1]
