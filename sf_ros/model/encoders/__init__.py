"""Frozen visual encoders: images (B, 3, S, S) -> patch features (B, grid * grid, dim) in raster order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from sf_ros.core.config import EncoderConfig
from sf_ros.core.fields import known
from sf_ros.model.encoders.aimv2 import Aimv2Encoder
from sf_ros.model.encoders.clip import ClipEncoder, MolmoEncoder
from sf_ros.model.encoders.dinov2 import Dinov2Encoder
from sf_ros.model.encoders.internvit import InternVitEncoder
from sf_ros.model.encoders.presets import ENCODERS, WEIGHTS
from sf_ros.model.encoders.qwen2_vl import Qwen2VlEncoder
from sf_ros.model.encoders.side_by_side import SideBySide
from sf_ros.model.encoders.tiny import TinyEncoder
from sf_ros.model.encoders.tower import Tower
from sf_ros.model.encoders.weights import load_tower
from sf_ros.model.published import WeightsError

__all__ = [
    "ENCODERS",
    "WEIGHTS",
    "ClipEncoder",
    "SideBySide",
    "TinyEncoder",
    "Tower",
    "WeightsError",
    "build_encoder",
    "load_weights",
]

FAMILIES: dict[str, Callable[[EncoderConfig], nn.Module]] = {
    "tiny": TinyEncoder,
    "clip-vit-l-14-336": ClipEncoder,
    "dfn-vit-h-14-378": ClipEncoder,
    "dinov2-l-14": Dinov2Encoder,
    "aimv2-h-14-448": Aimv2Encoder,
    "sailvit-h-14-448": Aimv2Encoder,
    "sail-vl-1d5-2b": Aimv2Encoder,
    "internvit-300m-448": InternVitEncoder,
    "internvl3-2b": InternVitEncoder,
    "qwen2-vl-2b": Qwen2VlEncoder,
    "molmoe-1b": MolmoEncoder,
    "clip+dinov2": lambda config: SideBySide(config, [FAMILIES[part.name](part) for part in config.parts]),
}


def build_encoder(config: EncoderConfig) -> nn.Module:
    """The encoder of a configuration, randomly initialised. ValueError for an unknown name, with the nearest one."""
    return FAMILIES[known(config.name, FAMILIES, "encoder")](config)


def load_weights(encoder: nn.Module, source: str | Path | Sequence[str | Path] | None = None) -> nn.Module:
    """The encoder with published weights loaded, frozen and in evaluation mode.

    `source`: a hub id in the Hugging Face cache, a local folder or a file; encoders side by side take one per part;
    None: the published hub ids. Nothing is downloaded and no remote code is run. WeightsError (a ValueError) names
    missing, unexpected and misshapen tensors, and says how to get missing files.
    """
    if not isinstance(encoder, (Tower, SideBySide)):
        raise WeightsError(f"'{type(encoder).__name__}' has no published weights; it is trained with this project.")
    if source is None:
        source = WEIGHTS[encoder.config.name]
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    towers = encoder.towers() if isinstance(encoder, SideBySide) else [encoder]
    if len(sources) != len(towers):
        raise WeightsError(
            f"{encoder.config.name} takes {len(towers)} sources of weights, one per part; got {len(sources)}."
        )
    for tower, tower_source in zip(towers, sources, strict=True):
        load_tower(tower, tower_source)
    return encoder.eval().requires_grad_(False)
