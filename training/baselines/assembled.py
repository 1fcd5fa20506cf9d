"""VLMs that transformers has no class for, put together from its vision and language classes and loaded by key.

The published remote code is not run: under transformers 5 it can leave weights random without saying so.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sf_ros.model.published import locate, open_tensors


class AssembledVlm(nn.Module, ABC):
    """Picture features in the places of picture tokens, then a transformers language model; called as its models are.

    A subclass sets `language_model` and `picture_token` and says what a picture looks like as tokens.
    """

    language_model: Any  # a transformers causal language model
    picture_token: int

    @abstractmethod
    def picture_tokens(self, pixel_values: Tensor) -> Tensor:
        """Model inputs of P pictures -> (P, N, dim of the language model)."""

    def merged(self, embedded: Tensor, places: Tensor, pictures: Tensor) -> Tensor:
        """Embedded text (B, T, D) with pictures (n, D) in its n `places` (B, T), in reading order."""
        return embedded.masked_scatter(places.unsqueeze(-1), pictures)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        logits_to_keep: int = 0,
        use_cache: bool = False,
    ) -> Any:
        """Logits of the last `logits_to_keep` places (0: all). ValueError when picture tokens and pictures differ."""
        embedded = self._embedded(input_ids, pixel_values)
        return self.language_model(
            inputs_embeds=embedded, attention_mask=attention_mask, logits_to_keep=logits_to_keep, use_cache=use_cache
        )

    def generate(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor, generation_config: Any
    ) -> Tensor:
        """The prompt's tokens and what follows them, (B, T + new)."""
        embedded = self._embedded(input_ids, pixel_values)
        written = self.language_model.generate(
            inputs_embeds=embedded, attention_mask=attention_mask, generation_config=generation_config
        )
        return torch.cat([input_ids, written], dim=1)

    def _embedded(self, input_ids: Tensor, pixel_values: Tensor) -> Tensor:
        embedded = self.language_model.get_input_embeddings()(input_ids)
        pictures = self.picture_tokens(pixel_values).flatten(0, 1).to(embedded.dtype)
        places = input_ids == self.picture_token
        if (wanted := int(places.sum())) != len(pictures):
            raise ValueError(f"The text has places for {wanted} picture tokens, the pictures give {len(pictures)}.")
        return self.merged(embedded, places, pictures)


def in_precision(weights: Mapping[str, Tensor], dtype: str) -> Mapping[str, Tensor]:
    """Weights in the file's precision (auto) or in that of the name `dtype`."""
    return weights if dtype == "auto" else {name: value.to(getattr(torch, dtype)) for name, value in weights.items()}


def read_config(name: str) -> dict[str, Any]:
    """The config.json of a local folder or of a hub id in the cache. WeightsError or OSError when there is none."""
    return json.loads((locate(name) / "config.json").read_text(encoding="utf-8"))


def read_published(name: str) -> Mapping[str, Tensor]:
    """All tensors of a local folder or of a hub id in the cache: safetensors, else torch's own file (weights only)."""
    folder = locate(name)
    pickled = folder / "pytorch_model.bin"  # named here, so that it is read
    return open_tensors(pickled if pickled.is_file() and not any(folder.glob("*.safetensors")) else folder)
