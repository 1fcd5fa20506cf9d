"""Several encoders side by side, with their features concatenated patch by patch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sf_ros.core.config import EncoderConfig
from sf_ros.model.encoders.tower import Tower


class SideBySide(nn.Module):
    """Encoders on one grid: images (B, 3, S, S) -> features (B, grid * grid, sum of the parts' channels).

    Images come normalised by the configuration's mean and standard deviation. Each part gets them renormalised by its
    own and, where its size differs, resized (bilinear, antialiased), so one set of views serves all parts.
    """

    def __init__(self, config: EncoderConfig, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.config = config
        self.parts = nn.ModuleList(parts)
        for index, part in enumerate(config.parts):
            scale = [ours / theirs for ours, theirs in zip(config.std, part.std, strict=True)]
            shift = [(a - b) / s for a, b, s in zip(config.mean, part.mean, part.std, strict=True)]
            self.register_buffer(f"scale{index}", torch.tensor(scale).view(3, 1, 1), persistent=False)
            self.register_buffer(f"shift{index}", torch.tensor(shift).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        features = [part(self.images_for(index, images)) for index, part in enumerate(self.parts)]
        return torch.cat(features, dim=-1)

    def towers(self) -> list[Tower]:
        """The parts with published weights, in order."""
        return [part for part in self.parts if isinstance(part, Tower)]

    def images_for(self, index: int, images: Tensor) -> Tensor:
        """The images in one part's size and normalisation."""
        size = self.config.parts[index].image_size
        if size != self.config.image_size:
            images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
        return images * self.get_buffer(f"scale{index}") + self.get_buffer(f"shift{index}")
