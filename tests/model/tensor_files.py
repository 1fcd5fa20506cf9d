"""Tensors under other names, and written as safetensors, in shards or not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor


def renamed(tensors: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Keys with every pattern of a table replaced, in the table's order."""
    out = {}
    for key, value in tensors.items():
        for pattern, name in names.items():
            key = re.sub(pattern, name, key)
        out[key] = value.contiguous()
    return out


def fused(
    tensors: dict[str, Tensor], place: str, name: str, end: str = ".weight", new_end: str | None = None
) -> dict[str, Tensor]:
    """Query, key and value of every layer as the rows of one tensor; open_clip writes `in_proj_weight` and `_bias`."""
    if new_end == "_weight":
        tensors = fused(tensors, place, name, ".bias", "_bias")
    out = {}
    for key, value in tensors.items():
        if key.endswith(f"{place}.q_proj{end}"):
            stem = key.removesuffix(f"q_proj{end}")
            rows = [tensors[f"{stem}{part}_proj{end}"] for part in "qkv"]
            out[f"{stem}{name}{new_end or end}"] = torch.cat(rows)
        elif not re.search(rf"{place}\.[kv]_proj{re.escape(end)}$", key):
            out[key] = value
    return out


def save(tensors: dict[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.detach().contiguous().clone() for key, value in tensors.items()}, path)


def save_shards(tensors: dict[str, Tensor], folder: Path) -> None:
    """Two shards and their index, as transformers names them."""
    index = {}
    for number in (1, 2):
        name = f"model-{number:05d}-of-00002.safetensors"
        part = {key: tensors[key] for key in sorted(tensors)[number - 1 :: 2]}
        save(part, folder / name)
        index |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
