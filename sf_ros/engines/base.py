"""Questions in, answers out: the contract between the pipeline and whatever runs the fused model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sf_ros.core.types import Box


@dataclass(frozen=True)
class Question:
    """One of TASKS about one person (or pair) of a frame.

    `boxes`: for a frame view the marked boxes (gaze: the face; domain, relation: both bodies), for a face or person
    view the box to crop around.
    """

    task: str
    track_ids: tuple[int, ...]
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Answer:
    """Either probabilities over the question's labels (L,), summing to 1, or a gaze heatmap (size, size) in 0..1."""

    probabilities: np.ndarray | None = None
    heatmap: np.ndarray | None = None


class Engine(Protocol):
    """Answers questions about one picture."""

    timings_ms: dict[str, float]  # of the last call: views, vision, language

    def answer(self, image: np.ndarray, questions: Sequence[Question]) -> list[Answer]:
        """RGB uint8 (H, W, 3) and questions -> answers in the same order."""
        ...
