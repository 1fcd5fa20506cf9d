"""Queries in, answers out: the contract between the scheduler and whatever answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sf_ros.core.types import Box


@dataclass(frozen=True)
class Query:
    """Tasks asked together about one person or pair on one view of a frame.

    `boxes`: for a frame view the marked boxes (gaze: the face; pairs: both bodies), for a face or person view the box
    to crop around. All `tasks` have the same `Task.view_key`.
    """

    view: str  # frame | face | person
    boxes: tuple[Box, ...]
    tasks: tuple[str, ...]
    ids: tuple[int, ...]  # track ids of the person or pair
    # Of the other people in the frame, for engines that weigh them: in a frame view their faces, which a gaze may meet;
    # in a person view their bodies, whose hands may be near.
    others: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Answer:
    """Either probabilities over the task's labels (L,), summing to 1, or a gaze heatmap (size, size) in 0..1."""

    probabilities: np.ndarray | None = None
    heatmap: np.ndarray | None = None


Answers = Mapping[str, Answer]  # task -> answer


class Engine(Protocol):
    """Answers queries about one image."""

    tasks: tuple[str, ...]  # the tasks it can answer
    timings_ms: dict[str, float]  # of the last call: views, vision, llm

    def answer(self, image: np.ndarray, queries: Sequence[Query]) -> list[Answers]:
        """One mapping per query, in order, with an answer for each of its tasks. image: RGB uint8 (H, W, 3)."""
        ...
