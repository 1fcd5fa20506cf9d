"""Encoders in miniature, saved in the formats in which the real ones are published, each with what it must compute.

The reference is transformers' own model; its tensors are written under the published names by the tables below, which
follow the publishers' code, not the loader's rules.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import (
    Aimv2VisionConfig,
    Aimv2VisionModel,
    CLIPConfig,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    InternVLVisionModel,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
)

from sf_ros.core.config import EncoderConfig
from sf_ros.model.encoders import ENCODERS
from tests.model.tensor_files import fused, renamed, save, save_shards

GRID, PATCH, WIDTH, DEPTH, HEADS = 4, 14, 32, 3, 2
SIZE = GRID * PATCH
TEXT = {  # a language model beside the tower, whose tensors must be left alone
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 32,
}


@dataclass(frozen=True)
class Published:
    """A miniature on disk."""

    config: EncoderConfig
    source: Path  # what the user names
    reference: Callable[[Tensor], Tensor]  # images (B, 3, S, S) -> features (B, N, dim)


def small(name: str, **changes: object) -> EncoderConfig:
    """The preset of a name at toy size."""
    mlp = 88 if ENCODERS[name].mlp else None
    config = replace(ENCODERS[name], image_size=SIZE, dim=WIDTH, depth=DEPTH, heads=HEADS, mlp=mlp)
    return replace(config, **changes)  # type: ignore[arg-type]


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter moved, so that none is at its initial zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def clip_config() -> CLIPConfig:
    return CLIPConfig(
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 4 * WIDTH,
            "num_hidden_layers": DEPTH,
            "num_attention_heads": HEADS,
            "image_size": SIZE,
            "patch_size": PATCH,
        },
        text_config={"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2},
        projection_dim=8,
    )


def clip(folder: Path) -> Published:
    """openai/clip-vit-large-patch14-336: a whole CLIPModel, text tower and projections included."""
    model = shaken(CLIPModel(clip_config()))
    model.save_pretrained(folder)
    tower = model.vision_model
    return Published(small("clip-vit-l-14-336"), folder, lambda x: tower(pixel_values=x).last_hidden_state[:, 1:])


def clip_bin(folder: Path) -> Published:
    """The same as one pickle, as its repository held it before safetensors, with the ids that were stored then."""
    published = clip(folder / "safetensors")
    model = CLIPModel.from_pretrained(folder / "safetensors")
    ids = {"vision_model.embeddings.position_ids": torch.arange(GRID**2 + 1)[None]}
    tensors = {f"vision_model.{key}": value for key, value in model.vision_model.state_dict().items()}
    torch.save({**tensors, **ids, "logit_scale": torch.ones(())}, folder / "pytorch_model.bin")
    return replace(published, source=folder / "pytorch_model.bin")


OPEN_CLIP_NAMES = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "conv1.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm": "ln_pre",
    "post_layernorm": "ln_post",
    "encoder.layers": "transformer.resblocks",
    "layer_norm": "ln_",
    "self_attn": "attn",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def dfn(folder: Path) -> Published:
    """apple/DFN5B-CLIP-ViT-H-14-378: open_clip's file and configuration."""
    tower = shaken(CLIPModel(clip_config())).vision_model
    tensors = renamed(fused(tower.state_dict(), "self_attn", "in_proj", ".weight", "_weight"), OPEN_CLIP_NAMES)
    tensors = {f"visual.{key}": value for key, value in tensors.items()}
    tensors |= {"visual.proj": torch.randn(WIDTH, 8), "positional_embedding": torch.randn(77, 16)}
    save(tensors, folder / "open_clip_model.safetensors")
    vision = {"image_size": SIZE, "layers": DEPTH, "width": WIDTH, "head_width": WIDTH // HEADS, "patch_size": PATCH}
    config = {"model_cfg": {"embed_dim": 8, "quick_gelu": True, "vision_cfg": vision, "text_cfg": {"width": 16}}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return Published(small("dfn-vit-h-14-378"), folder, lambda x: tower(pixel_values=x).last_hidden_state[:, 1:])


MOLMO_NAMES = {
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding.weight": "patch_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "pre_layrnorm": "pre_ln",
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "attention_norm",
    "layer_norm2": "ffn_norm",
    "self_attn.out_proj": "attention.wo",
    r"self_attn.([qkv])_proj": r"attention.w\1",
    r"mlp.fc(\d)": r"feed_forward.w\1",
}


def molmoe(folder: Path) -> Published:
    """allenai/MolmoE-1B-0924: one pickle of the whole VLM; its tower is a CLIP without the last block."""
    tower = shaken(CLIPModel(clip_config())).vision_model
    kept = {
        key: value
        for key, value in tower.state_dict().items()
        if not key.startswith((f"encoder.layers.{DEPTH - 1}.", "post_layernorm"))
    }
    pixels = kept["embeddings.patch_embedding.weight"].permute(0, 2, 3, 1).reshape(WIDTH, -1)
    tensors = renamed({**kept, "embeddings.patch_embedding.weight": pixels}, MOLMO_NAMES)
    tensors = {f"model.vision_backbone.image_vit.{key}": value for key, value in tensors.items()}
    tensors |= {"model.vision_backbone.pad_embed": torch.randn(2, 64), "model.transformer.wte.embedding": torch.ones(9)}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps({"model_type": "molmo", "hidden_size": 16, "num_hidden_layers": 1}))

    def reference(images: Tensor) -> Tensor:
        return tower(pixel_values=images, output_hidden_states=True).hidden_states[-2][:, 1:]

    return Published(small("molmoe-1b", depth=DEPTH - 1), folder / "pytorch_model.bin", reference)


def dinov2(folder: Path, size: int = SIZE) -> Published:
    """facebook/dinov2-large."""
    model = shaken(
        Dinov2Model(
            Dinov2Config(
                hidden_size=WIDTH,
                num_hidden_layers=DEPTH,
                num_attention_heads=HEADS,
                image_size=size,
                patch_size=PATCH,
            )
        )
    )
    model.save_pretrained(folder)
    return Published(small("dinov2-l-14"), folder, lambda x: model(pixel_values=x).last_hidden_state[:, 1:])


def aimv2_tower() -> Aimv2VisionModel:
    return shaken(
        Aimv2VisionModel(
            Aimv2VisionConfig(
                hidden_size=WIDTH,
                intermediate_size=88,
                num_hidden_layers=DEPTH,
                num_attention_heads=HEADS,
                image_size=SIZE,
                patch_size=PATCH,
                use_head=False,
            )
        )
    )


AIM_NAMES = {
    "embeddings.patch_embed": "preprocessor.patchifier.proj",
    "embeddings.rms_norm": "preprocessor.patchifier.norm",
    "embeddings.position_embedding.weight": "preprocessor.pos_embed",
    "encoder.layers": "trunk.blocks",
    "attention.out_proj": "attn.proj",
    "attention": "attn",
    "ffn.gate_proj": "mlp.fc1",
    "ffn.up_proj": "mlp.fc3",
    "ffn.down_proj": "mlp.fc2",
    r"rms_norm(\d)": r"norm_\1",
    "^rms_norm": "trunk.post_trunk_norm",
}


def aim_tensors(tower: nn.Module) -> dict[str, Tensor]:
    """A tower under the names of apple/ml-aim."""
    tensors = renamed(fused(tower.state_dict(), "attention", "qkv"), AIM_NAMES)
    return {key: value[None] if key.endswith("pos_embed") else value for key, value in tensors.items()}


def aimv2(folder: Path) -> Published:
    """apple/aimv2-huge-patch14-448 as transformers writes it."""
    model = aimv2_tower()
    model.save_pretrained(folder)
    return Published(small("aimv2-h-14-448"), folder, lambda x: model(pixel_values=x).last_hidden_state)


def sailvit(folder: Path) -> Published:
    """BytedanceDouyinContent/SAILViT-Huge-600M-448px and Apple's own files: a tower under the names of ml-aim."""
    model = aimv2_tower()
    save(aim_tensors(model), folder / "model.safetensors")
    config = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "patch_size": PATCH, "rms_norm_eps": 1e-5}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "aimv2"}))
    return Published(small("sailvit-h-14-448"), folder, lambda x: model(pixel_values=x).last_hidden_state)


def sail_vl(folder: Path) -> Published:
    """BytedanceDouyinContent/SAIL-VL-1d5-2B: a VLM in bfloat16 shards with an index."""
    model = aimv2_tower().bfloat16().float()
    tensors = {f"vision_model.{key}": value for key, value in aim_tensors(model).items()}
    tensors |= {"mlp1.0.weight": torch.ones(128), "language_model.model.norm.weight": torch.ones(16)}
    save_shards({key: value.bfloat16() for key, value in tensors.items()}, folder)
    vision = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "patch_size": PATCH}
    (folder / "config.json").write_text(json.dumps({"model_type": "internvl_chat", "vision_config": vision}))
    return Published(small("sail-vl-1d5-2b"), folder, lambda x: model(pixel_values=x).last_hidden_state)


def internvl_vision() -> dict[str, object]:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "image_size": [SIZE, SIZE],
        "patch_size": [PATCH, PATCH],
        "attention_bias": True,
    }


INTERNVIT_NAMES = {
    "embeddings.cls_token": "embeddings.class_embedding",
    "embeddings.position_embeddings": "embeddings.position_embedding",
    "embeddings.patch_embeddings.projection": "embeddings.patch_embedding",
    "encoder.layer": "encoder.layers",
    "attention.projection_layer": "attn.proj",
    "attention": "attn",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    r"lambda_(\d)": r"ls\1",
}


def internvit(folder: Path) -> Published:
    """OpenGVLab/InternViT-300M-448px-V2_5: the tower alone, published with remote code."""
    model = shaken(InternVLVisionModel(InternVLVisionConfig(**internvl_vision())))
    tensors = fused(fused(model.state_dict(), "attention", "qkv"), "attention", "qkv", ".bias", ".bias")
    save(renamed(tensors, INTERNVIT_NAMES), folder / "model.safetensors")
    config = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "patch_size": PATCH, "qk_normalization": False}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "intern_vit_6b", "hidden_act": "gelu"}))
    return Published(small("internvit-300m-448"), folder, lambda x: model(pixel_values=x).last_hidden_state[:, 1:])


def internvl3(folder: Path) -> Published:
    """OpenGVLab/InternVL3-2B-hf: the whole VLM, in shards."""
    config = InternVLConfig(vision_config=internvl_vision(), text_config={"model_type": "qwen2", **TEXT})
    model = shaken(InternVLForConditionalGeneration(config))
    model.save_pretrained(folder, max_shard_size="60KB")
    tower = model.model.vision_tower
    return Published(small("internvl3-2b"), folder, lambda x: tower(pixel_values=x).last_hidden_state[:, 1:])


def qwen2_vl(folder: Path) -> Published:
    """Qwen/Qwen2-VL-2B-Instruct: the whole VLM, in shards; its own tower reads patches in 2x2 blocks."""
    vision = {"depth": DEPTH, "embed_dim": WIDTH, "hidden_size": 16, "num_heads": HEADS, "patch_size": PATCH}
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e6}
    config = Qwen2VLConfig(vision_config=vision, text_config={**TEXT, "rope_parameters": rope})
    model = shaken(Qwen2VLForConditionalGeneration(config))
    model.save_pretrained(folder, max_shard_size="60KB")
    tower = model.model.visual

    def reference(images: Tensor) -> Tensor:
        batch, half = len(images), GRID // 2
        patches = images.reshape(batch, 3, half, 2, PATCH, half, 2, PATCH).permute(0, 2, 5, 3, 6, 1, 4, 7)
        flat = patches.unsqueeze(6).expand(-1, -1, -1, -1, -1, -1, 2, -1, -1).reshape(batch * GRID**2, -1)
        out = tower(flat, grid_thw=torch.tensor([[1, GRID, GRID]] * batch)).last_hidden_state
        return out.view(batch, half, half, 2, 2, WIDTH).transpose(2, 3).reshape(batch, GRID**2, WIDTH)

    return Published(small("qwen2-vl-2b"), folder, reference)


FORMATS: dict[str, Callable[[Path], Published]] = {
    f.__name__: f
    for f in (
        clip,
        clip_bin,
        dfn,
        molmoe,
        dinov2,
        aimv2,
        sailvit,
        sail_vl,
        internvit,
        internvl3,
        qwen2_vl,
    )
}
