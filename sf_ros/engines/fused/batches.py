"""Queries -> batches of the LLM, and the patches that their boxes mark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sf_ros.core import views
from sf_ros.core.cues import TASKS
from sf_ros.engines.base import Query


@dataclass(frozen=True)
class Batch:
    """Queries with the same tasks: one forward pass of the LLM."""

    tasks: tuple[str, ...]
    queries: tuple[int, ...]  # indices into the queries of the call


def batches(queries: Sequence[Query]) -> list[Batch]:
    """Queries grouped by their tasks, whatever the tasks' order in a query."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, query in enumerate(queries):
        groups.setdefault(tuple(name for name in TASKS if name in query.tasks), []).append(index)
    return [Batch(tasks, tuple(members)) for tasks, members in groups.items()]


def box_masks(queries: Sequence[Query], width: int, height: int, grid: int) -> np.ndarray:
    """The marked patches of each query on an image of (width, height) pixels: bool (queries, grid * grid)."""
    masks = np.zeros((len(queries), grid * grid), bool)
    for mask, query in zip(masks, queries, strict=True):
        if query.view == "frame":
            mask[:] = views.box_mask(query.boxes, width, height, grid)
    return masks
