"""The encoders by name: sizes, normalisation, and hub ids of their weights."""

from __future__ import annotations

from dataclasses import replace

from sf_ros.core.config import PAPER_MODEL, EncoderConfig

CLIP = PAPER_MODEL.encoder
DINOV2 = EncoderConfig(
    name="dinov2-l-14",
    image_size=518,
    patch_size=14,
    dim=1024,
    depth=24,
    heads=16,
    mean=(0.485, 0.456, 0.406),  # ImageNet's
    std=(0.229, 0.224, 0.225),
)
INTERNVIT = replace(DINOV2, name="internvit-300m-448", image_size=448)
AIMV2 = replace(CLIP, name="aimv2-h-14-448", image_size=448, dim=1536, heads=12, mlp=4096)

ENCODERS: dict[str, EncoderConfig] = {
    config.name: config
    for config in (
        EncoderConfig(name="tiny"),
        CLIP,
        replace(CLIP, name="dfn-vit-h-14-378", image_size=378, dim=1280, depth=32),
        DINOV2,
        AIMV2,
        replace(AIMV2, name="sailvit-h-14-448"),
        # SAIL-VL's model card normalises images as InternVL2 does, by ImageNet's mean and standard deviation.
        replace(AIMV2, name="sail-vl-1d5-2b", mean=DINOV2.mean, std=DINOV2.std),
        INTERNVIT,
        replace(INTERNVIT, name="internvl3-2b"),
        # Qwen2-VL accepts any multiple of 28 px; 336 gives the same grid as CLIP.
        replace(CLIP, name="qwen2-vl-2b", dim=1280, depth=32),
        replace(CLIP, name="molmoe-1b", depth=23),
        replace(
            CLIP,
            name="clip+dinov2",
            dim=2048,
            parts=(CLIP, replace(DINOV2, image_size=336, native_size=518)),
        ),
    )
}

# Hub ids, in the order of an encoder's parts. MolmoE's weights are one 29 GB pickle, whose path must be given.
WEIGHTS: dict[str, tuple[str, ...]] = {
    "clip-vit-l-14-336": ("openai/clip-vit-large-patch14-336",),
    "dfn-vit-h-14-378": ("apple/DFN5B-CLIP-ViT-H-14-378",),
    "dinov2-l-14": ("facebook/dinov2-large",),
    "aimv2-h-14-448": ("apple/aimv2-huge-patch14-448",),
    "sailvit-h-14-448": ("BytedanceDouyinContent/SAILViT-Huge-600M-448px",),
    "sail-vl-1d5-2b": ("BytedanceDouyinContent/SAIL-VL-1d5-2B",),
    "internvit-300m-448": ("OpenGVLab/InternViT-300M-448px-V2_5",),
    "internvl3-2b": ("OpenGVLab/InternVL3-2B-hf",),
    "qwen2-vl-2b": ("Qwen/Qwen2-VL-2B-Instruct",),
    "molmoe-1b": ("allenai/MolmoE-1B-0924",),
    "clip+dinov2": ("openai/clip-vit-large-patch14-336", "facebook/dinov2-large"),
}
