"""The trained parts around the LLM: learned prompts in front of an answer, and the heatmap head behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sf_ros.core.config import ModelConfig

PROMPT_SCALE = 0.02  # standard deviation of fresh learned prompts: that of fresh Llama embeddings


class LearnedPrompts(nn.Module):
    """A few learned vectors per task in place of its text (Lester et al. 2021)."""

    def __init__(self, tasks: Sequence[str], config: ModelConfig) -> None:
        super().__init__()
        shape = config.learned_prompts, config.llm.dim
        self.vectors = nn.ParameterDict({name: nn.Parameter(PROMPT_SCALE * torch.randn(shape)) for name in tasks})

    def forward(self, task: str) -> Tensor:
        """A task's vectors (T, D)."""
        return self.vectors[task]


class HeatmapHead(nn.Module):
    """Visual states -> gaze logits: a linear layer, a transposed convolution, bilinear resizing to the heatmap's size.

    With box tokens the visual states do not depend on the box, so each channel is multiplied by that of a query, a
    linear function of the box token's state.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.grid, self.size = config.visual_grid, config.heatmap_size
        self.project = nn.Linear(config.llm.dim, config.heatmap_channels)
        self.query = nn.Linear(config.llm.dim, config.heatmap_channels) if config.boxes == "token" else None
        scale = 2 * config.pooling  # four cells per patch, also where patches were pooled
        self.upscale = nn.ConvTranspose2d(config.heatmap_channels, 1, kernel_size=scale, stride=scale)
        # Initial probability: the share of cells a target fills, instead of one half (Lin et al. 2017, section 4.1).
        share = 2 * math.pi * config.heatmap_sigma**2 / config.heatmap_size**2
        nn.init.constant_(cast(Tensor, self.upscale.bias), -math.log(1 / share - 1))

    def forward(self, states: Tensor, last: Tensor) -> Tensor:
        """Visual states (B, grid^2, D) and the sequence's last state (B, D) -> (B, size, size)."""
        x = self.project(states)  # (B, grid^2, channels)
        if self.query is not None:
            x = x * self.query(last)[:, None]
        x = x.transpose(1, 2).unflatten(2, (self.grid, self.grid))  # (B, channels, grid, grid)
        x = self.upscale(x).float()  # (B, 1, 2 * patches on a side, 2 * patches on a side)
        return F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False).squeeze(1)
