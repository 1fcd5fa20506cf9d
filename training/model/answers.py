"""The fused model's answers from visual tokens: the one place where logits become probabilities and heatmaps."""

from __future__ import annotations

from torch import Tensor

from sf_ros.core.cues import TASKS
from sf_ros.engines.base import Answer
from sf_ros.model.fusion import FusedModel


def answer_values(model: FusedModel, visual: Tensor, task: str) -> Tensor:
    """Visual tokens (B, N, D) -> probabilities (B, L) of a label task, or heatmaps (B, size, size) in 0..1."""
    if TASKS[task].kind == "heatmap":
        return model.heatmap_logits(visual).float().sigmoid()
    return model.label_logits(visual, task).float().softmax(-1)


def answer_of(model: FusedModel, visual: Tensor, task: str) -> Answer:
    """The model's answer to one task, from visual tokens (1, N, D)."""
    values = answer_values(model, visual, task)[0].cpu().numpy()
    return Answer(heatmap=values) if TASKS[task].kind == "heatmap" else Answer(probabilities=values)
