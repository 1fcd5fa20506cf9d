"""MolmoE-1B (Deitke et al. 2024): CLIP without its last block, attention over 2x2 patches, a gated MLP, OLMoE-1B-7B.

Assembled from transformers' CLIPVisionModel and OlmoeForCausalLM; the published keys (allenai/MolmoE-1B-0924, one torch
file of 29 GB) are `model.vision_backbone.*`, `model.transformer.*` and `lm_head.*`. The published tiling makes one crop
of a square view of the encoder's size, and shows it twice: as the overview and as the only detail.

Adapters are on attention, router and every expert: transformers stacks the experts' layers into two tensors, which peft
adapts like the separate layers (twice the rank where gate and up are one tensor). At the paper's rank that is
378,568,704 weights, nearly all of them in experts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPVisionConfig, CLIPVisionModel, OlmoeConfig, OlmoeForCausalLM

from sf_ros.core.config import EncoderConfig
from sf_ros.core.fields import NotAvailable
from sf_ros.core.views import normalise
from sf_ros.model.encoders.clip import MOLMO
from sf_ros.model.encoders.weights import translated
from sf_ros.model.published import load_strictly
from training.baselines.assembled import AssembledVlm, in_precision, read_published
from training.baselines.vlm import Vlm, VlmConfig
from training.model.published import build_empty

START, PATCH, COLUMN, END = "<im_start>", "<im_patch>", "<im_col>", "<im_end>"
POOLED = 2  # patches per side of one token
_SUPPORTED = {  # fields of config.json and their only supported values
    "image_pooling_2d": "attention_meanq", "image_projector": "mlp", "use_cls_feature": False, "norm_after": False,
    "include_bias": False, "clip_qkv": None, "weight_tying": False,
}  # fmt: skip
_RENAMED = (  # published name -> name in MolmoE, except for the vision tower
    (r"^model\.vision_backbone\.image_pooling_2d\.", "pooling."),
    (r"^model\.vision_backbone\.image_projector\.", "projector."),
    (r"^model\.vision_backbone\.pad_embed$", "pad_embed"),
    (r"^model\.transformer\.ln_f\.", "language_model.model.norm."),
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.transformer\.blocks\.", "language_model.model.layers."),
    (r"(layers\.\d+)\.attn\.attn_norm\.", r"\1.input_layernorm."),
    (r"(layers\.\d+)\.attn\.attn_out\.", r"\1.self_attn.o_proj."),
    (r"(layers\.\d+)\.attn\.([qk])_norm\.", r"\1.self_attn.\2_norm."),
    (r"(layers\.\d+)\.attn\.att_proj\.", r"\1.self_attn.qkv."),
    (r"(layers\.\d+)\.mlp\.ff_norm\.", r"\1.post_attention_layernorm."),
)


class AttentionPooling(nn.Module):
    """Pools groups of patch features (G, 4, d_in) -> (G, d), with each group's mean as the query."""

    def __init__(self, dim_in: int, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.wq, self.wk, self.wv = (nn.Linear(dim_in, dim) for _ in range(3))
        self.wo = nn.Linear(dim, dim)

    def forward(self, groups: Tensor) -> Tensor:
        query, key, value = self.wq(groups.mean(1, keepdim=True)), self.wk(groups), self.wv(groups)
        query, key, value = (x.float().unflatten(2, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        pooled = F.scaled_dot_product_attention(query, key, value)  # (G, heads, 1, d / heads), in float32 as published
        return self.wo(pooled.flatten(1).to(groups.dtype))


class GatedProjector(nn.Module):
    """SwiGLU: (..., d_in) -> (..., d)."""

    def __init__(self, dim_in: int, inner: int, dim: int) -> None:
        super().__init__()
        self.w1, self.w3 = nn.Linear(dim_in, inner, bias=False), nn.Linear(dim_in, inner, bias=False)
        self.w2 = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class MolmoE(AssembledVlm):
    """MolmoE for images (P, 3, S, S) normalised by CLIP's mean and deviation; features are added to the image tokens.

    `rows` is the size of the embedding, which has more tokens than the output layer; `layers` are the hidden states of
    the vision tower that are concatenated.
    """

    def __init__(
        self, vision: CLIPVisionConfig, llm: OlmoeConfig, rows: int, image_token: int, layers: Sequence[int]
    ) -> None:
        super().__init__()
        self.image_token, self.layers = image_token, tuple(layers)
        self.vision_model = CLIPVisionModel(vision)
        self.vision_model.post_layernorm = nn.Identity()  # only for the class token, which is not used
        width = len(self.layers) * vision.hidden_size
        self.pooling = AttentionPooling(width, vision.hidden_size, vision.num_attention_heads)
        self.projector = GatedProjector(vision.hidden_size, llm.intermediate_size, llm.hidden_size)
        self.pad_embed = nn.Parameter(torch.zeros(2, width))  # for padded images; square views have none
        self.language_model = OlmoeForCausalLM(llm)
        self.language_model.set_input_embeddings(nn.Embedding(rows, llm.hidden_size))

    def image_tokens(self, pixel_values: Tensor) -> Tensor:
        states = self.vision_model(pixel_values.to(self.vision_model.dtype), output_hidden_states=True).hidden_states
        features = torch.cat([states[layer][:, 1:] for layer in self.layers], dim=-1)  # (P, grid^2, width)
        half = round(features.shape[1] ** 0.5) // POOLED
        groups = features.unflatten(1, (half, POOLED, half, POOLED)).transpose(2, 3).flatten(3, 4)
        tokens = self.projector(self.pooling(groups.reshape(-1, POOLED**2, features.shape[2])))
        tokens = tokens.unflatten(0, (len(features), half * half))
        return torch.cat([tokens, tokens], dim=1)  # overview and detail

    def merged(self, embedded: Tensor, mask: Tensor, images: Tensor) -> Tensor:
        return embedded + torch.zeros_like(embedded).masked_scatter(mask.unsqueeze(-1), images)


def convert(weights: Mapping[str, Tensor], heads: int, interleaved: bool, source: str) -> dict[str, Tensor]:
    """A published state dict converted to MolmoE's: renamed, with qkv split and experts stacked.

    `interleaved`: rotary pairs are adjacent channels (rope_impl "cockatoo" or "interleave"). transformers has them half
    a head apart, so query and key channels are permuted alike, which leaves all dot products unchanged.
    """
    prefix = MOLMO.prefixes[0]
    vision, unknown = translated(MOLMO, prefix, weights, source)
    renamed = {f"vision_model.{name}": value for name, value in vision.items()}
    for key in weights:
        if key in unknown or not key.startswith(prefix):
            name = key
            for pattern, replacement in _RENAMED:
                name = re.sub(pattern, replacement, name)
            renamed[name] = weights[key]
    embeddings = [renamed.pop(f"model.transformer.wte.{part}") for part in ("embedding", "new_embedding")]
    renamed["language_model.model.embed_tokens.weight"] = torch.cat(embeddings)
    matches = (re.match(r"language_model\.model\.layers\.\d+\.", name) for name in renamed)
    for layer in sorted({match[0] for match in matches if match}):
        _split_attention(renamed, f"{layer}self_attn.", heads, interleaved)
        _stack_experts(renamed, f"{layer}mlp.experts.")
    return renamed


def _split_attention(weights: dict[str, Tensor], prefix: str, heads: int, interleaved: bool) -> None:
    parts = dict(zip("qkv", weights.pop(f"{prefix}qkv.weight").chunk(3), strict=True))
    for kind, rows in parts.items():
        weights[f"{prefix}{kind}_proj.weight"] = rows
    if interleaved:
        for name in ("q_proj", "k_proj", "q_norm", "k_norm"):
            value = weights[f"{prefix}{name}.weight"]
            pairs = value.unflatten(0, (heads, -1, 2)).transpose(1, 2)  # (heads, 2, d / 2, ...)
            weights[f"{prefix}{name}.weight"] = pairs.flatten(0, 2)


def _stack_experts(weights: dict[str, Tensor], prefix: str) -> None:
    count = sum(name.startswith(prefix) and name.endswith(".down_proj.weight") for name in weights)

    def stacked(kind: str) -> Tensor:
        return torch.stack([weights.pop(f"{prefix}{i}.{kind}_proj.weight") for i in range(count)])

    weights[f"{prefix}gate_up_proj"] = torch.cat([stacked("gate"), stacked("up")], dim=1)
    weights[f"{prefix}down_proj"] = stacked("down")


class MolmoReader:
    """Image and prompt in Molmo's role format: the image's token grid twice, then the prompt.

    Answers directly follow "Assistant:"; Molmo's own begin with a space, which training has to unlearn.
    """

    def __init__(self, tokenizer: Any, encoder: EncoderConfig) -> None:
        self.tokenizer, self.encoder = tokenizer, encoder

    def read(self, image: np.ndarray, prompt: str) -> dict[str, Tensor]:
        """ValueError when the image does not have the encoder's size."""
        if image.shape[0] != self.encoder.image_size:
            raise ValueError(
                f"The image has {image.shape[0]} px, expected {self.encoder.image_size} for MolmoE's encoder; "
                "set image_size."
            )
        side = self.encoder.grid // POOLED
        names = [START, *([*[PATCH] * side, COLUMN] * side), END] * 2
        grid = self.tokenizer.convert_tokens_to_ids(names)
        text = self.tokenizer.encode(f" User: {prompt} Assistant:", add_special_tokens=False)
        first = self.tokenizer.bos_token_id or self.tokenizer.eos_token_id
        ids = torch.tensor([[first, *grid, *text]])
        pixels = torch.from_numpy(normalise(image[None], self.encoder))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}


def configurations(facts: Mapping[str, Any]) -> tuple[CLIPVisionConfig, OlmoeConfig]:
    """The parts' configurations from a published config.json. NotAvailable for another kind of Molmo."""
    for name, supported in _SUPPORTED.items():
        if facts.get(name, supported) != supported:
            raise NotAvailable(f"{name}={facts[name]!r} is not supported; expected {supported!r}, as in MolmoE.")
    tower = facts["vision_backbone"]
    vision = CLIPVisionConfig(
        hidden_size=tower["image_emb_dim"], intermediate_size=tower["image_mlp_dim"],
        num_hidden_layers=tower["image_num_layers"], num_attention_heads=tower["image_num_heads"],
        image_size=tower["image_default_input_size"][0], patch_size=tower["image_patch_size"], hidden_act="quick_gelu",
        layer_norm_eps=tower["image_norm_eps"],
    )  # fmt: skip
    llm = OlmoeConfig(
        vocab_size=facts["embedding_size"], hidden_size=facts["d_model"], num_hidden_layers=facts["n_layers"],
        intermediate_size=(facts.get("mlp_hidden_size") or facts["mlp_ratio"] * facts["d_model"]) // 2,
        num_attention_heads=facts["n_heads"], num_experts=facts["moe_num_experts"],
        num_experts_per_tok=facts["moe_top_k"], rms_norm_eps=facts["layer_norm_eps"], tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": facts["rope_theta"]}, pad_token_id=None,
        eos_token_id=None,
    )  # fmt: skip
    return vision, llm


def load_molmoe(name: str, facts: Mapping[str, Any], config: VlmConfig) -> Vlm:
    """MolmoE with fresh adapters, by hub id or local folder; `facts` is its config.json."""
    tokenizer = AutoTokenizer.from_pretrained(name)
    vision, llm = configurations(facts)
    rows = facts["embedding_size"] + facts["additional_vocab_size"]
    patch_token = tokenizer.convert_tokens_to_ids(PATCH)
    model = cast(MolmoE, build_empty(lambda: MolmoE(vision, llm, rows, patch_token, facts["vit_layers"])))
    interleaved = facts.get("rope_impl", "cockatoo") in ("cockatoo", "interleave")
    weights = convert(read_published(name), facts["n_heads"], interleaved, name)
    load_strictly(model, in_precision(weights, config.dtype), name)
    encoder = EncoderConfig(
        name="clip-vit-l-14-336", image_size=vision.image_size, patch_size=vision.patch_size, dim=vision.hidden_size,
        mean=(0.48145466, 0.4578275, 0.40821073), std=(0.26862954, 0.26130258, 0.27577711),
    )  # fmt: skip
    return Vlm(model, model.language_model.model, MolmoReader(tokenizer, encoder), config)
