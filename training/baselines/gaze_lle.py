"""Gaze-LLE (Ryan et al. 2025, arXiv 2412.09586): a small transformer on frozen features finds what a head looks at.

Parameters have the names of the published checkpoints (github.com/fkryan/gazelle), which are saved without backbone, so
their state dicts load strictly into GazeLleHead. The head mask rounds its edges, unlike the fused model's, so a tiny
head may mark nothing. Images are resized by sf_ros.core.views (area averaging); the published transform uses
antialiased bilinear interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sf_ros.core.config import EncoderConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.fields import NotAvailable
from sf_ros.core.gaze import encode
from sf_ros.core.views import normalise, view
from sf_ros.engines.base import Answer
from training.baselines.gaze_augmentation import augment
from training.baselines.interface import check_tasks
from training.data.sample import Sample

BoxNorm = tuple[float, float, float, float]  # left, top, right, bottom in 0..1


@dataclass(frozen=True)
class GazeLleConfig:
    """The published architecture and training (Ryan et al. 2025, sections 3 and 4.1; scripts/train_gazefollow.py)."""

    dim: int = 256  # channels of a token
    layers: int = 3
    heads: int = 8  # attention heads
    drop_path: float = 0.1  # chance that a sample skips a branch of a layer while training
    inout: bool = False  # also predict whether the target is in the image (published for VideoAttentionTarget)
    heatmap_size: int = 64  # cells on a side
    heatmap_sigma: float = 3.0  # of the Gaussian target, in cells
    augment: bool = True  # crop, flip, jitter of the head box, each for half of the samples
    learning_rate: float = 1e-3  # of Adam, without weight decay; cosine decay
    epochs: int = 15
    batch_size: int = 60


class GazeLleHead(nn.Module):
    """The trained part: features (B, N, dim_in) and head boxes -> heatmaps and whether targets are in the image."""

    pos_embed: Tensor

    def __init__(self, dim_in: int, grid: int, config: GazeLleConfig) -> None:
        super().__init__()
        self.config, self.grid, dim = config, grid, config.dim
        self.linear = nn.Conv2d(dim_in, dim, 1)
        self.register_buffer("pos_embed", position_encoding(dim, grid))
        self.transformer = nn.Sequential(*(Block(dim, config.heads, config.drop_path) for _ in range(config.layers)))
        self.heatmap_head = nn.Sequential(
            nn.ConvTranspose2d(dim, dim, kernel_size=2, stride=2), nn.Conv2d(dim, 1, 1, bias=False), nn.Sigmoid()
        )
        self.head_token = nn.Embedding(1, dim)
        if config.inout:
            self.inout_head = nn.Sequential(
                nn.Linear(dim, 128), nn.ReLU(), nn.Dropout(0.1), nn.Linear(128, 1), nn.Sigmoid()
            )
            self.inout_token = nn.Embedding(1, dim)

    def forward(self, features: Tensor, boxes_norm: Sequence[BoxNorm | None]) -> tuple[Tensor, Tensor | None]:
        """Heatmaps (B, size, size) of probabilities, and the in-image probability (B,) or None.

        Features (B, N, dim_in) are in raster order, with B head boxes.
        """
        return self.decode(features, torch.stack([head_mask(box, self.grid) for box in boxes_norm]))

    def decode(self, features: Tensor, masks: Tensor) -> tuple[Tensor, Tensor | None]:
        """As `forward`, of head masks (B, grid, grid) with 1 in the cells of a head."""
        x = self.linear(features.transpose(1, 2).unflatten(2, (self.grid, self.grid))) + self.pos_embed
        x = x + masks.to(x).unsqueeze(1) * self.head_token.weight[..., None, None]
        x = x.flatten(2).transpose(1, 2)  # (B, N, dim)
        if self.config.inout:
            x = torch.cat([self.inout_token.weight.expand(x.shape[0], 1, -1), x], dim=1)
        x = self.transformer(x)
        inside = self.inout_head(x[:, 0]).squeeze(-1) if self.config.inout else None
        x = x[:, -(self.grid**2) :].transpose(1, 2).unflatten(2, (self.grid, self.grid))
        heatmap = self.heatmap_head(x).float()  # (B, 1, 2 * grid, 2 * grid)
        size = (self.config.heatmap_size, self.config.heatmap_size)
        if heatmap.shape[2:] != size:
            heatmap = F.interpolate(heatmap, size, mode="bilinear", align_corners=False, antialias=True)
        return heatmap.squeeze(1), inside

    def load_published(self, path: Path) -> None:
        """Load a published checkpoint file; ValueError unless it holds exactly these weights."""
        weights = cast(dict[str, Tensor], torch.load(path, map_location="cpu", weights_only=True))
        weights = {name: value for name, value in weights.items() if not name.startswith("backbone.")}
        try:
            self.load_state_dict(weights, strict=True)
        except RuntimeError as error:
            raise ValueError(f"{path}: not the weights of this Gaze-LLE ({' '.join(str(error).split())}).") from error


class Block(nn.Module):
    """A pre-norm transformer layer (B, N, dim) -> (B, N, dim) with the parameter names of timm's ViT Block."""

    def __init__(self, dim: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._dropped(self.attn(self.norm1(x)))
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _dropped(self, x: Tensor) -> Tensor:
        """Stochastic depth (Huang et al. 2016): drops whole samples and scales the others to keep the mean."""
        if not self.training or self.drop_path == 0:
            return x
        keep = 1 - self.drop_path
        return x * torch.empty_like(x[:, :1, :1]).bernoulli_(keep) / keep


class Attention(nn.Module):
    """Multi-head self-attention; queries, keys and values without bias."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, N, d)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two layers with exact GELU and a hidden width of 4 dim."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


def position_encoding(dim: int, grid: int) -> Tensor:
    """Fixed sines and cosines (dim, grid, grid) of x (first half of the channels) and y (second half); base 10,000."""
    half = dim // 2
    frequencies = torch.exp(torch.arange(0, half, 2) * (-math.log(10_000.0) / half))
    angles = torch.arange(grid) * frequencies[:, None]  # (half / 2, grid)
    waves = torch.stack([angles.sin(), angles.cos()], dim=1).flatten(0, 1)  # (half, grid), sine and cosine alternating
    return torch.cat([waves[:, None, :].expand(-1, grid, -1), waves[:, :, None].expand(-1, -1, grid)])


def head_mask(box_norm: BoxNorm | None, grid: int) -> Tensor:
    """Mask of a head box, float (grid, grid), with edges rounded as published; all 0 for None, an unknown head."""
    mask = torch.zeros(grid, grid)
    if box_norm is not None:
        x1, y1, x2, y2 = (round(min(max(edge, 0.0), 1.0) * grid) for edge in box_norm)
        mask[y1:y2, x1:x2] = 1
    return mask


class GazeLle(nn.Module):
    """The Gaze-LLE head on a frozen encoder of sf_ros.model.encoders (images -> (B, grid^2, dim))."""

    tasks = tuple(name for name, spec in TASKS.items() if spec.kind == "heatmap")

    def __init__(self, encoder: nn.Module, encoder_config: EncoderConfig, config: GazeLleConfig | None = None) -> None:
        super().__init__()
        self.config, self.encoder_config = config or GazeLleConfig(), encoder_config
        self.encoder = encoder.requires_grad_(False).eval()
        self.head = GazeLleHead(encoder_config.dim, encoder_config.grid, self.config)

    def train(self, mode: bool = True) -> GazeLle:
        """Set the training mode of the head; the encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def loss(self, samples: Sequence[Sample]) -> Mapping[str, Tensor]:
        """Binary cross-entropy of the probabilities, mean over cells, with the first annotation as target.

        Augmentation draws from torch's global generator, so a resumed run repeats it. NotAvailable for the in/out
        variant, whose training needs a label that samples do not have.
        """
        if self.config.inout:
            raise NotAvailable("Gaze-LLE with inout=True cannot be trained; use inout=False.")
        check_tasks(samples, self.tasks, "Gaze-LLE")
        self.train()
        if self.config.augment:
            generator = np.random.default_rng(int(torch.randint(2**63 - 1, ()).item()))
            samples = [augment(sample, generator) for sample in samples]
        heatmap, _ = self(samples)
        size, sigma = self.config.heatmap_size, self.config.heatmap_sigma
        targets = torch.from_numpy(np.stack([encode(s.points_norm[0], size, sigma) for s in samples]))
        with torch.autocast(heatmap.device.type, enabled=False):  # autocast refuses cross-entropy of probabilities
            return {"gaze": F.binary_cross_entropy(heatmap, targets.to(heatmap.device))}

    @torch.inference_mode()
    def answer(self, sample: Sample) -> Answer:
        """The heatmap of the sample's first box, a head."""
        check_tasks([sample], self.tasks, "Gaze-LLE")
        self.eval()
        return Answer(heatmap=self([sample])[0][0].cpu().numpy())

    def forward(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor | None]:
        """The outputs of GazeLleHead for samples with a head box each."""
        config = self.encoder_config
        views = np.stack([view(s.image, TASKS[s.task], s.boxes, config.image_size) for s in samples])
        images = torch.from_numpy(normalise(views, config)).to(self.head.linear.weight.device)
        with torch.no_grad():
            features = self.encoder(images)
        return self.head(features, [_head_norm(sample) for sample in samples])


def _head_norm(sample: Sample) -> BoxNorm | None:
    if not sample.boxes:
        return None
    (x1, y1, x2, y2), (height, width) = sample.boxes[0].as_tuple(), sample.image.shape[:2]
    return x1 / width, y1 / height, x2 / width, y2 / height
