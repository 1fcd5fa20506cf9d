"""A linear layer on pooled frozen features (paper section 3.3, which does not say how it pools)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sf_ros.core.cues import TASKS
from training.data.columns import CachedData

Probe = TypeVar("Probe", bound=nn.Module)
CHUNK = 256  # samples whose features are in memory at once
BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 256, 1e-3, 1e-4


def pooled(data: CachedData) -> Tensor:
    """Pooled features of a whole dataset (N, F), with masks for tasks that mark boxes (see `pool`)."""
    assert data.features is not None
    marks = bool(TASKS[data.task].boxes)
    chunks = []
    for first in range(0, len(data), CHUNK):
        features = torch.from_numpy(np.asarray(data.features[first : first + CHUNK], np.float32))
        masks = torch.from_numpy(data.masks[first : first + CHUNK])
        chunks.append(pool(features, masks if marks else None))
    return torch.cat(chunks)


def pool(features: Tensor, masks: Tensor | None) -> Tensor:
    """Mean of features (B, P, dim) over patches (B, dim); with masks (B, P) also over marked patches (B, 2 dim)."""
    whole = features.mean(1)
    if masks is None:
        return whole
    weights = masks.float() / masks.sum(1, keepdim=True).clamp(min=1)
    return torch.cat([whole, (weights.unsqueeze(1) @ features).squeeze(1)], 1)


@dataclass(frozen=True)
class Fitted(Generic[Probe]):
    """The probe with the lowest validation loss, and the number of epochs that were run."""

    layer: Probe
    epochs: int


def fit(
    probe: Probe,
    loss: Callable[[Tensor], Tensor],
    held_out_loss: Callable[[], Tensor],
    samples: int,
    generator: torch.Generator,
    *,
    epochs: int,
    patience: int,
) -> Fitted[Probe]:
    """Fit by AdamW until `patience` epochs bring no lower held-out loss; returns a copy of the best probe.

    `loss` is that of a batch, given the numbers of its samples; `generator` shuffles them.
    """
    optimizer = torch.optim.AdamW(probe.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    best, lowest, last_better, number = copy.deepcopy(probe), float("inf"), 0, 0
    for number in range(1, epochs + 1):
        for rows in torch.randperm(samples, generator=generator).split(BATCH_SIZE):
            optimizer.zero_grad()
            loss(rows).backward()
            optimizer.step()
        with torch.no_grad():
            held_out = float(held_out_loss())
        if held_out < lowest:
            best, lowest, last_better = copy.deepcopy(probe), held_out, number
        if number - last_better >= patience:
            break
    return Fitted(best, number)


def fit_probe(
    training: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    classes: int,
    *,
    seed: int,
    epochs: int,
    patience: int,
) -> Fitted[nn.Linear]:
    """Fit a linear layer to inputs (N, F) and labels (N,) on cross-entropy, with early stopping.

    Inputs are standardised by the training set's mean and deviation, which are folded into the returned layer.
    """
    generator = torch.Generator().manual_seed(seed)
    mean, deviation = training[0].mean(0), training[0].std(0).clamp(min=1e-6)
    (inputs, labels), (held_out, truth) = (((x - mean) / deviation, y) for x, y in (training, validation))
    layer = nn.Linear(inputs.shape[1], classes)
    nn.init.normal_(layer.weight, std=0.01, generator=generator)
    nn.init.zeros_(layer.bias)
    fitted = fit(
        layer,
        lambda rows: F.cross_entropy(layer(inputs[rows]), labels[rows]),
        lambda: F.cross_entropy(layer(held_out), truth),
        len(inputs),
        generator,
        epochs=epochs,
        patience=patience,
    )
    with torch.no_grad():
        fitted.layer.weight.div_(deviation)
        fitted.layer.bias.sub_(fitted.layer.weight @ mean)
    return fitted
