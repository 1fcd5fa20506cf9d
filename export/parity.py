"""Does an engine answer as it should? Measured on samples: a bundle's on its checkpoint, a precision's on float32."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sf_ros.core import bundle as bundles
from sf_ros.core.config import ModelConfig, RuntimeConfig
from sf_ros.core.cues import TASKS, fingerprint
from sf_ros.engines.base import Answer, Engine, Query
from sf_ros.engines.fused.engine import FusedEngine
from training.data.sample import Sample


def compare(
    engine: Engine, answered: Iterable[tuple[Sample, Answer]], sigma: float, packed: bool = False
) -> dict[str, dict[str, float]]:
    """Per question: largest difference of a probability (or heatmap cell), and how often the winner is the same.

    `answered`: samples with the right answers. A heatmap is interpolated from a coarser one, so that cells some way
    apart may differ by less than rounding does: the same place is one within `sigma` cells, as wide as the target's
    Gaussian.
    `packed`: what else may be asked about the same boxes is asked with it.
    """
    worst: dict[str, list[float]] = {}
    same: dict[str, list[bool]] = {}
    for sample, expected in answered:
        asked = [sample.task, *(beside(sample.task) if packed else ())]
        query = Query(TASKS[sample.task].view, sample.boxes, tuple(asked), (1,))
        found = engine.answer(sample.image, [query])[0][sample.task]
        a = expected.heatmap if expected.probabilities is None else expected.probabilities
        b = found.heatmap if found.probabilities is None else found.probabilities
        assert a is not None and b is not None
        worst.setdefault(sample.task, []).append(float(np.abs(a - b).max()))
        winners = [np.array(np.unravel_index(np.argmax(answer), answer.shape)) for answer in (a, b)]
        tolerance = sigma if expected.probabilities is None else 0  # cells
        same.setdefault(sample.task, []).append(bool(np.linalg.norm(winners[0] - winners[1]) <= tolerance))
    return {
        task: {
            "samples": len(worst[task]),
            "max_difference": float(np.max(worst[task])),  # nan if one is
            "same_winner": float(np.mean(same[task])),
        }
        for task in worst
    }


def beside(task: str) -> list[str]:
    """The other questions about the same boxes in the same kind of view."""
    kind = TASKS[task].view_key
    return [name for name, spec in TASKS.items() if name != task and spec.view_key == kind]


def unproven(root: Path, model: ModelConfig, prompts: dict[str, str]) -> FusedEngine:
    """An engine for a bundle folder that has no manifest yet, for the measurement that will earn it one.

    It computes in float32, so that what is measured is the bundle and not the machine.
    """
    files = {p.relative_to(root).as_posix(): "" for p in root.rglob("*") if p.is_file()}
    tasks = {name: fingerprint(TASKS[name], prompt) for name, prompt in prompts.items()}
    manifest = bundles.Manifest(model, tasks, prompts, {}, files, {}, {})
    return FusedEngine(bundles.Bundle(root, manifest), RuntimeConfig(device="cpu", precision="float32"))
