"""DINOv2 (Oquab et al. 2024): transformers' Dinov2Model, features after its final normalisation."""

from __future__ import annotations

from typing import ClassVar

from sf_ros.core.config import EncoderConfig
from sf_ros.model.encoders.layout import Layout, Rule
from sf_ros.model.encoders.tower import Tower

LAYER = r"encoder.layer.\1."

# As published; transformers later renamed the attention layers. The mask token is for pre-training only.
TRANSFORMERS = Layout(
    "transformers",
    prefixes=("dinov2.", ""),
    marker="embeddings.patch_embeddings.projection.weight",
    rules=(
        Rule(r"embeddings\.mask_token"),
        Rule(r"encoder\.layer\.(\d+)\.attention\.attention\.query\.(\w+)", (LAYER + r"attention.q_proj.\2",)),
        Rule(r"encoder\.layer\.(\d+)\.attention\.attention\.key\.(\w+)", (LAYER + r"attention.k_proj.\2",)),
        Rule(r"encoder\.layer\.(\d+)\.attention\.attention\.value\.(\w+)", (LAYER + r"attention.v_proj.\2",)),
        Rule(r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(\w+)", (LAYER + r"attention.o_proj.\2",)),
        Rule(r"(.+)", (r"\1",)),
    ),
)


class Dinov2Encoder(Tower):
    """DINOv2's tower without its class token."""

    layouts: ClassVar[tuple[Layout, ...]] = (TRANSFORMERS,)
    position_table: ClassVar[str | None] = "embeddings.position_embeddings"

    def __init__(self, config: EncoderConfig) -> None:
        from transformers import Dinov2Config, Dinov2Model

        if config.mlp not in (None, 4 * config.width):
            raise ValueError(f"DINOv2's MLP is 4 times its width; mlp is {config.mlp}, width {config.width}.")
        tower = Dinov2Model(
            Dinov2Config(
                hidden_size=config.width,
                num_hidden_layers=config.depth,
                num_attention_heads=config.heads,
                image_size=config.image_size,
                patch_size=config.patch_size,
                use_mask_token=False,
            )
        )
        super().__init__(config, tower)

    def config_fields(self) -> dict[str, object]:
        return {
            "num_attention_heads": self.config.heads,
            "patch_size": self.config.patch_size,
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-6,
            "use_swiglu_ffn": False,
        }
