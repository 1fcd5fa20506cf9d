"""The tower inside Qwen2-VL (Wang et al. 2024), before its merger: one feature per patch of 14 px.

transformers' class takes images as flat lists of patches in 2x2 blocks and loops over images. Attention is
equivariant to the order of tokens as long as each keeps its position, so this module computes the same in raster order,
for whole batches, with the published weight names; a test compares the two.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sf_ros.core.config import EncoderConfig
from sf_ros.model.encoders.layout import Layout, Rule
from sf_ros.model.encoders.tower import Tower, mlp_size

FRAMES = 2  # a patch spans two video frames; a still image is used for both
THETA = 10_000.0  # base of the rotary position embedding

# The merger, which joins 2x2 patches into one token, belongs to the LLM.
QWEN2_VL = Layout(
    "qwen2-vl",
    prefixes=("visual.", "model.visual.", ""),
    marker="patch_embed.proj.weight",
    rules=(Rule(r"merger\..+"), Rule(r"(.+)", (r"\1",))),
)


class Qwen2VlEncoder(Tower):
    """Qwen2-VL's tower at a fixed image size. ValueError when that is not a multiple of two patches."""

    layouts: ClassVar[tuple[Layout, ...]] = (QWEN2_VL,)
    class_tokens: ClassVar[int] = 0

    def __init__(self, config: EncoderConfig) -> None:
        if config.grid % 2:
            raise ValueError(
                f"Qwen2-VL needs 2x2 blocks of patches: image_size {config.image_size} must be a multiple of "
                f"{2 * config.patch_size}."
            )
        super().__init__(config, RotaryTower(config))

    def states(self, images: Tensor) -> list[Tensor]:
        states = self.tower(images)
        return [states[layer] for layer in self.config.layers]

    def config_fields(self) -> dict[str, object]:
        return {
            "num_heads": self.config.heads,
            "patch_size": self.config.patch_size,
            "hidden_act": "quick_gelu",
            "temporal_patch_size": FRAMES,
            "spatial_merge_size": 2,
        }


class RotaryTower(nn.Module):
    """Pre-norm blocks over patches with 2-D rotary positions: images (B, 3, S, S) -> all hidden states (B, N, D)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv3d(3, config.width, kernel_size=(FRAMES, config.patch_size, config.patch_size), bias=False)}
        )
        self.blocks = nn.ModuleList(RotaryBlock(config) for _ in range(config.depth))
        cos, sin = rotary(config.grid, config.width // config.heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        weight = self.patch_embed["proj"].weight.sum(2)  # both frames are the same image
        x = F.conv2d(images.to(weight.dtype), weight, stride=weight.shape[-1]).flatten(2).transpose(1, 2)  # (B, N, D)
        states = [x]
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
            states.append(x)
        return states


class RotaryBlock(nn.Module):
    """A pre-norm layer with full attention and an MLP, rotary positions on queries and keys."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, hidden = config.width, mlp_size(config)
        self.heads = config.heads
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, hidden), "fc2": nn.Linear(hidden, width)})

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        qkv = self.attn["qkv"](self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = rotated(qkv[0], cos, sin), rotated(qkv[1], cos, sin)  # (B, heads, N, D / heads)
        attended = F.scaled_dot_product_attention(query, key, qkv[2])
        x = x + self.attn["proj"](attended.transpose(1, 2).flatten(2))
        hidden = self.mlp["fc1"](self.norm2(x))
        return x + self.mlp["fc2"](hidden * torch.sigmoid(1.702 * hidden))  # quick_gelu


def rotary(grid: int, size: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine (grid^2, size) of each channel's rotation angle in a head, patches in raster order.

    The first quarter of the channels depends on the row, the second on the column; the other half repeats them.
    """
    frequencies = THETA ** -(torch.arange(0, size // 2, 2, dtype=torch.float32) / (size // 2))
    steps = torch.arange(grid, dtype=torch.float32)[:, None] * frequencies  # (grid, size / 4)
    angles = torch.cat([steps.repeat_interleave(grid, 0), steps.repeat(grid, 1)], dim=1).repeat(1, 2)
    return angles.cos(), angles.sin()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x with channels i and i + size / 2 rotated as pairs, computed in float32."""
    left, right = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat([-right, left], dim=-1) * sin).to(x.dtype)
