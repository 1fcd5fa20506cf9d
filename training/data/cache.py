"""Model inputs and frozen features of a dataset on disk, each computed once."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from sf_ros.core import views
from sf_ros.core.config import EncoderConfig
from sf_ros.core.cues import TASKS
from sf_ros.engines.device import has_bfloat16_instructions
from training.data import scenes
from training.data.inputs import ModelInputs, model_inputs
from training.data.once import once
from training.data.sample import Dataset
from training.data.workers import worker_pool

CHUNK = 32  # samples per job of a worker process


@dataclass(frozen=True)
class CachedData:
    """The model inputs of a dataset, column by column."""

    task: str
    views: np.ndarray  # (N, S, S, 3) uint8
    masks: np.ndarray  # (N, P) bool
    boxes: np.ndarray  # (N, MAX_BOXES, 4) float32, corners in 0..1
    labels: np.ndarray  # (N,) int64, -1 for gaze
    points: np.ndarray  # (N, MAX_POINTS, 2) float32, NaN after the last annotation
    sizes: np.ndarray  # (N, 2) int32, width and height of the original image
    tags: list[dict[str, Any]]  # each sample's tags and 'key'
    features: np.ndarray | None = None  # (N, P, dim), where they are cached too

    def __len__(self) -> int:
        return len(self.views)

    def inputs(self, index: int, generator: np.random.Generator | None = None) -> ModelInputs:
        """One sample, never augmented: its features where they are cached, else its view."""
        return ModelInputs(
            mask=self.masks[index],
            boxes=self.boxes[index],
            label=int(self.labels[index]),
            points=self.points[index],
            view=np.asarray(self.views[index]) if self.features is None else None,
            features=None if self.features is None else self.features[index],
        )


_COLUMNS = ("views", "masks", "boxes", "labels", "points", "sizes")


def views_key(dataset: Dataset, encoder: EncoderConfig) -> str:
    """A short hash of all that a dataset's views depend on: its samples, the task's view, the encoder's input size.

    The samples of scenes depend on the code that draws them.
    """
    task = TASKS[dataset.task]
    code = drawing_code() if dataset.identity.startswith("scenes/") else ""
    facts = [dataset.identity, code, task.view, task.boxes, task.region, task.margin, encoder.image_size, encoder.grid]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def gigabytes(size_gb: float) -> str:
    """A size in words; small ones are not rounded to 0."""
    return f"{size_gb:.1f} GB" if size_gb >= 0.05 else f"{1024 * size_gb:.1f} MB"


@functools.cache
def drawing_code() -> str:
    """A short hash of the code that draws scenes."""
    digest = hashlib.sha256()
    for file in sorted(Path(scenes.__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def require_space(folder: Path, size: int, contents: str) -> None:
    """Print the size of a cache to be written; ValueError when the disk has no room for it."""
    parent = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(parent).free
    print(f"{contents}: {gigabytes(size / 2**30)} into {folder} ({free / 2**30:.0f} GB free)", file=sys.stderr)
    if size > 0.95 * free:
        raise ValueError(
            f"{contents} take {gigabytes(size / 2**30)} and {folder} has {free / 2**30:.1f} GB free. "
            "Free some space, name another --out, or train with --cache none."
        )


def load_or_build(dataset: Dataset, encoder: EncoderConfig, folder: Path, workers: int = 2) -> CachedData:
    """The cached views of a dataset, built first when they are missing. Broken samples are skipped and listed."""
    once(folder / "tags.json", functools.partial(_build, dataset, encoder, folder, workers))
    facts = json.loads((folder / "tags.json").read_text())
    columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "views" else None) for name in _COLUMNS}
    return CachedData(task=facts["task"], tags=facts["tags"], **columns)


def _build(dataset: Dataset, encoder: EncoderConfig, folder: Path, workers: int, tags: Path) -> None:
    """Write the columns into `folder`, then the tags: their presence marks the cache as complete."""
    require_space(folder, len(dataset) * 3 * encoder.image_size**2, f"views of {dataset.task}")
    jobs = [
        (dataset, encoder, range(start, min(start + CHUNK, len(dataset)))) for start in range(0, len(dataset), CHUNK)
    ]
    rows: list[tuple] = []
    skipped: list[str] = []
    with worker_pool(workers) as pool:
        for read, broken in track(pool.map(_read_chunk, jobs), total=len(jobs), description=f"views of {dataset.task}"):
            rows += read
            skipped += broken
    if not rows:
        raise ValueError(f"'{dataset.task}': none of {len(dataset)} samples is readable, first: {skipped[:1]}.")
    for name, column in zip(_COLUMNS, zip(*(row[:-1] for row in rows), strict=True), strict=True):
        np.save(folder / f"{name}.npy", np.stack(column))
    facts = {"task": dataset.task, "skipped": skipped, "tags": [row[-1] for row in rows]}
    tags.write_text(json.dumps(facts))


def _read_chunk(job: tuple[Dataset, EncoderConfig, range]) -> tuple[list[tuple], list[str]]:
    """Rows in the order of _COLUMNS with the tags last, and the errors of unreadable samples."""
    dataset, encoder, indices = job
    rows, skipped = [], []
    for index in indices:
        try:
            sample = dataset[index]
        except (OSError, ValueError) as error:
            skipped.append(f"{index}: {error}")
            continue
        inputs = model_inputs(sample, encoder)
        size = np.array([sample.image.shape[1], sample.image.shape[0]], np.int32)
        tags = {**sample.tags, "key": sample.key}
        rows.append((inputs.view, inputs.mask, inputs.boxes, np.int64(inputs.label), inputs.points, size, tags))
    return rows, skipped


def load_or_encode(
    cache: CachedData,
    encoder: nn.Module,
    config: EncoderConfig,
    folder: Path,
    batch_size: int = 64,
    exact: bool = False,
) -> CachedData:
    """The cache with frozen features (N, P, dim), memory-mapped; they are valid for one encoder and these views.

    float16 as in training, or float32 as in training.evaluate if `exact`.
    """
    path = folder / f"features-{features_key(encoder, config)}{'-exact' if exact else ''}.npy"
    once(path, functools.partial(_encode, cache, encoder, config, batch_size, exact))
    return dataclasses.replace(cache, features=np.load(path, mmap_mode="r"))


@torch.no_grad()
def _encode(
    cache: CachedData, encoder: nn.Module, config: EncoderConfig, batch_size: int, exact: bool, path: Path
) -> None:
    shape, dtype = (len(cache), config.grid**2, config.dim), np.dtype(np.float32 if exact else np.float16)
    require_space(path.parent, dtype.itemsize * math.prod(shape), f"features of {cache.task}")
    out = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    for start in track(range(0, len(cache), batch_size), description=f"features of {cache.task}"):
        images = torch.from_numpy(views.normalise(np.asarray(cache.views[start : start + batch_size]), config))
        images = images.to(next(encoder.parameters()).device)
        features = encoder(images) if exact else frozen_features(encoder, images)
        out[start : start + batch_size] = features.cpu().numpy()
    out.flush()


@torch.no_grad()
def frozen_features(encoder: nn.Module, images: Tensor) -> Tensor:
    """Normalised images (B, 3, S, S) -> features (B, P, dim) for training, equal whether cached or not.

    Computed in bfloat16, or float32 on a CPU without its instructions, which would take 13 times as long; rounded to
    float16, whatever the training precision.
    """
    fast = images.device.type != "cpu" or has_bfloat16_instructions()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=fast):
        return encoder(images).to(torch.float16)


def features_key(encoder: nn.Module, config: EncoderConfig) -> str:
    """A short hash of all that features depend on besides the views: weights and encoder configuration."""
    facts = json.dumps(dataclasses.asdict(config), sort_keys=True)
    return hashlib.sha256(f"{weights_key(encoder)}{facts}".encode()).hexdigest()[:12]


def weights_key(module: nn.Module) -> str:
    """A short hash of a module's weights."""
    return tensors_key(module.state_dict())


def tensors_key(tensors: Mapping[str, Tensor]) -> str:
    """A short hash of named tensors by their float32 values, so that equal values in another precision match."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).to(torch.float32).numpy().data)
    return digest.hexdigest()[:12]
