"""The objective of a training step (paper section 3.4).

Next-token cross-entropy of label tasks; lambda times pixel-wise binary cross-entropy of gaze heatmaps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from sf_ros.model.fusion import FusedModel
from training.config import TrainConfig
from training.data.cache import frozen_features
from training.data.inputs import Batch
from training.trainer.weighting import UncertaintyWeights

Losses = Mapping[str, Tensor]  # name -> scalar; the sum is minimised


def joint_losses(
    model: FusedModel, batch: Batch, config: TrainConfig, weights: UncertaintyWeights | None = None
) -> Losses:
    """The losses of one batch: 'gaze', or 'text', which PCGrad and uncertainty weighting need by task."""
    visual = visual_tokens(model, batch)
    if batch.targets is not None:
        losses = {"gaze": config.heatmap_weight * heatmap_loss(model, visual, batch.targets.to(visual.device))}
    else:
        samples = label_losses(model, visual, batch.tasks, batch.labels, batch.moments)
        if any(isinstance(part, FSDPModule) for part in model.llm.modules()):
            samples = samples + _idle_runs(model, visual, batch.llm_runs - len(set(batch.tasks)))
        by_task = config.pcgrad or config.uncertainty
        losses = mean_by_task(samples, batch.tasks) if by_task else {"text": samples.mean()}
    if weights is None:
        return losses
    return weights(losses, {task: count / len(batch.tasks) for task, count in Counter(batch.tasks).items()})


def visual_tokens(model: FusedModel, batch: Batch) -> Tensor:
    """The visual tokens (rows, N, D) of a batch, on the model's device."""
    device = next(model.parameters()).device
    features = batch.features
    if features is None:
        assert batch.images is not None
        features = frozen_features(model.encoder, batch.images.to(device))
    return model.visual(features.to(device, torch.float32), batch.masks.to(device), batch.boxes.to(device))


def label_losses(
    model: FusedModel, visual: Tensor, tasks: Sequence[str], labels: Tensor, moments: Sequence[int]
) -> Tensor:
    """Cross-entropy (B,) over the whole vocabulary of the token after each sequence; labels (B,) are class indices.

    A sample has `moments` rows of visual tokens, whose logits are averaged.
    """
    rows = [task for task, count in zip(tasks, moments, strict=True) for _ in range(count)]
    logits = model.next_token_logits(visual, rows).float()
    if len(rows) > len(tasks):
        logits = torch.stack([part.mean(0) for part in logits.split(list(moments))])
    targets = torch.stack([model.answer_ids[task][label] for task, label in zip(tasks, labels.tolist(), strict=True)])
    return F.cross_entropy(logits, targets.to(logits.device), reduction="none")


def heatmap_loss(model: FusedModel, visual: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy over the cells; targets (B, size, size) in 0..1."""
    return F.binary_cross_entropy_with_logits(model.heatmap_logits(visual).float(), targets)


def mean_by_task(losses: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
    """Each task's part of the mean of a batch's losses (B,); the parts add up to it."""
    return {
        task: losses[[index for index, name in enumerate(tasks) if name == task]].sum() / len(tasks)
        for task in dict.fromkeys(tasks)
    }


def _idle_runs(model: FusedModel, visual: Tensor, count: int) -> Tensor:
    """Zero, through `count` runs of the LLM.

    Each task is one run, and processes that share sharded weights gather them in every run, forward and backward: a
    process whose part of a batch has fewer tasks than another's must still take part.
    """
    runs = [model.next_token_logits(visual[:1], model.prompted[:1]).sum() for _ in range(count)]
    return 0.0 * torch.stack(runs).sum() if runs else visual.new_zeros(())
