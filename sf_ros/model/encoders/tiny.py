"""The default encoder, small enough to train on a CPU."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sf_ros.core.config import EncoderConfig
from sf_ros.model.encoders.weights import resampled


class TinyEncoder(nn.Module):
    """A convolutional stem down to the patch grid, then a small transformer.

    A convolutional stem learns from thousands of images, a patch projection from millions (Xiao et al. 2021, "Early
    convolutions help transformers see better").
    """

    position_table: ClassVar[str] = "positions"

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        if config.patch_size != 12:
            raise ValueError(f"The tiny encoder's stem divides by 12; patch_size is {config.patch_size}.")
        if config.layers != (-1,):
            raise ValueError(f"The tiny encoder has its last hidden state only; layers is {config.layers}.")
        self.config = config
        self.stem = nn.Sequential(
            _convolution(3, 32, 3, 2),
            _convolution(32, 32, 3, 1),
            _convolution(32, 64, 3, 2),
            _convolution(64, 64, 3, 1),
            _convolution(64, 64, 3, 1),
            _convolution(64, config.dim, 3, 3),
        )
        self.positions = nn.Parameter(torch.randn(1, config.grid**2, config.dim) * 0.02)
        self.blocks = nn.ModuleList(Block(config.dim, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)  # (B, dim, grid, grid)
        positions: Tensor = self.positions
        if x.shape[-1] != self.config.grid:  # pre-training sees crops of another size, too
            positions = resampled(positions, self.config.resized(images.shape[-1]))
        x = x.flatten(2).transpose(1, 2) + positions  # (B, grid^2, dim)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Block(nn.Module):
    """A pre-norm transformer layer with full attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        # Written out: for 144 tokens on a CPU a compiled softmax trains 2.5 times faster than the fused kernel.
        weights = (qkv[0] * (dim // self.heads) ** -0.5 @ qkv[1].transpose(-1, -2)).softmax(-1)  # (B, heads, N, N)
        attended = weights.to(qkv.dtype) @ qkv[2]  # (B, heads, N, dim / heads)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, dim))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    padding = 0 if kernel == stride else kernel // 2
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
