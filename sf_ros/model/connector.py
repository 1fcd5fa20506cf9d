"""Patch features and boxes -> input tokens of the LLM (paper section 3.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FREQUENCIES = 8  # of a coordinate's Fourier features: half a turn up to 64 turns across the image


class Connector(nn.Module):
    """A three-layer ReLU MLP on each token, and the learned vector added to boxed patches before it.

    `marks=False`: no such vector, for models whose boxes are separate tokens; box masks are ignored.
    """

    def __init__(self, dim_in: int, hidden: int, dim_out: int, *, marks: bool = True) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim_in, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, dim_out)
        )
        # As large as the features: a small vector is learned too late, and gaze then ignores whose head is marked.
        self.box_embedding = nn.Parameter(torch.randn(dim_in)) if marks else None

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, N, dim_in) and a box mask (B, N), True on boxed patches -> tokens (B, N, dim_out)."""
        if mask is not None and self.box_embedding is not None:
            features = features + mask.unsqueeze(-1).to(features.dtype) * self.box_embedding
        return self.layers(features)

    def plain_and_marked(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, N, dim_in) -> tokens with no patch boxed (B, N, dim_out); the first image's with all boxed.

        Tokens under any box mask are a patch-by-patch choice between the two.
        """
        plain: Tensor = self(features)
        if self.box_embedding is None:
            return plain, plain[:1]
        everywhere = torch.ones(1, features.shape[1], dtype=torch.bool, device=features.device)
        return plain, self(features[:1], everywhere)


def pool(tokens: Tensor, size: int) -> Tensor:
    """Tokens (..., grid * grid, D) in raster order -> means of size x size neighbours (..., (grid // size)^2, D).

    Pooling follows the connector, so that the connector's weights and its plain and marked tokens do not depend on it.
    """
    return tokens if size == 1 else _cells(tokens, size).mean((-4, -2)).flatten(-3, -2)


def thinned(tokens: Tensor, size: int, *, shuffled: bool) -> Tensor:
    """As `pool`, but one of each size x size neighbours, chosen at random: a control for pooling.

    `shuffled`: chosen anew for every image and call; else alike for all, so that answers do not depend on the batch.
    """
    cells = _cells(tokens, size).movedim(-4, -3).flatten(-3, -2)  # (..., rows, columns, size * size, D)
    generator = None if shuffled else torch.Generator(tokens.device).manual_seed(0)
    drawn = cells.shape[:-2] if shuffled else cells.shape[-4:-2]
    chosen = torch.randint(size * size, (*drawn, 1, 1), generator=generator, device=tokens.device)
    return cells.take_along_dim(chosen.expand(*cells.shape[:-2], 1, 1), -2).squeeze(-2).flatten(-3, -2)


def _cells(tokens: Tensor, size: int) -> Tensor:
    """Tokens (..., grid * grid, D) -> (..., rows, size, columns, size, D) of cells of size x size."""
    coarse = math.isqrt(tokens.shape[-2]) // size
    return tokens.unflatten(-2, (coarse, size, coarse, size))


class BoxTokens(nn.Module):
    """One token per box: Fourier features of its corners (Tancik et al. 2020), then a two-layer ReLU MLP."""

    frequencies: Tensor

    def __init__(self, dim_out: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8 * FREQUENCIES, dim_out), nn.ReLU(), nn.Linear(dim_out, dim_out))
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(FREQUENCIES), persistent=False)

    def forward(self, boxes: Tensor) -> Tensor:
        """Corners x1, y1, x2, y2 in 0..1 (B, K, 4), zeros for a box outside the image -> tokens (B, K, dim_out)."""
        return self.layers(self.features(boxes).to(next(self.layers.parameters()).dtype))

    def features(self, boxes: Tensor) -> Tensor:
        """Sines, then cosines (B, K, 8 * FREQUENCIES) of the four corners, in float32."""
        angles = (boxes.unsqueeze(-1) * self.frequencies).flatten(-2)  # (B, K, 4 * FREQUENCIES)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)
