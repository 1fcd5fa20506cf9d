"""A probe that pools frozen features by a learned query, followed by a linear layer.

The mean of all patches (training.studies.measures.linear_probe) hides small objects; this probe learns the weights of
the patches and is linear in the pooled features. Features are read from disk in batches, since they exceed memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor, nn

from sf_ros.core.cues import TASKS
from training.data.columns import CachedData
from training.studies.measures.linear_probe import CHUNK, Fitted, fit


class AttentiveProbe(nn.Module):
    """Softmax pooling by one query over all patches and, with marked boxes, a second one over the marked patches."""

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, mean: Tensor, deviation: Tensor, classes: int, *, marks: bool, generator: torch.Generator
    ) -> None:
        """`mean` and `deviation` (dim,) of the training set standardise the features."""
        super().__init__()
        queries = 2 if marks else 1
        self.queries = nn.Parameter(torch.zeros(queries, len(mean)))  # starts as the mean of the patches
        self.layer = nn.Linear(queries * len(mean), classes)
        nn.init.normal_(self.layer.weight, std=0.01, generator=generator)
        nn.init.zeros_(self.layer.bias)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """Logits (B, L) of features (B, P, dim); `masks` (B, P) bool are ignored without a second query."""
        features = (features - self.mean) / self.deviation
        scores = (features @ self.queries.T).transpose(1, 2) / features.shape[-1] ** 0.5  # (B, queries, P)
        if len(self.queries) > 1:
            visible = torch.stack([torch.ones_like(masks), masks], 1)
            scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
        return self.layer((scores.softmax(-1) @ features).flatten(1))


def fit_attentive(
    training: CachedData, validation: CachedData, classes: int, *, seed: int, epochs: int, patience: int
) -> Fitted[AttentiveProbe]:
    """Fit an attentive probe like fit_probe."""
    generator = torch.Generator().manual_seed(seed)
    marks = bool(TASKS[training.task].boxes)
    probe = AttentiveProbe(*moments(training), classes, marks=marks, generator=generator)
    labels, truth = (torch.from_numpy(np.asarray(data.labels)) for data in (training, validation))

    def loss(rows: Tensor) -> Tensor:
        ascending = rows.sort().values
        return F.cross_entropy(probe(*inputs(training, ascending.numpy())), labels[ascending])

    return fit(
        probe,
        loss,
        lambda: F.cross_entropy(attentive_logits(probe, validation), truth),
        len(training),
        generator,
        epochs=epochs,
        patience=patience,
    )


def inputs(data: CachedData, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Features (B, P, dim) float32 and masks (B, P) of rows, which must be in ascending order."""
    assert data.features is not None
    features = torch.from_numpy(np.asarray(data.features[rows], np.float32))
    return features, torch.from_numpy(data.masks[rows])


@torch.no_grad()
def attentive_logits(probe: AttentiveProbe, data: CachedData) -> Tensor:
    """Logits of a whole dataset (N, L)."""
    return torch.cat([probe(*inputs(data, rows)) for rows in chunks(data)])


def moments(data: CachedData) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (dim,) of every channel over all patches of a dataset."""
    total, squares, count = torch.zeros(()), torch.zeros(()), 0
    for rows in track(list(chunks(data)), description=f"moments of {data.task}"):
        features = inputs(data, rows)[0].double().flatten(0, 1)
        total, squares, count = total + features.sum(0), squares + features.square().sum(0), count + len(features)
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp(min=1e-12).sqrt().float()


def chunks(data: CachedData) -> Iterator[np.ndarray]:
    """Rows of a dataset in chunks that fit into memory."""
    return (np.arange(first, min(first + CHUNK, len(data))) for first in range(0, len(data), CHUNK))
