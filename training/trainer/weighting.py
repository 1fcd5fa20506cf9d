"""Uncertainty weighting of tasks (Kendall et al. 2018, "Multi-task learning using uncertainty")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class UncertaintyWeights(nn.Module):
    """A learned log-variance s per task: its loss L becomes exp(-s) L + s / 2, with the minimum at s = log(2 L)."""

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        self.log_variances = nn.Parameter(torch.zeros(len(self.tasks)))

    def forward(self, losses: Mapping[str, Tensor], shares: Mapping[str, float]) -> dict[str, Tensor]:
        """Weighted losses, from a batch's losses by task and each task's share of the samples."""
        weighted = {}
        for name, loss in losses.items():
            log_variance = self.log_variances[self.tasks.index(name)]
            weighted[name] = torch.exp(-log_variance) * loss + shares[name] * log_variance / 2
        return weighted

    def to_dict(self) -> dict[str, float]:
        """Task -> log-variance."""
        return dict(zip(self.tasks, self.log_variances.tolist(), strict=True))
