"""A detector of two people and an engine with fixed answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sf_ros.core import gaze
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box, Frame
from sf_ros.engines.base import Answer, Answers, Query
from sf_ros.perception.detectors.base import Detections

SIZE = (300, 200)  # width, height of a frame
BODIES = np.array([[20.0, 10, 80, 190], [120, 10, 180, 190]])
FACES = ((Box(35, 12, 65, 50), 0.8), (Box(135, 12, 165, 50), 0.7))
FACE_2_NORM = (150 / 300, 30 / 200)  # on the face of person 2


class TwoPeople:
    """Persons 1 and 2 in every frame; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def detect(self, frame: Frame) -> Detections:
        self.calls += 1
        return Detections(BODIES, np.array([0.9, 0.9]), FACES)


class FixedAnswers:
    """The first label of every task unless `labels` names another, and a gaze at the face of person 2."""

    def __init__(self, tasks: Sequence[str] = tuple(TASKS), labels: Mapping[str, str] | None = None) -> None:
        self.tasks = tuple(tasks)
        self.timings_ms: dict[str, float] = {}
        self.calls: list[list[Query]] = []
        self._labels = labels or {}

    def answer(self, image: np.ndarray, queries: Sequence[Query]) -> list[Answers]:
        self.calls.append(list(queries))
        self.timings_ms = {"views": 1.0, "vision": 2.0, "llm": 3.0}
        return [{task: self._answer(task) for task in query.tasks} for query in queries]

    def _answer(self, task: str) -> Answer:
        labels = TASKS[task].labels
        if not labels:
            return Answer(heatmap=gaze.encode(FACE_2_NORM, 64, 3.0))
        return Answer(np.eye(len(labels))[labels.index(self._labels.get(task, labels[0]))])


def frame(stamp: float, index: int = 0, **changes: object) -> Frame:
    """A black frame of SIZE."""
    return Frame(np.zeros((SIZE[1], SIZE[0], 3), np.uint8), stamp, index, **changes)  # type: ignore[arg-type]
