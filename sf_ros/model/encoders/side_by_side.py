"""Several encoders side by side: their features concatenated channel by channel, patch for patch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sf_ros.core.config import EncoderConfig
from sf_ros.model.encoders.tower import Tower


class SideBySide(nn.Module):
    """Encoders on one grid: pictures (B, 3, S, S) -> features (B, grid * grid, sum of the parts' channels).

    Pictures come normalised by the configuration's own mean and standard deviation; for each part they are normalised
    anew and, where its size is another, resized (bilinear, antialiased), so that views are made once.
    """

    def __init__(self, config: EncoderConfig, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.config = config
        self.parts = nn.ModuleList(parts)
        for index, part in enumerate(config.parts):
            scale = [own / other for own, other in zip(config.std, part.std, strict=True)]
            shift = [(a - b) / s for a, b, s in zip(config.mean, part.mean, part.std, strict=True)]
            self.register_buffer(f"scale{index}", torch.tensor(scale).view(3, 1, 1), persistent=False)
            self.register_buffer(f"shift{index}", torch.tensor(shift).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        features = [part(self.pictures_for(index, images)) for index, part in enumerate(self.parts)]
        return torch.cat(features, dim=-1)

    def towers(self) -> list[Tower]:
        """The parts that have published weights, in order."""
        return [part for part in self.parts if isinstance(part, Tower)]

    def pictures_for(self, index: int, images: Tensor) -> Tensor:
        """The same pictures as one part wants them."""
        size = self.config.parts[index].image_size
        if size != self.config.image_size:
            images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
        return images * self.get_buffer(f"scale{index}") + self.get_buffer(f"shift{index}")
