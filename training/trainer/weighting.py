"""Questions weigh as much as they are certain (Kendall et al. 2018, "Multi-task learning using uncertainty")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class UncertaintyWeights(nn.Module):
    """A learned log-variance s per question: its loss L becomes exp(-s) L + s / 2, which is least at s = log(2 L)."""

    def __init__(self, questions: Sequence[str]) -> None:
        super().__init__()
        self.questions = tuple(questions)
        self.log_variances = nn.Parameter(torch.zeros(len(self.questions)))

    def forward(self, losses: Mapping[str, Tensor], shares: Mapping[str, float]) -> dict[str, Tensor]:
        """Parts of a batch's loss by question, and the share of samples that each question has in the batch."""
        weighed = {}
        for name, loss in losses.items():
            log_variance = self.log_variances[self.questions.index(name)]
            weighed[name] = torch.exp(-log_variance) * loss + shares[name] * log_variance / 2
        return weighed

    def to_dict(self) -> dict[str, float]:
        """Question -> log-variance."""
        return dict(zip(self.questions, self.log_variances.tolist(), strict=True))
