"""InternViT-300M (Chen et al. 2024), alone and inside InternVL3-2B: transformers' InternVLVisionModel."""

from __future__ import annotations

from typing import ClassVar

from sf_ros.core.config import EncoderConfig
from sf_ros.model.encoders.layout import Layout, Rule
from sf_ros.model.encoders.tower import Tower, mlp_size

LAYER = r"encoder.layer.\1."
QKV = ("q_proj", "k_proj", "v_proj")

# The "-hf" models; some versions of transformers write a leading "model.".
TRANSFORMERS = Layout(
    "transformers",
    prefixes=("model.vision_tower.", "vision_tower.", ""),
    marker="embeddings.patch_embeddings.projection.weight",
    rules=(Rule(r"(.+)", (r"\1",)),),
)
# OpenGVLab/InternVL, internvl_chat/internvl/model/internvl_chat/modeling_intern_vit.py; with the prefix inside a VLM.
INTERNVL = Layout(
    "internvl",
    prefixes=("vision_model.", ""),
    marker="embeddings.patch_embedding.weight",
    rules=(
        Rule(r"embeddings\.class_embedding", ("embeddings.cls_token",)),
        Rule(r"embeddings\.position_embedding", ("embeddings.position_embeddings",)),
        Rule(r"embeddings\.patch_embedding\.(\w+)", (r"embeddings.patch_embeddings.projection.\1",)),
        Rule(r"encoder\.layers\.(\d+)\.attn\.qkv\.(\w+)", tuple(LAYER + rf"attention.{name}.\2" for name in QKV)),
        Rule(r"encoder\.layers\.(\d+)\.attn\.proj\.(\w+)", (LAYER + r"attention.projection_layer.\2",)),
        Rule(r"encoder\.layers\.(\d+)\.norm1\.(\w+)", (LAYER + r"layernorm_before.\2",)),
        Rule(r"encoder\.layers\.(\d+)\.norm2\.(\w+)", (LAYER + r"layernorm_after.\2",)),
        Rule(r"encoder\.layers\.(\d+)\.ls([12])", (LAYER + r"lambda_\2",)),
        Rule(r"encoder\.layers\.(\d+)\.mlp\.(.+)", (LAYER + r"mlp.\2",)),
    ),
)


class InternVitEncoder(Tower):
    """InternViT-300M's tower without its class token."""

    layouts: ClassVar[tuple[Layout, ...]] = (TRANSFORMERS, INTERNVL)
    position_table: ClassVar[str | None] = "embeddings.position_embeddings"

    def __init__(self, config: EncoderConfig) -> None:
        from transformers import InternVLVisionConfig, InternVLVisionModel

        tower = InternVLVisionModel(
            InternVLVisionConfig(
                hidden_size=config.width,
                intermediate_size=mlp_size(config),
                num_hidden_layers=config.depth,
                num_attention_heads=config.heads,
                image_size=(config.image_size, config.image_size),
                patch_size=(config.patch_size, config.patch_size),
                attention_bias=True,
            )
        )
        super().__init__(config, tower)

    def config_fields(self) -> dict[str, object]:
        return {
            "num_attention_heads": self.config.heads,
            "patch_size": self.config.patch_size,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "norm_type": "layer_norm",
            "qk_normalization": False,
            "use_qk_norm": False,
        }
