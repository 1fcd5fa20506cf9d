"""A learned query that pools frozen features, and a linear layer behind it: what a probe finds that may look.

The mean of all patches (training.studies.probing.linear) hides what is small in the picture; this probe learns where to look,
and stays linear in what it sees there. Features are read from disk batch by batch: they are too many for memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from torch import Tensor, nn

from sf_ros.core.tasks import TASKS
from training.studies.probing.linear import CHUNK, Fitted, best_of
from training.trainer.objective import CachedData


class AttentiveProbe(nn.Module):
    """Softmax pooling by one query and, where boxes are marked, by a second one over the marked patches alone."""

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, mean: Tensor, deviation: Tensor, classes: int, *, marks: bool, generator: torch.Generator
    ) -> None:
        """Features are standardised by `mean` and `deviation` (dim,) of the training set."""
        super().__init__()
        queries = 2 if marks else 1
        self.queries = nn.Parameter(torch.zeros(queries, len(mean)))  # so that it starts as the mean
        self.layer = nn.Linear(queries * len(mean), classes)
        nn.init.normal_(self.layer.weight, std=0.01, generator=generator)
        nn.init.zeros_(self.layer.bias)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, features: Tensor, masks: Tensor) -> Tensor:
        """Features (B, P, dim) and marked patches (B, P) bool, which mean nothing without marks -> logits (B, L)."""
        features = (features - self.mean) / self.deviation
        scores = (features @ self.queries.T).transpose(1, 2) / features.shape[-1] ** 0.5  # (B, queries, P)
        if len(self.queries) > 1:
            visible = torch.stack([torch.ones_like(masks), masks], 1)
            scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
        return self.layer((scores.softmax(-1) @ features).flatten(1))


def fit_attentive(
    training: CachedData,
    validation: CachedData,
    classes: int,
    *,
    seed: int,
    epochs: int,
    patience: int,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
) -> Fitted[AttentiveProbe]:
    """As fit_probe, on the features themselves."""
    generator = torch.Generator().manual_seed(seed)
    marks = bool(TASKS[training.views.task].boxes)
    probe = AttentiveProbe(*moments(training), classes, marks=marks, generator=generator)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=learning_rate, weight_decay=weight_decay)
    labels = torch.from_numpy(np.asarray(training.views.labels))

    def epoch() -> None:
        for batch in torch.randperm(len(training), generator=generator).split(batch_size):
            rows = batch.sort().values
            optimizer.zero_grad()
            F.cross_entropy(probe(*inputs(training, rows.numpy())), labels[rows]).backward()
            optimizer.step()

    def held_out_loss() -> float:
        truth = torch.from_numpy(np.asarray(validation.views.labels))
        return float(F.cross_entropy(logits(probe, validation), truth))

    return best_of(probe, epoch, held_out_loss, epochs=epochs, patience=patience)


def inputs(data: CachedData, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Features (B, P, dim) float32 and masks (B, P) of rows in ascending order."""
    assert data.features is not None
    features = torch.from_numpy(np.asarray(data.features[rows], np.float32))
    return features, torch.from_numpy(data.views.masks[rows])


@torch.no_grad()
def logits(probe: AttentiveProbe, data: CachedData) -> Tensor:
    """Of a whole set (N, L)."""
    return torch.cat([probe(*inputs(data, rows)) for rows in chunks(data)])


def moments(data: CachedData) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel over all patches of a set (dim,) each."""
    total, squares, count = torch.zeros(()), torch.zeros(()), 0
    for rows in track(list(chunks(data)), description=f"moments of {data.views.task}"):
        features = inputs(data, rows)[0].double().flatten(0, 1)
        total, squares, count = total + features.sum(0), squares + features.square().sum(0), count + len(features)
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp(min=1e-12).sqrt().float()


def chunks(data: CachedData) -> Iterator[np.ndarray]:
    """Rows of a set, as many at once as memory takes."""
    return (np.arange(first, min(first + CHUNK, len(data))) for first in range(0, len(data), CHUNK))
