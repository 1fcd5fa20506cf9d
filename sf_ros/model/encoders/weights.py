"""Load published weights into a tower: locate, rename, load strictly. No remote code runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sf_ros.core.config import EncoderConfig
from sf_ros.model.encoders.layout import Layout
from sf_ros.model.encoders.tower import Tower
from sf_ros.model.published import WeightsError, locate, open_tensors


def load_tower(encoder: Tower, source: str | Path) -> None:
    """Load the weights of a hub id or of a local folder or file into `encoder.tower`.

    WeightsError when the files are missing (with the command to get them), when they are of another model, or when a
    tensor is missing, unexpected or of another shape.
    """
    path = locate(source)
    check_config(path, encoder.config_fields())
    tensors = open_tensors(path)
    layout, prefix = recognised(encoder, tensors, path)
    weights, unexpected = translated(layout, prefix, tensors, path)
    if encoder.position_table in weights and encoder.config.native_size is not None:
        weights[encoder.position_table] = resampled(weights[encoder.position_table], encoder.config)
    expected = encoder.tower.state_dict()
    misshapen = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in weights and weights[key].shape != expected[key].shape
    ]
    problems = {
        "missing": [key for key in expected if key not in weights],
        "unexpected": unexpected + [key for key in weights if key not in expected],
        "of another shape": misshapen,
    }
    if any(problems.values()):
        listed = "; ".join(f"{problem}: {_some(keys)}" for problem, keys in problems.items() if keys)
        raise WeightsError(f"{path}: not the weights of this {encoder.config.name} ({layout.name} layout); {listed}.")
    encoder.tower.load_state_dict(weights, strict=True)


def translated(
    layout: Layout, prefix: str, tensors: Mapping[str, Tensor], path: str | Path
) -> tuple[dict[str, Tensor], list[str]]:
    """The tower's tensors under its own keys, and the published keys that match no rule or repeat another."""
    translated_tensors: dict[str, Tensor] = {}
    unexpected = []
    for key in (key for key in tensors if key.startswith(prefix)):
        rule = layout.rule(key.removeprefix(prefix))
        if rule is None:
            unexpected.append(key)
            continue
        names, change = rule
        if not names:
            continue
        try:
            tensor = tensors[key] if change is None else change(tensors[key])
            parts = tensor.tensor_split(len(names)) if len(names) > 1 else (tensor,)
        except (RuntimeError, IndexError) as error:
            shape = tuple(tensors[key].shape)
            raise WeightsError(f"{path}: '{key}' has the shape {shape}, which does not fit.") from error
        if any(name in translated_tensors for name in names):
            unexpected.append(key)
        translated_tensors.update(zip(names, parts, strict=True))
    return translated_tensors, unexpected


def recognised(encoder: Tower, tensors: Mapping[str, Tensor], path: Path) -> tuple[Layout, str]:
    """The encoder's published format that the keys match, and their prefix. WeightsError when none matches."""
    for layout in encoder.layouts:
        if (prefix := layout.prefix(tensors)) is not None:
            return layout, prefix
    expected = " or ".join(f"'{layout.prefixes[0]}{layout.marker}' ({layout.name})" for layout in encoder.layouts)
    raise WeightsError(
        f"{path}: these are not weights of {encoder.config.name}. Expected a tensor {expected}; "
        f"found {_some(sorted(tensors))}."
    )


def check_config(path: Path, fields: Mapping[str, object]) -> None:
    """WeightsError when a config.json beside the weights contradicts expected fields; shapes are compared elsewhere."""
    folder = path if path.is_dir() else path.parent
    for name in ("config.json", "open_clip_config.json"):
        if not (folder / name).is_file():
            continue
        try:
            config = json.loads((folder / name).read_text(encoding="utf-8"))
            section = _vision_section(config)
        except (ValueError, TypeError, AttributeError) as error:
            raise WeightsError(f"{folder / name}: not a model's configuration ({error}).") from error
        wrong = [
            f"{field} is {section[field]!r}, expected {expected!r}"
            for field, expected in fields.items()
            if section.get(field) not in (None, expected, [expected, expected])
        ]
        if wrong:
            raise WeightsError(f"{folder / name}: this is another model; {'; '.join(wrong)}.")


def resampled(positions: Tensor, config: EncoderConfig) -> Tensor:
    """A position table (..., tokens, width) resampled from `native_size` to the grid of `image_size`, bicubic.

    A class token stays. Same as transformers' `interpolate_pos_encoding`, but once instead of at every image.
    """
    assert config.native_size is not None
    native, grid = config.native_size // config.patch_size, config.grid
    first = positions.shape[-2] - native**2
    if native == grid or first not in (0, 1):
        return positions  # a table of a third size fails the comparison of shapes
    table = positions[..., first:, :].float().reshape(1, native, native, -1).permute(0, 3, 1, 2)
    table = F.interpolate(table, size=(grid, grid), mode="bicubic", align_corners=False)
    patches = table.flatten(2).transpose(1, 2).reshape(*positions.shape[:-2], grid**2, -1)
    return torch.cat([positions[..., :first, :].float(), patches], dim=-2)


def _vision_section(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration about the visual tower; empty when there is none."""
    config = {**config, **config.get("model_cfg", {})}  # open_clip's file
    for name in ("vision_config", "vision_cfg"):
        if name in config:
            return {**config[name], "quick_gelu": config.get("quick_gelu")}
    return config if "patch_size" in config else {}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more if names else "none"
