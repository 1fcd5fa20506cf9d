"""Ways to ask every question about a picture: the engine's own, and simpler ones on the same weights and sessions.

naive: every question is an encoder pass and a language pass of its own. once: pictures are encoded once and together,
and every question is a language pass of its own. packed: the engine without prefix reuse. eager: the engine without
recorded runs, which only GPUs have. ours: the engine as it is.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence

import numpy as np

from sf_ros.engines.base import Answer, Engine, Question
from sf_ros.engines.fused.batches import Look, Pass, plan
from sf_ros.engines.fused.engine import FusedEngine, Planner


class Naive:
    """One question after the other, each as if it were the only one."""

    def __init__(self, engine: FusedEngine) -> None:
        self._engine = planned(engine, each_alone)
        self.timings_ms: dict[str, float] = {}

    def answer(self, image: np.ndarray, questions: Sequence[Question]) -> list[Answer]:
        """See Engine."""
        answers = []
        self.timings_ms = dict.fromkeys(("views", "vision", "llm"), 0.0)
        for question in questions:
            answers += self._engine.answer(image, [question])
            for stage, spent in self._engine.timings_ms.items():
                self.timings_ms[stage] += spent
        return answers


def each_alone(asked: Sequence[Look], marked: np.ndarray) -> list[Pass]:
    """A pass for every question of every look."""
    return [Pass((name,), (index,)) for index, look in enumerate(asked) for name in look.questions]


def planned(engine: FusedEngine, planner: Planner) -> FusedEngine:
    """The same weights and sessions with other passes."""
    other = copy.copy(engine)
    other.planner, other.timings_ms = planner, {}
    return other


def eager(engine: FusedEngine) -> FusedEngine:
    """The same weights and passes, told to a GPU kernel by kernel."""
    other = copy.copy(engine)
    other.llm, other.timings_ms = copy.copy(engine.llm), {}
    other.llm.replayed = None
    return other


METHODS: dict[str, Callable[[FusedEngine], Engine]] = {
    "ours": lambda engine: engine,
    "packed": lambda engine: planned(engine, functools.partial(plan, model=engine.model, reuse="off")),
    "eager": eager,
    "once": lambda engine: planned(engine, each_alone),
    "naive": Naive,
}


def largest_difference(one: Sequence[Answer], other: Sequence[Answer]) -> float:
    """Between probabilities (or heatmap cells) of two methods' answers."""
    return max(float(np.abs(_numbers(a) - _numbers(b)).max()) for a, b in zip(one, other, strict=True))


def _numbers(answer: Answer) -> np.ndarray:
    return np.asarray(answer.heatmap if answer.probabilities is None else answer.probabilities)
