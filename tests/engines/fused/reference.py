"""Queries about an image of four people, and the fused model's own answers to them."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import Bundle
from sf_ros.core.config import ModelConfig, RuntimeConfig
from sf_ros.core.cues import CUES, TASKS, fingerprint
from sf_ros.core.prompts import load_prompts
from sf_ros.core.types import Box
from sf_ros.core.untrusted.folder import FileEntry
from sf_ros.engines.base import Answer, Query

if TYPE_CHECKING:
    from sf_ros.engines.fused.engine import FusedEngine
    from sf_ros.model.fusion import FusedModel

CPU = RuntimeConfig(device="cpu", precision="float32", threads=1)
IMAGE = np.random.default_rng(8).integers(0, 256, (120, 160, 3), np.uint8)
WIDTH, HEIGHT = 160, 120
BOXES = (Box(10, 35, 40, 60), Box(50, 65, 80, 90), Box(90, 0, 120, 29), Box(125, 61, 158, 118))


def make_query(*tasks: str, ids: tuple[int, ...] = ()) -> Query:
    """A query for tasks of one kind about people 0, 1, ... unless `ids` are given."""
    task = TASKS[tasks[0]]
    ids = ids or tuple(range(max(task.boxes, 1)))
    return Query(task.view, tuple(BOXES[i] for i in ids), tasks, ids)


def all_queries(people: int = len(BOXES)) -> list[Query]:
    """Every cue of every person and pair."""
    singles = [
        make_query(*cue.tasks, ids=(i,)) for i in range(people) for cue in CUES.values() if cue.subject == "person"
    ]
    pairs = itertools.combinations(range(people), 2)
    faces = [make_query("looking_at_me", "expression", ids=(i,)) for i in range(people)]
    return [*singles, *faces, *(make_query("domain", "relation", ids=pair) for pair in pairs)]


def values(answer: Answer) -> np.ndarray:
    array = answer.heatmap if answer.probabilities is None else answer.probabilities
    assert array is not None
    return array


@functools.cache
def expected(model: FusedModel, query: Query, task: str) -> np.ndarray:
    """The model's answer to one task of a query about IMAGE, computed alone."""
    pytest.importorskip("accelerate", reason="the robot has no training, whose answers are the reference")
    from training.data.sample import Sample
    from training.evaluation.answers import reference

    return values(reference(model, Sample(task=task, image=IMAGE, boxes=query.boxes, label=None, key="one")))


def largest_error(engine: FusedEngine, model: FusedModel, queries: list[Query]) -> float:
    """Largest difference between the engine's answers, queried together, and the model's."""
    errors = []
    for query, answers in zip(queries, engine.answer(IMAGE, queries), strict=True):
        assert set(answers) == set(query.tasks)
        errors += [np.abs(values(answers[task]) - expected(model, query, task)).max() for task in query.tasks]
    return float(max(errors))


def unsigned(root: Path, model: ModelConfig, tasks: tuple[str, ...] = tuple(TASKS), **manifest: object) -> Bundle:
    """A bundle before its manifest is written."""
    files = {p.relative_to(root).as_posix(): FileEntry("0" * 64, 0) for p in root.rglob("*") if p.is_file()}
    prompts = {name: prompt for name, prompt in load_prompts(None).items() if name in tasks}
    fingerprints = {name: fingerprint(TASKS[name], prompt) for name, prompt in prompts.items()}
    unchanged = bundles.Manifest(model, fingerprints, prompts, {}, files, {}, {})
    return Bundle(root, dataclasses.replace(unchanged, **manifest))
