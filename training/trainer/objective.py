"""The objective of a training step (paper section 3.4).

Next-token cross-entropy of label tasks; lambda times pixel-wise binary cross-entropy of gaze heatmaps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from sf_ros.core.cues import TASKS
from sf_ros.model.fusion import FusedModel, QueryFeatures, States
from training.config import TrainConfig
from training.data.cache import frozen_features
from training.data.inputs import Batch, Views
from training.trainer.weighting import UncertaintyWeights

Losses = Mapping[str, Tensor]  # name -> scalar; the sum is minimised


def joint_losses(
    model: FusedModel, batch: Batch, config: TrainConfig, weights: UncertaintyWeights | None = None
) -> Losses:
    """The losses of one batch: 'gaze', and 'text', which PCGrad and uncertainty weighting need by task.

    Where a batch has both, each is weighted by its share of the samples, as when they have batches of their own.
    """
    features = query_features(model, batch)
    states = model.states(features, batch.row_tasks)
    count = len(batch.tasks)
    losses: dict[str, Tensor] = {}
    if batch.targets is not None:
        share = len(batch.targets) / count
        losses["gaze"] = share * config.heatmap_weight * heatmap_loss(model, states, batch, config.teacher_weight)
    labelled = [task for task in batch.tasks if TASKS[task].kind == "label"]
    if labelled:
        samples = label_losses(model, states, batch, config.teacher_weight, config.teacher_temperature)
        if any(isinstance(part, FSDPModule) for part in model.llm.modules()):
            idle = batch.llm_runs - len(set(batch.tasks))
            samples = samples + _idle_runs(model, features.rows([0]), batch.tasks[0], idle)
        if config.pcgrad or config.uncertainty:
            losses |= mean_by_task(samples, labelled, count)
        else:
            losses["text"] = samples.sum() / count
    if weights is None:
        return losses
    return weights(losses, {task: number / count for task, number in Counter(batch.tasks).items()})


def query_features(model: FusedModel, batch: Batch) -> QueryFeatures:
    """The features of a batch's views on the model's device; the encoder runs unless they were cached."""
    device = next(model.parameters()).device

    def features(views: Views | None) -> Tensor | None:
        if views is None:
            return None
        if views.features is not None:
            return views.features.to(device, torch.float32)
        assert views.images is not None
        return frozen_features(model.encode, views.images.to(device)).to(torch.float32)

    return QueryFeatures(
        features(batch.frames),
        features(batch.crops),
        batch.frame_of,
        batch.crop_of,
        batch.masks.to(device),
        batch.boxes.to(device),
    )


def label_losses(
    model: FusedModel, states: States, batch: Batch, teacher_weight: float = 0.0, temperature: float = 1.0
) -> Tensor:
    """Cross-entropy of the samples of label tasks, over the whole vocabulary of the token after each sequence.

    A sample has as many rows as moments, whose logits are averaged. Where a teacher has answered, its answer takes
    `teacher_weight` of the loss, or all of it where a sample has no label.
    """
    kinds = [TASKS[task].kind for task in batch.row_tasks]
    logits = model.next_token_logits(states, [row for row, kind in enumerate(kinds) if kind == "label"]).float()
    samples = [
        (task, label, moments)
        for task, label, moments in zip(batch.tasks, batch.labels.tolist(), batch.moments, strict=True)
        if TASKS[task].kind == "label"
    ]
    if len(logits) > len(samples):
        logits = torch.stack([part.mean(0) for part in logits.split([moments for _, _, moments in samples])])
    targets = torch.stack([model.answer_ids[task][label] for task, label, _ in samples])
    losses = F.cross_entropy(logits, targets.to(logits.device), reduction="none")
    if not batch.taught:
        return losses
    answers = [answer for task, answer in zip(batch.tasks, batch.taught, strict=True) if TASKS[task].kind == "label"]
    for row, ((task, label, _), answer) in enumerate(zip(samples, answers, strict=True)):
        if answer is not None:
            weight = teacher_weight if label >= 0 else 1.0
            ids = model.answer_ids[task].to(logits.device)
            lesson = taught_loss(logits[row, ids], torch.from_numpy(answer).to(logits.device), temperature)
            share = F.one_hot(torch.tensor(row, device=logits.device), len(losses)) * weight
            losses = losses * (1 - share) + lesson * share
    return losses


def taught_loss(logits: Tensor, probabilities: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of a teacher's and the student's probabilities, both softened, in the scale of hard labels.

    (L,) each -> scalar; times the temperature's square, which keeps the size of gradients (Hinton et al. 2015).
    """
    softened = (probabilities.clamp(min=1e-6).log() / temperature).softmax(-1)
    return -(softened * (logits / temperature).log_softmax(-1)).sum() * temperature**2


def heatmap_loss(model: FusedModel, states: States, batch: Batch, teacher_weight: float = 0.0) -> Tensor:
    """Mean binary cross-entropy over the cells of the gaze samples; a teacher's heatmaps are mixed into the targets."""
    assert batch.targets is not None
    rows = [row for row, task in enumerate(batch.row_tasks) if TASKS[task].kind == "heatmap"]
    logits = model.heatmap(states.visual, states.last[rows]).float()
    targets = batch.targets
    if batch.taught:
        of_all = zip(batch.tasks, batch.taught, strict=True)
        answers = [answer for task, answer in of_all if TASKS[task].kind == "heatmap"]
        pairs = zip(batch.targets, answers, strict=True)
        targets = torch.stack([_taught_heatmap(target, answer, teacher_weight) for target, answer in pairs])
    return F.binary_cross_entropy_with_logits(logits, targets.to(logits.device))


def _taught_heatmap(target: Tensor, answer: np.ndarray | None, teacher_weight: float) -> Tensor:
    """A target (size, size) mixed with a teacher's heatmap, if there is one; an empty target takes all of it."""
    if answer is None:
        return target
    weight = teacher_weight if target.any() else 1.0  # without an annotated point the target is empty
    return (1 - weight) * target + weight * torch.from_numpy(answer)


def mean_by_task(losses: Tensor, tasks: Sequence[str], count: int) -> dict[str, Tensor]:
    """Each task's part of the mean over a batch of `count` samples, from the losses (b,) of those of label tasks."""
    return {
        task: losses[[index for index, name in enumerate(tasks) if name == task]].sum() / count
        for task in dict.fromkeys(tasks)
    }


def _idle_runs(model: FusedModel, query: QueryFeatures, task: str, count: int) -> Tensor:
    """Zero, through `count` runs of the LLM with a query of a task.

    Each task is one run, and processes that share sharded weights gather them in every run, forward and backward: a
    process whose part of a batch has fewer tasks than another's must still take part.
    """
    runs = [model.states(query, [task]).last.sum() for _ in range(count)]
    return 0.0 * torch.stack(runs).sum() if runs else torch.zeros((), device=query.masks.device)
