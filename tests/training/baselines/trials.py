"""What the tests of all baseline_cells share: random samples, and a few steps of training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from training.baselines.interface import Baseline
from training.data.sample import Sample

BOXES = (Box(3, 4, 20, 30), Box(30, 8, 44, 40))


def sample(task: str, seed: int = 0, point: tuple[float, float] = (0.3, 0.6)) -> Sample:
    """An image of noise with the boxes of a task, and a random label or the gaze point."""
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    boxes = BOXES[: max(TASKS[task].boxes, 1)]
    if TASKS[task].kind == "heatmap":
        return Sample(task, image, boxes, points_norm=(point,))
    return Sample(task, image, boxes, label=int(generator.integers(len(TASKS[task].labels))))


def trained(baseline: Baseline, batch: Sequence[Sample], steps: int, optimizer: torch.optim.Optimizer) -> list[float]:
    """Train a few steps on one batch; returns the losses."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.stack(list(baseline.loss(batch).values())).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def adam(baseline: torch.nn.Module, rate: float) -> torch.optim.Adam:
    """Adam over the trainable parameters."""
    return torch.optim.Adam([p for p in baseline.parameters() if p.requires_grad], lr=rate)
