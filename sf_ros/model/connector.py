"""From patch features to the language body's tokens (paper section 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Connector(nn.Module):
    """A three-layer ReLU MLP, token by token, and the learned vector that marks boxed patches before it."""

    def __init__(self, dim_in: int, hidden: int, dim_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim_in, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, dim_out)
        )
        # At the scale of the features: a faint mark is learned too late, and gaze then never asks whose head is marked.
        self.box_embedding = nn.Parameter(torch.randn(dim_in))

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, N, dim_in) and a box mask (B, N), True where a patch is boxed -> tokens (B, N, dim_out)."""
        if mask is not None:
            features = features + mask.unsqueeze(-1).to(features.dtype) * self.box_embedding
        return self.layers(features)

    def banks(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Plain and marked tokens: any box mask is then a choice between the two, token by token."""
        return self.layers(features), self.layers(features + self.box_embedding)
