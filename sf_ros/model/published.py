"""Find published weights on disk and read their tensors lazily: safetensors, sharded or not, or a named pickle."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

PICKLES = (".bin", ".pt", ".pth")
SINGLE = ("model.safetensors", "open_clip_model.safetensors")  # transformers' and open_clip's names for one file


class WeightsError(ValueError):
    """Weights that are missing, damaged, or of another model."""


def locate(source: str | Path) -> Path:
    """The local folder or file of a source: a path, or a hub id in the Hugging Face cache.

    Nothing is downloaded. WeightsError says how to get missing files.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    if isinstance(source, Path) or not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        raise WeightsError(f"{source}: no such file or folder. Give a file or folder of weights, or a hub id.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise WeightsError(
            f"{source}: no such folder here, and no such model in the Hugging Face cache. "
            f"Get it with: hf download {source}   (or name a folder that holds its files)"
        ) from error


class Shards(Mapping[str, Tensor]):
    """Tensors of safetensors files by key, read on access. WeightsError for a damaged or incomplete file."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files
        self.open: dict[Path, Any] = {}

    def __getitem__(self, key: str) -> Tensor:
        path = self.files[key]
        try:
            if path not in self.open:
                self.open[path] = safe_open(path, framework="pt")
            tensor: Tensor = self.open[path].get_tensor(key)
        except FileNotFoundError as error:
            raise WeightsError(f"{path}: missing; it holds '{key}'. Copy or download the model again.") from error
        except SafetensorError as error:
            raise damaged(path, error) from error
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


def open_tensors(source: Path) -> Mapping[str, Tensor]:
    """Tensors of a folder or file. A pickle is read only when the path names that file itself."""
    if source.suffix in PICKLES and source.is_file():
        return _unpickled(source)
    path = _weights_file(source) if source.is_dir() else source
    if path.name.endswith(".index.json"):
        try:
            index = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(path, error) from error
        return Shards({key: path.parent / name for key, name in index.items()})
    try:
        with safe_open(path, framework="pt") as file:
            return Shards(dict.fromkeys(file.keys(), path))
    except SafetensorError as error:
        raise damaged(path, error) from error


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], source: str | Path) -> None:
    """Assign weights to a module, keeping their dtype. WeightsError for a missing, unexpected or misshapen tensor."""
    try:
        module.load_state_dict(weights, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsError(
            f"{source}: not the weights of this model ({' '.join(str(error).split())[:600]})."
        ) from error


def _weights_file(folder: Path) -> Path:
    """The folder's file of weights, or the index of its shards."""
    names = sorted(path.name for path in folder.iterdir())
    tensors = [name for name in names if name.endswith(".safetensors")]
    indices = [name for name in names if name.endswith(".safetensors.index.json")]
    candidates = indices or [name for name in SINGLE if name in tensors] or tensors
    if len(candidates) == 1:
        return folder / candidates[0]
    if candidates:
        raise WeightsError(f"{folder}: more than one file of weights ({', '.join(candidates)}). Name the file itself.")
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles:
        raise WeightsError(
            f"{folder}: no safetensors here, only {', '.join(pickles)}. "
            f"A pickle is read only when named itself: {folder / pickles[0]}"
        )
    listed = ", ".join(names[:5]) or "nothing"
    raise WeightsError(f"{folder}: no weights here; expected *.safetensors. Found: {listed}.")


def _unpickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a torch file, memory-mapped: only those that are used are read."""
    try:
        data = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise damaged(path, error) from error
    if isinstance(data, dict) and isinstance(data.get("state_dict"), dict):
        data = data["state_dict"]
    if not isinstance(data, dict) or not all(isinstance(value, Tensor) for value in data.values()):
        raise WeightsError(f"{path}: not a table of tensors.")
    return data


def damaged(path: Path, error: Exception) -> WeightsError:
    """The error to raise for a file that cannot be parsed."""
    text = str(error).strip().partition("\n")[0] or type(error).__name__
    return WeightsError(f"{path}: damaged, or not a file of weights ({text}).")
