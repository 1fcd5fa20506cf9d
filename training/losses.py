"""The paper's objective: next-token cross-entropy plus lambda times pixel-wise cross-entropy of the heatmap."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sf_ros.model.fusion import FusedModel


def text_loss(model: FusedModel, visual: Tensor, questions: Sequence[str], labels: Tensor) -> Tensor:
    """Cross-entropy over the full vocabulary of the token behind the prompt; labels (B,) are class indices."""
    logits = model.next_token_logits(visual, questions)
    targets = torch.stack(
        [model.answer_ids[name][label] for name, label in zip(questions, labels.tolist(), strict=True)]
    )
    return F.cross_entropy(logits.float(), targets.to(logits.device))


def heatmap_loss(model: FusedModel, visual: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy over the cells; targets (B, size, size) in 0..1."""
    return F.binary_cross_entropy_with_logits(model.heatmap_logits(visual).float(), targets)
