"""Queries with the same tasks run together, and frame queries mark patches."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from sf_ros.core.types import Box
from sf_ros.engines.base import Query
from sf_ros.engines.fused.batches import Batch, batches, box_masks

BOX = (Box(30, 10, 60, 20),)


def test_queries_with_the_same_tasks_share_a_batch() -> None:
    tasks = [("looking_at_me", "expression"), ("gaze",), ("expression",), ("expression", "looking_at_me"), ("gaze",)]
    queries = [Query("frame" if names == ("gaze",) else "face", BOX, names, (1,)) for names in tasks]
    assert batches(queries) == [
        Batch(("expression", "looking_at_me"), (0, 3)),
        Batch(("gaze",), (1, 4)),
        Batch(("expression",), (2,)),
    ]
    assert batches([]) == []


def test_only_frame_queries_mark_patches() -> None:
    queries = [Query("frame", BOX, ("gaze",), (1,)), Query("face", BOX, ("expression",), (1,))]
    masks = box_masks(queries, 80, 40, 4)  # patches of 20 x 10 px
    assert masks.shape == (2, 16)
    assert masks[0].nonzero()[0].tolist() == [5, 6]  # row 1, columns 1 and 2
    assert not masks[1].any()
