"""Ways to answer every task about an image, all on the same weights and sessions.

ours: the engine. eager: the engine without CUDA graphs. once: each view is encoded once, and every task runs the LLM by
itself. naive: every task runs encoder and LLM by itself.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch

from export.parity import largest_difference
from sf_ros.core.cues import TASKS
from sf_ros.engines.base import Answer, Answers, Engine, Query
from sf_ros.engines.fused.answers import AnswerModel
from sf_ros.engines.fused.batches import Batch, box_masks
from sf_ros.engines.fused.engine import FusedEngine, fetch
from sf_ros.engines.fused.vision import Vision, VisualTokens


class Naive:
    """One task after the other, each in a call of its own."""

    def __init__(self, engine: FusedEngine) -> None:
        self.tasks = engine.tasks
        self.timings_ms: dict[str, float] = {}
        self._engine = engine

    def answer(self, image: np.ndarray, queries: Sequence[Query]) -> list[Answers]:
        """See Engine."""
        timings = dict.fromkeys(("views", "vision", "llm"), 0.0)
        answers = []
        for query in queries:
            of_query: dict[str, Answer] = {}
            for task in query.tasks:
                of_query |= self._engine.answer(image, [dataclasses.replace(query, tasks=(task,))])[0]
                for stage, spent_ms in self._engine.timings_ms.items():
                    timings[stage] += spent_ms
            answers.append(of_query)
        self.timings_ms = timings
        return list(answers)


class Once:
    """All views encoded together, then one LLM batch per task."""

    def __init__(self, engine: FusedEngine) -> None:
        self.tasks = engine.tasks
        self.timings_ms: dict[str, float] = {}
        self._engine = engine

    def answer(self, image: np.ndarray, queries: Sequence[Query]) -> list[Answers]:
        """See Engine."""
        engine, start = self._engine, time.perf_counter()
        images, view_index = engine.views(image, queries)
        masks = box_masks(queries, image.shape[1], image.shape[0], engine.model.encoder.grid)
        viewed = time.perf_counter()
        vision, model = cast(Vision, engine.vision), cast(AnswerModel, engine.answer_model)
        plain, marked = vision.encode(images)
        visual = VisualTokens(plain, marked, view_index, torch.from_numpy(masks).to(engine.device))
        if engine.synchronise and engine.device.type == "cuda":
            torch.cuda.synchronize(engine.device)
        encoded = time.perf_counter()
        batches = [Batch((task,), (index,)) for index, query in enumerate(queries) for task in query.tasks]
        arrays = fetch([tensors[0] for tensors in model.answer(batches, visual)])
        ends = viewed, encoded, time.perf_counter()
        answers: list[dict[str, Answer]] = [{} for _ in queries]
        for batch, values in zip(batches, arrays, strict=True):
            heatmap = TASKS[batch.tasks[0]].kind == "heatmap"
            answer = Answer(heatmap=values[0]) if heatmap else Answer(probabilities=values[0])
            answers[batch.queries[0]][batch.tasks[0]] = answer
        stages = zip(("views", "vision", "llm"), (start, *ends), ends, strict=False)
        self.timings_ms = {stage: 1e3 * (end - began) for stage, began, end in stages}
        return list(answers)


def eager(engine: FusedEngine) -> FusedEngine:
    """The same engine without CUDA graphs: a GPU gets every kernel by a launch of its own."""
    other = copy.copy(engine)
    other.answer_model, other.timings_ms = copy.copy(engine.answer_model), {}
    other.answer_model.graphs = None
    return other


METHODS: dict[str, Callable[[FusedEngine], Engine]] = {
    "ours": lambda engine: engine,
    "eager": eager,
    "once": Once,
    "naive": Naive,
}


def methods_of(engine: FusedEngine) -> tuple[str, ...]:
    """The methods that make sense for the layout of an engine's model.

    In the edge layout `once` is left out: without the shared prefix, every task by itself is `naive`.
    """
    return tuple(name for name in METHODS if name != "once" or engine.layout == "paper")


def answers_differ_by(expected: Sequence[Answers], answers: Sequence[Answers]) -> float:
    """Largest difference of a probability or heatmap cell between the answers of two methods to the same queries."""
    pairs = zip(expected, answers, strict=True)
    return max(largest_difference(mine[task], theirs[task]) for mine, theirs in pairs for task in mine)
