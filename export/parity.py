"""How far an engine's answers are from expected ones: a bundle's from its checkpoint's, float16's from float32's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sf_ros.core import bundle as bundles
from sf_ros.core.config import ModelConfig, RuntimeConfig
from sf_ros.core.cues import TASKS, fingerprint
from sf_ros.core.untrusted.folder import FileEntry
from sf_ros.engines.base import Answer, Engine, Query
from sf_ros.engines.fused.engine import FusedEngine

if TYPE_CHECKING:
    from training.data.sample import Sample

SUBSTITUTES = {"frame": "relation", "face": "expression", "person": "gesture"}  # view -> a task that scenes show


def scenes(task: str, split: str, count: int) -> Iterator[Sample]:
    """Drawn samples with the view and boxes that a task needs.

    Parity needs no labels, so a task that scenes do not show gets the samples of a task on the same view.
    """
    from training.data.scenes.dataset import DRAWN_TASKS, Scenes  # needs the packages of training

    drawn = task if task in DRAWN_TASKS else SUBSTITUTES[TASKS[task].view]
    samples = Scenes(drawn, split, count, 1)
    for index in range(count):
        sample = samples[index]
        boxes, label = sample.boxes[: max(TASKS[task].boxes, 1)], sample.label if drawn == task else None
        yield dataclasses.replace(sample, task=task, boxes=boxes, label=label)


def compare(
    engine: Engine, answered: Iterable[tuple[Sample, Answer]], sigma: float, batched: bool = False
) -> dict[str, dict[str, float]]:
    """By task: samples, the largest difference of a probability or heatmap cell, and the share of equal winners.

    `answered`: samples with the expected answers. Winners of a heatmap are equal within `sigma` cells, the width of the
    target's Gaussian: heatmaps are interpolated from coarser ones, so near cells differ by less than rounding.
    `batched`: the other tasks on the same view are in the same query.
    """
    differences: dict[str, list[float]] = {}
    same: dict[str, list[bool]] = {}
    for sample, expected in answered:
        answer = engine.answer(sample.image, [query(sample, batched)])[0][sample.task]
        differences.setdefault(sample.task, []).append(largest_difference(expected, answer))
        cells = [np.unravel_index(np.argmax(values), values.shape) for values in map(_values, (expected, answer))]
        tolerance = sigma if expected.probabilities is None else 0  # cells
        same.setdefault(sample.task, []).append(math.dist(*cells) <= tolerance)
    return {
        task: {
            "samples": len(differences[task]),
            "max_difference": float(np.max(differences[task])),  # nan if one is
            "same_winner": float(np.mean(same[task])),
        }
        for task in differences
    }


def query(sample: Sample, batched: bool = False) -> Query:
    """The query of a sample's task; `batched`: followed by the other tasks on the same view."""
    task = TASKS[sample.task]
    others = [name for name, other in TASKS.items() if name != task.name and other.view_key == task.view_key]
    return Query(task.view, tuple(sample.boxes), (task.name, *others) if batched else (task.name,), (1,))


def largest_difference(expected: Answer, answer: Answer) -> float:
    """Largest difference of a probability or heatmap cell."""
    return float(np.abs(_values(expected) - _values(answer)).max())


def engine_without_manifest(root: Path, model: ModelConfig, prompts: dict[str, str]) -> FusedEngine:
    """An engine on a bundle folder that has no manifest yet.

    It computes in float32 on the CPU, so that parity measures the bundle and not the machine.
    """
    unhashed = FileEntry("0" * 64, 0)
    files = {path.relative_to(root).as_posix(): unhashed for path in root.rglob("*") if path.is_file()}
    tasks = {name: fingerprint(TASKS[name], prompt) for name, prompt in prompts.items()}
    manifest = bundles.Manifest(model, tasks, prompts, {}, files, {}, {})
    return FusedEngine(bundles.Bundle(root, manifest), RuntimeConfig(device="cpu", precision="float32"))


def _values(answer: Answer) -> np.ndarray:
    values = answer.heatmap if answer.probabilities is None else answer.probabilities
    assert values is not None
    return values
