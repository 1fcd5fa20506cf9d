"""Published weights into a tower: found on disk, renamed, loaded strictly; no code comes with them."""

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
    """Weights of a hub id or of a local folder or file into `encoder.tower`.

    WeightsError when they are not there (it says how to get them), when the file is of another model, or when a
    tensor is missing, left over or of another shape.
    """
    place = locate(source)
    check_facts(place, encoder.facts())
    tensors = open_tensors(place)
    layout, prefix = recognised(encoder, tensors, place)
    found, unknown = translated(layout, prefix, tensors, place)
    if encoder.positions in found and encoder.config.native_size is not None:
        found[encoder.positions] = resampled(found[encoder.positions], encoder.config)
    own = encoder.tower.state_dict()
    other = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in found and found[key].shape != own[key].shape
    ]
    problems = {
        "missing": [key for key in own if key not in found],
        "unexpected": unknown + [key for key in found if key not in own],
        "of another shape": other,
    }
    if any(problems.values()):
        told = "; ".join(f"{what}: {_some(keys)}" for what, keys in problems.items() if keys)
        raise WeightsError(f"{place}: not the weights of this {encoder.config.name} ({layout.name} layout); {told}.")
    encoder.tower.load_state_dict(found, strict=True)


def translated(
    layout: Layout, prefix: str, tensors: Mapping[str, Tensor], place: str | Path
) -> tuple[dict[str, Tensor], list[str]]:
    """The tower's tensors under its own keys, and the published keys that no rule knows or that come twice."""
    found: dict[str, Tensor] = {}
    unknown = []
    for key in (key for key in tensors if key.startswith(prefix)):
        rule = layout.rule(key.removeprefix(prefix))
        if rule is None:
            unknown.append(key)
            continue
        names, change = rule
        if not names:
            continue
        try:
            tensor = tensors[key] if change is None else change(tensors[key])
            parts = tensor.tensor_split(len(names)) if len(names) > 1 else (tensor,)
        except (RuntimeError, IndexError) as error:
            shape = tuple(tensors[key].shape)
            raise WeightsError(f"{place}: '{key}' has the shape {shape}, which does not fit.") from error
        if any(name in found for name in names):
            unknown.append(key)
        found.update(zip(names, parts, strict=True))
    return found, unknown


def recognised(encoder: Tower, tensors: Mapping[str, Tensor], place: Path) -> tuple[Layout, str]:
    """Which of the encoder's published formats this is, and the prefix of its keys. WeightsError when it is none."""
    for layout in encoder.layouts:
        if (prefix := layout.prefix(tensors)) is not None:
            return layout, prefix
    wanted = " or ".join(f"'{layout.prefixes[0]}{layout.marker}' ({layout.name})" for layout in encoder.layouts)
    raise WeightsError(
        f"{place}: these are not weights of {encoder.config.name}. Expected a tensor {wanted}; "
        f"found {_some(sorted(tensors))}."
    )


def check_facts(place: Path, facts: Mapping[str, object]) -> None:
    """WeightsError when a config.json beside the weights contradicts what their shapes cannot tell."""
    folder = place if place.is_dir() else place.parent
    for name in ("config.json", "open_clip_config.json"):
        if not (folder / name).is_file():
            continue
        try:
            config = json.loads((folder / name).read_text(encoding="utf-8"))
            section = _vision_section(config)
        except (ValueError, TypeError, AttributeError) as error:
            raise WeightsError(f"{folder / name}: not a model's configuration ({error}).") from error
        wrong = [
            f"{field} is {section[field]!r}, expected {fact!r}"
            for field, fact in facts.items()
            if section.get(field) not in (None, fact, [fact, fact])
        ]
        if wrong:
            raise WeightsError(f"{folder / name}: this is another model; {'; '.join(wrong)}.")


def resampled(positions: Tensor, config: EncoderConfig) -> Tensor:
    """A position table (..., tokens, width) of `native_size` on the grid of `image_size`, bicubic; class token kept.

    As transformers does it in `interpolate_pos_encoding`, once instead of at every picture.
    """
    assert config.native_size is not None
    native, grid = config.native_size // config.patch_size, config.grid
    first = positions.shape[-2] - native**2
    if native == grid or first not in (0, 1):
        return positions  # a table of some third size is reported by the comparison of shapes
    table = positions[..., first:, :].float().reshape(1, native, native, -1).permute(0, 3, 1, 2)
    table = F.interpolate(table, size=(grid, grid), mode="bicubic", align_corners=False)
    patches = table.flatten(2).transpose(1, 2).reshape(*positions.shape[:-2], grid**2, -1)
    return torch.cat([positions[..., :first, :].float(), patches], dim=-2)


def _vision_section(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that describes the visual tower; empty when it does not say."""
    config = {**config, **config.get("model_cfg", {})}  # open_clip's file
    for name in ("vision_config", "vision_cfg"):
        if name in config:
            return {**config[name], "quick_gelu": config.get("quick_gelu")}
    return config if "patch_size" in config else {}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more if names else "none"
