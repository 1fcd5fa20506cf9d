"""Base class of the published towers."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from sf_ros.core.config import EncoderConfig
from sf_ros.model.encoders.layout import Layout


class Tower(nn.Module):
    """A frozen transformer over patches: images (B, 3, S, S) -> features (B, grid * grid, dim) in raster order.

    Hidden state -1 is the model's own last hidden state, after its final norm if it has one. Earlier ones (-2, ...) are
    the outputs of their blocks. ValueError for a layer beyond the depth.
    """

    layouts: ClassVar[tuple[Layout, ...]] = ()  # published formats of its weights
    position_table: ClassVar[str | None] = None  # its key; None: no table
    class_tokens: ClassVar[int] = 1  # tokens before the first patch

    def __init__(self, config: EncoderConfig, tower: nn.Module) -> None:
        super().__init__()
        if -min(config.layers) > config.depth + 1:
            raise ValueError(f"{config.name} has {config.depth + 1} hidden states; layers is {config.layers}.")
        self.config = config
        self.tower = tower.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        features = [state[:, self.class_tokens :] for state in self.states(images)]
        return features[0] if len(features) == 1 else torch.cat(features, dim=-1)

    def states(self, images: Tensor) -> list[Tensor]:
        """The hidden states of `config.layers`, each (B, tokens, width)."""
        if self.config.layers == (-1,):
            return [self.tower(pixel_values=images).last_hidden_state]
        out = self.tower(pixel_values=images, output_hidden_states=True)
        return [out.last_hidden_state if layer == -1 else out.hidden_states[layer] for layer in self.config.layers]

    def config_fields(self) -> dict[str, object]:
        """Fields of a published config.json that must agree if present, beside those that tensor shapes imply."""
        return {}


def mlp_size(config: EncoderConfig) -> int:
    """Hidden size of a layer's MLP."""
    return 4 * config.width if config.mlp is None else config.mlp
