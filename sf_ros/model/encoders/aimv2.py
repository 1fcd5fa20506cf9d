"""AIMv2-Huge (Fini et al. 2024) and two towers fine-tuned from it: SAILViT and that of SAIL-VL-1.5-2B.

transformers' Aimv2VisionModel without a head: no class token, RMS norms, SwiGLU, features after the final norm.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from sf_ros.core.config import EncoderConfig
from sf_ros.model.encoders.layout import Layout, Rule
from sf_ros.model.encoders.tower import Tower, mlp_size

LAYER = r"encoder.layers.\1."
QKV = ("q_proj", "k_proj", "v_proj")

TRANSFORMERS = Layout(
    "transformers",
    prefixes=("vision_model.", ""),
    marker="embeddings.patch_embed.weight",
    rules=(Rule(r"head\..+"), Rule(r"(.+)", (r"\1",))),
)


def _without_batch(table: Tensor) -> Tensor:
    """A position table (1, N, D) as (N, D)."""
    return table.squeeze(0)


# apple/ml-aim, aim-v2; in SAIL-VL under `vision_model.`, as in InternVL.
APPLE = Layout(
    "aim",
    prefixes=("vision_model.", ""),
    marker="preprocessor.patchifier.proj.weight",
    rules=(
        Rule(r"preprocessor\.patchifier\.proj\.(\w+)", (r"embeddings.patch_embed.\1",)),
        Rule(r"preprocessor\.patchifier\.norm\.weight", ("embeddings.rms_norm.weight",)),
        Rule(r"preprocessor\.pos_embed", ("embeddings.position_embedding.weight",), _without_batch),
        Rule(r"trunk\.blocks\.(\d+)\.attn\.qkv\.weight", tuple(LAYER + f"attention.{name}.weight" for name in QKV)),
        Rule(r"trunk\.blocks\.(\d+)\.attn\.proj\.weight", (LAYER + "attention.out_proj.weight",)),
        Rule(r"trunk\.blocks\.(\d+)\.mlp\.fc1\.weight", (LAYER + "ffn.gate_proj.weight",)),  # followed by SiLU
        Rule(r"trunk\.blocks\.(\d+)\.mlp\.fc3\.weight", (LAYER + "ffn.up_proj.weight",)),
        Rule(r"trunk\.blocks\.(\d+)\.mlp\.fc2\.weight", (LAYER + "ffn.down_proj.weight",)),
        Rule(r"trunk\.blocks\.(\d+)\.norm_([12])\.weight", (LAYER + r"rms_norm\2.weight",)),
        Rule(r"trunk\.post_trunk_norm\.weight", ("rms_norm.weight",)),
    ),
)


class Aimv2Encoder(Tower):
    """AIMv2's tower."""

    layouts: ClassVar[tuple[Layout, ...]] = (APPLE, TRANSFORMERS)
    position_table: ClassVar[str | None] = "embeddings.position_embedding.weight"
    class_tokens: ClassVar[int] = 0

    def __init__(self, config: EncoderConfig) -> None:
        from transformers import Aimv2VisionConfig, Aimv2VisionModel

        tower = Aimv2VisionModel(
            Aimv2VisionConfig(
                hidden_size=config.width,
                intermediate_size=mlp_size(config),
                num_hidden_layers=config.depth,
                num_attention_heads=config.heads,
                image_size=config.image_size,
                patch_size=config.patch_size,
                use_head=False,
            )
        )
        super().__init__(config, tower)

    def config_fields(self) -> dict[str, object]:
        return {
            "num_attention_heads": self.config.heads,
            "patch_size": self.config.patch_size,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "is_native": False,
        }
