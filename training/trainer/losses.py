"""The paper's objective: next-token cross-entropy plus lambda times pixel-wise cross-entropy of the heatmap."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sf_ros.model.fusion import FusedModel


def text_losses(
    model: FusedModel,
    visual: Tensor,
    questions: Sequence[str],
    labels: Tensor,
    moments: Sequence[int] | None = None,
) -> Tensor:
    """Cross-entropy over the full vocabulary of the token behind each sequence (B,); labels (B,) are class indices.

    A sample is one row of the visual tokens or, with `moments` (B,), that many, whose logits are averaged.
    """
    counts = [1] * len(questions) if moments is None else list(moments)
    rows = [name for name, count in zip(questions, counts, strict=True) for _ in range(count)]
    logits = model.next_token_logits(visual, rows).float()
    if len(rows) > len(counts):
        logits = torch.stack([part.mean(0) for part in logits.split(counts)])
    targets = torch.stack(
        [model.answer_ids[name][label] for name, label in zip(questions, labels.tolist(), strict=True)]
    )
    return F.cross_entropy(logits, targets.to(logits.device), reduction="none")


def text_loss(model: FusedModel, visual: Tensor, questions: Sequence[str], labels: Tensor) -> Tensor:
    """The mean of text_losses."""
    return text_losses(model, visual, questions, labels).mean()


def by_question(losses: Tensor, questions: Sequence[str]) -> dict[str, Tensor]:
    """Each question's part of the mean of a batch's losses (B,); the parts sum to it."""
    return {
        question: losses[[place for place, name in enumerate(questions) if name == question]].sum() / len(questions)
        for question in dict.fromkeys(questions)
    }


def heatmap_loss(model: FusedModel, visual: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy over the cells; targets (B, size, size) in 0..1."""
    return F.binary_cross_entropy_with_logits(model.heatmap_logits(visual).float(), targets)
