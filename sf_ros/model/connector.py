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


def box_shares(boxes: Tensor, grid: int) -> Tensor:
    """The share of each box's area that lies in each cell of a grid: (B, K, 4) -> (B, K, grid^2), float32.

    Corners x1, y1, x2, y2 in 0..1. The shares of a box sum to 1, those of an empty box to 0.
    """
    edges = torch.arange(grid + 1, device=boxes.device) / grid
    low, high = boxes.float().unsqueeze(-1).split(2, dim=-2)  # (B, K, 2, 1) each
    along = (torch.minimum(high, edges[1:]) - torch.maximum(low, edges[:-1])).clamp(min=0)  # (B, K, 2, grid)
    areas = (along[..., 1, :, None] * along[..., 0, None, :]).flatten(-2)
    return areas / areas.sum(-1, keepdim=True).clamp(min=torch.finfo(areas.dtype).tiny)


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
    """One token per box: where it is, and what it shows.

    The first is a two-layer ReLU MLP on Fourier features of its corners (Tancik et al. 2020), the second linear on the
    mean of the visual tokens in the box. Without the second, the LLM has to learn which tokens lie in a box, and gaze
    stays near chance for thousands of steps.
    """

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8 * FREQUENCIES, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.content = nn.Linear(dim, dim)
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(FREQUENCIES), persistent=False)

    def forward(self, boxes: Tensor, visual: Tensor) -> Tensor:
        """Corners x1, y1, x2, y2 in 0..1 (B, K, 4), zeros for a box outside the image -> tokens (B, K, dim).

        visual: the frame's tokens in raster order (B, N, dim), or (1, N, dim) for boxes in one frame.
        """
        dtype = next(self.layers.parameters()).dtype
        shown = box_shares(boxes, math.isqrt(visual.shape[-2])).to(visual.dtype) @ visual
        return self.layers(self.features(boxes).to(dtype)) + self.content(shown.to(dtype))

    def features(self, boxes: Tensor) -> Tensor:
        """Sines, then cosines (B, K, 8 * FREQUENCIES) of the four corners, in float32."""
        angles = (boxes.unsqueeze(-1) * self.frequencies).flatten(-2)  # (B, K, 4 * FREQUENCIES)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)
