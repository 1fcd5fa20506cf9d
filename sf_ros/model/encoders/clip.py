"""CLIP's vision tower: OpenAI's ViT-L/14-336, Apple's DFN ViT-H/14-378, and MolmoE's, which was fine-tuned from CLIP's.

All three are transformers' CLIPVisionModel with quick_gelu. Features are taken before the final layer norm.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from sf_ros.core.config import EncoderConfig
from sf_ros.model.encoders.layout import Layout, Rule
from sf_ros.model.encoders.tower import Tower, mlp_size

LAYER = r"encoder.layers.\1."
QKV = ("q_proj", "k_proj", "v_proj")

# CLIPModel and CLIPVisionModel as published; old versions of transformers stored position_ids, a buffer.
TRANSFORMERS = Layout(
    "transformers",
    prefixes=("vision_model.", ""),
    marker="embeddings.patch_embedding.weight",
    rules=(Rule(r"embeddings\.position_ids"), Rule(r"(.+)", (r"\1",))),
)
# open_clip's VisionTransformer; `proj` maps to the space shared with text and is not part of the features.
OPEN_CLIP = Layout(
    "open_clip",
    prefixes=("visual.",),
    marker="conv1.weight",
    rules=(
        Rule(r"proj"),
        Rule(r"conv1\.weight", ("embeddings.patch_embedding.weight",)),
        Rule(r"class_embedding", ("embeddings.class_embedding",)),
        Rule(r"positional_embedding", ("embeddings.position_embedding.weight",)),
        Rule(r"ln_pre\.(\w+)", (r"pre_layrnorm.\1",)),  # transformers' spelling
        Rule(r"ln_post\.(\w+)", (r"post_layernorm.\1",)),
        Rule(r"transformer\.resblocks\.(\d+)\.ln_([12])\.(\w+)", (LAYER + r"layer_norm\2.\3",)),
        Rule(
            r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(\w+)",
            tuple(LAYER + rf"self_attn.{name}.\2" for name in QKV),
        ),
        Rule(r"transformer\.resblocks\.(\d+)\.attn\.out_proj\.(\w+)", (LAYER + r"self_attn.out_proj.\2",)),
        Rule(r"transformer\.resblocks\.(\d+)\.mlp\.c_fc\.(\w+)", (LAYER + r"mlp.fc1.\2",)),
        Rule(r"transformer\.resblocks\.(\d+)\.mlp\.c_proj\.(\w+)", (LAYER + r"mlp.fc2.\2",)),
    ),
)


class ClipEncoder(Tower):
    """CLIP's vision tower: last hidden state before the final norm, without the class token."""

    layouts: ClassVar[tuple[Layout, ...]] = (TRANSFORMERS, OPEN_CLIP)
    position_table: ClassVar[str | None] = "embeddings.position_embedding.weight"

    def __init__(self, config: EncoderConfig) -> None:
        from transformers import CLIPVisionConfig, CLIPVisionModel

        tower = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=config.width,
                intermediate_size=mlp_size(config),
                num_hidden_layers=config.depth,
                num_attention_heads=config.heads,
                image_size=config.image_size,
                patch_size=config.patch_size,
                hidden_act="quick_gelu",  # of OpenAI's and DFN's weights
            )
        )
        super().__init__(config, tower)

    def config_fields(self) -> dict[str, object]:
        return {
            "num_attention_heads": self.config.heads,
            "patch_size": self.config.patch_size,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5,
            "head_width": self.config.width // self.config.heads,  # open_clip's name
            "quick_gelu": True,
        }


def _as_convolution(weight: Tensor) -> Tensor:
    """A linear layer's weight over a patch's pixels (D, p * p * 3), colours last -> a convolution's (D, 3, p, p)."""
    size = round((weight.shape[1] / 3) ** 0.5)
    return weight.unflatten(1, (size, size, 3)).permute(0, 3, 1, 2)


# allenai/molmo, olmo/image_vit.py. Other tensors of the published checkpoint are ignored.
MOLMO = Layout(
    "molmo",
    prefixes=("model.vision_backbone.image_vit.", "vision_backbone.image_vit."),
    marker="patch_embedding.weight",
    rules=(
        Rule(r"patch_embedding\.weight", ("embeddings.patch_embedding.weight",), _as_convolution),
        Rule(r"class_embedding", ("embeddings.class_embedding",)),
        Rule(r"positional_embedding", ("embeddings.position_embedding.weight",)),
        Rule(r"pre_ln\.(\w+)", (r"pre_layrnorm.\1",)),
        Rule(r"transformer\.resblocks\.(\d+)\.attention_norm\.(\w+)", (LAYER + r"layer_norm1.\2",)),
        Rule(r"transformer\.resblocks\.(\d+)\.ffn_norm\.(\w+)", (LAYER + r"layer_norm2.\2",)),
        Rule(r"transformer\.resblocks\.(\d+)\.attention\.w([qkv])\.(\w+)", (LAYER + r"self_attn.\2_proj.\3",)),
        Rule(r"transformer\.resblocks\.(\d+)\.attention\.wo\.(\w+)", (LAYER + r"self_attn.out_proj.\2",)),
        Rule(r"transformer\.resblocks\.(\d+)\.feed_forward\.w([12])\.(\w+)", (LAYER + r"mlp.fc\2.\3",)),
    ),
)


class MolmoEncoder(ClipEncoder):
    """MolmoE's tower: CLIP ViT-L/14-336 without its last block and final norm, fine-tuned inside the VLM.

    The VLM concatenates layers (-2, -9): set `layers` to them and `dim` to twice the width.
    """

    layouts: ClassVar[tuple[Layout, ...]] = (MOLMO,)

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.tower.post_layernorm = nn.Identity()

    def config_fields(self) -> dict[str, object]:
        return {}  # Molmo's configuration describes its LLM only
