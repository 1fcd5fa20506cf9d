"""SAIL-VL 1.5 2B (Dong et al. 2025): AIMv2-huge, 2x2 patches to one token by a two-layer MLP, Qwen2.5-1.5B.

Assembled from transformers' Aimv2VisionModel and Qwen2ForCausalLM; the published keys `vision_model.*`, `mlp1.*` and
`language_model.*` (BytedanceDouyinContent/SAIL-VL-1d5-2B) are renamed where transformers names a part differently.
A square view is a single tile of the published tiling. The chat format is the published one without system message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import Aimv2VisionConfig, Aimv2VisionModel, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from sf_ros.core.config import EncoderConfig
from sf_ros.core.fields import NotAvailable
from sf_ros.core.views import normalise
from sf_ros.model.encoders.aimv2 import APPLE
from sf_ros.model.encoders.weights import translated
from sf_ros.model.published import load_strictly
from training.baselines.assembled import AssembledVlm, in_precision, read_published
from training.baselines.vlm import Vlm, VlmConfig
from training.model.published import build_empty

START, IMAGE, END = "<img>", "<IMG_CONTEXT>", "</img>"
MERGED = 2  # patches per side of one token
# Fields of config.json and their only supported values.
_SUPPORTED = {"select_layer": -1, "downsample_ratio": 1 / MERGED, "ps_version": "v2"}


class SailVl(AssembledVlm):
    """SAIL-VL for images (P, 3, S, S) normalised by ImageNet's mean and deviation; features replace image tokens."""

    def __init__(self, vision: Aimv2VisionConfig, llm: Qwen2Config, image_token: int) -> None:
        super().__init__()
        self.image_token = image_token
        self.vision_model = Aimv2VisionModel(vision)
        inner = vision.hidden_size * MERGED**2
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(inner), nn.Linear(inner, llm.hidden_size), nn.GELU(),
            nn.Linear(llm.hidden_size, llm.hidden_size),
        )  # fmt: skip
        self.language_model = Qwen2ForCausalLM(llm)

    def image_tokens(self, pixel_values: Tensor) -> Tensor:
        patches = self.vision_model(pixel_values=pixel_values.to(self.vision_model.dtype)).last_hidden_state
        return self.mlp1(merge_patches(patches))


def merge_patches(patches: Tensor) -> Tensor:
    """Concatenate 2x2 neighbours of patches: (P, grid^2, d) in raster order -> (P, (grid/2)^2, 4 d)."""
    grid = round(patches.shape[1] ** 0.5)
    x = patches.unflatten(1, (grid // MERGED, MERGED, grid // MERGED, MERGED))  # (P, rows, 2, columns, 2, d)
    return x.transpose(2, 3).flatten(3).flatten(1, 2)


def convert(weights: Mapping[str, Tensor], tied: bool, source: str) -> dict[str, Tensor]:
    """A published state dict converted to SailVl's; `tied`: the output layer is the embedding and has no tensor."""
    prefix = "vision_model."
    vision, unknown = translated(APPLE, prefix, weights, source)
    rest = {name: weights[name] for name in weights if name in unknown or not name.startswith(prefix)}
    if tied:
        rest["language_model.lm_head.weight"] = rest["language_model.model.embed_tokens.weight"]
    return rest | {prefix + name: value for name, value in vision.items()}


class SailReader:
    """Image and prompt in SAIL-VL's training format: one tile of image tokens, then the prompt, in ChatML."""

    def __init__(self, tokenizer: Any, encoder: EncoderConfig) -> None:
        self.tokenizer, self.encoder = tokenizer, encoder

    def read(self, image: np.ndarray, prompt: str) -> dict[str, Tensor]:
        """ValueError when the image does not have the encoder's size."""
        if image.shape[0] != self.encoder.image_size:
            raise ValueError(
                f"The image has {image.shape[0]} px, expected {self.encoder.image_size} for SAIL-VL's encoder; "
                "set image_size."
            )
        tokens = IMAGE * (self.encoder.grid // MERGED) ** 2
        text = f"<|im_start|>user\n{START}{tokens}{END}\n{prompt}<|im_end|><|im_start|>assistant\n"
        ids = torch.tensor([self.tokenizer.encode(text, add_special_tokens=False)])
        pixels = torch.from_numpy(normalise(image[None], self.encoder))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def load_sail_vl(name: str, facts: Mapping[str, Any], config: VlmConfig) -> Vlm:
    """SAIL-VL 1.5 with fresh adapters, by hub id or local folder; `facts` is its config.json.

    NotAvailable for another version of SAIL-VL.
    """
    for key, supported in _SUPPORTED.items():
        if facts.get(key, supported) != supported:
            raise NotAvailable(f"{key}={facts[key]!r} is not supported; expected {supported!r}, as in SAIL-VL 1.5.")
    tokenizer = AutoTokenizer.from_pretrained(name)
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size")
    vision_facts = facts["vision_config"]
    vision = Aimv2VisionConfig(
        **{key: vision_facts[key] for key in sizes}, rms_norm_eps=vision_facts.get("rms_norm_eps", 1e-5), use_head=False
    )
    llm = Qwen2Config.from_dict(dict(facts["llm_config"]))
    image_token = tokenizer.convert_tokens_to_ids(IMAGE)
    model = cast(SailVl, build_empty(lambda: SailVl(vision, llm, image_token)))
    weights = convert(read_published(name), llm.tie_word_embeddings, name)
    load_strictly(model, in_precision(weights, config.dtype), name)
    model.language_model.tie_weights()
    encoder = EncoderConfig(
        name="aimv2-huge", image_size=vision_facts["image_size"], patch_size=vision_facts["patch_size"],
        dim=vision_facts["hidden_size"], mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
    )  # fmt: skip
    return Vlm(model, model.language_model.model, SailReader(tokenizer, encoder), config)
