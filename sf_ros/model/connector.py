"""From patch features and boxes to the LLM's tokens (paper section 3.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FREQUENCIES = 8  # of a coordinate's Fourier features: from half a turn across the picture to 64 turns


class Connector(nn.Module):
    """A three-layer ReLU MLP, token by token, and the learned vector that marks boxed patches before it.

    `marks=False`: no such vector, for boxes that are tokens of their own; masks then mean nothing.
    """

    def __init__(self, dim_in: int, hidden: int, dim_out: int, *, marks: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim_in, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, dim_out)
        )
        # At the scale of the features: a faint mark is learned too late, and gaze then never asks whose head is marked.
        self.box_embedding = nn.Parameter(torch.randn(dim_in)) if marks else None

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, N, dim_in) and a box mask (B, N), True where a patch is boxed -> tokens (B, N, dim_out)."""
        if mask is not None and self.box_embedding is not None:
            features = features + mask.unsqueeze(-1).to(features.dtype) * self.box_embedding
        return self.layers(features)

    def banks(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, N, dim_in) -> tokens with no patch boxed (B, N, dim_out), and the first picture's with all."""
        plain: Tensor = self(features)
        if self.box_embedding is None:
            return plain, plain[:1]
        everywhere = torch.ones(1, features.shape[1], dtype=torch.bool, device=features.device)
        return plain, self(features[:1], everywhere)


def pool(tokens: Tensor, grid: int, size: int) -> Tensor:
    """Tokens (..., grid * grid, D) in raster order -> means of size x size neighbours (..., (grid // size)^2, D).

    The mean is taken behind the connector, so that a boxed sequence stays a choice between two banks (joining four
    features before it would make sixteen) and the connector's weights do not depend on the pooling.
    """
    if size == 1:
        return tokens
    coarse = grid // size
    return tokens.unflatten(-2, (coarse, size, coarse, size)).mean((-4, -2)).flatten(-3, -2)


class BoxTokens(nn.Module):
    """One token per box: Fourier features of its corners (Tancik et al. 2020), then a two-layer ReLU MLP."""

    frequencies: Tensor

    def __init__(self, dim_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8 * FREQUENCIES, dim_out), nn.ReLU(), nn.Linear(dim_out, dim_out))
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(FREQUENCIES), persistent=False)

    def forward(self, boxes: Tensor) -> Tensor:
        """Corners x1, y1, x2, y2 in 0..1 (B, K, 4), zeros for a box outside the picture -> tokens (B, K, dim_out)."""
        return self.layers(self.features(boxes).to(next(self.layers.parameters()).dtype))

    def features(self, boxes: Tensor) -> Tensor:
        """Sines, then cosines (B, K, 8 * FREQUENCIES) of the four corners, in float32."""
        angles = (boxes.unsqueeze(-1) * self.frequencies).flatten(-2)  # (B, K, 4 * FREQUENCIES)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)
