"""The fused model's answers from features: the one place where logits become probabilities and heatmaps."""

from __future__ import annotations

from torch import Tensor

from sf_ros.core.cues import TASKS
from sf_ros.engines.base import Answer
from sf_ros.model.fusion import FusedModel, QueryFeatures


def answer_values(model: FusedModel, features: QueryFeatures, task: str) -> Tensor:
    """Probabilities (B, L) of a label task, or heatmaps (B, size, size) in 0..1, for B queries."""
    if TASKS[task].kind == "heatmap":
        return model.heatmap_logits(features).float().sigmoid()
    return model.label_logits(features, task).float().softmax(-1)


def answer_of(model: FusedModel, features: QueryFeatures, task: str) -> Answer:
    """The model's answer to one query."""
    values = answer_values(model, features, task)[0].cpu().numpy()
    return Answer(heatmap=values) if TASKS[task].kind == "heatmap" else Answer(probabilities=values)
