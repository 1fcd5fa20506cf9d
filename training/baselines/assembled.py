"""VLMs without a class in transformers, assembled from its vision and language classes and loaded by key.

The published remote code is not run: under transformers 5 it can silently leave weights random.
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
    """A transformers language model with image features at the image tokens; called like image-text models there.

    A subclass sets `language_model` and `image_token` and implements `image_tokens`.
    """

    language_model: Any  # a transformers causal language model
    image_token: int

    @abstractmethod
    def image_tokens(self, pixel_values: Tensor) -> Tensor:
        """Tokens (P, N, dim of the language model) of P preprocessed images."""

    def merged(self, embedded: Tensor, mask: Tensor, images: Tensor) -> Tensor:
        """Embedded text (B, T, D) with n image tokens (n, D) at the n positions of `mask` (B, T), in order."""
        return embedded.masked_scatter(mask.unsqueeze(-1), images)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        logits_to_keep: int = 0,
        use_cache: bool = False,
    ) -> Any:
        """Logits of the last `logits_to_keep` positions (0: all). ValueError for a wrong number of image tokens."""
        embedded = self._embedded(input_ids, pixel_values)
        return self.language_model(
            inputs_embeds=embedded, attention_mask=attention_mask, logits_to_keep=logits_to_keep, use_cache=use_cache
        )

    def generate(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor, generation_config: Any
    ) -> Tensor:
        """The prompt's tokens followed by the generated ones, (B, T + new)."""
        embedded = self._embedded(input_ids, pixel_values)
        generated = self.language_model.generate(
            inputs_embeds=embedded, attention_mask=attention_mask, generation_config=generation_config
        )
        return torch.cat([input_ids, generated], dim=1)

    def _embedded(self, input_ids: Tensor, pixel_values: Tensor) -> Tensor:
        embedded = self.language_model.get_input_embeddings()(input_ids)
        images = self.image_tokens(pixel_values).flatten(0, 1).to(embedded.dtype)
        mask = input_ids == self.image_token
        if (expected := int(mask.sum())) != len(images):
            raise ValueError(f"The images have {len(images)} tokens, expected {expected} as in the text.")
        return self.merged(embedded, mask, images)


def in_precision(weights: Mapping[str, Tensor], dtype: str) -> Mapping[str, Tensor]:
    """Weights cast to the torch dtype named `dtype`; 'auto' keeps the file's precision."""
    return weights if dtype == "auto" else {name: value.to(getattr(torch, dtype)) for name, value in weights.items()}


def read_config(name: str) -> dict[str, Any]:
    """The config.json of a local folder or of a hub id in the cache. WeightsError or OSError when it is missing."""
    return json.loads((locate(name) / "config.json").read_text(encoding="utf-8"))


def read_published(name: str) -> Mapping[str, Tensor]:
    """All tensors of a local folder or of a hub id in the cache, from safetensors or a torch file (weights only)."""
    folder = locate(name)
    pickled = folder / "pytorch_model.bin"  # open_tensors reads a pickle only when it is named
    return open_tensors(pickled if pickled.is_file() and not any(folder.glob("*.safetensors")) else folder)
