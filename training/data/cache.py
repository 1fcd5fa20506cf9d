"""Model inputs and frozen features of a dataset on disk, each computed once."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from sf_ros.core import views
from sf_ros.core.config import EncoderConfig, ModelConfig
from sf_ros.core.cues import TASKS
from sf_ros.engines.device import has_bfloat16_instructions
from sf_ros.model.encoders.resized import at_size
from training.data import scenes
from training.data.columns import FRAMES, TAGS, CachedData, FrameList, Rows, read_columns
from training.data.once import once
from training.data.sample import Dataset
from training.data.scenes.pool import ScenePool
from training.data.workers import worker_pool

CHUNK = 32  # samples per job of a worker process
POOL = "pool.json"  # the tasks of a complete pool


def views_key(dataset: Dataset, model: ModelConfig) -> str:
    """A short hash of all that a dataset's views depend on: its samples, the task's view, the encoder's input size.

    The samples of scenes depend on the code that draws them.
    """
    return views_key_of(dataset.identity, dataset.task, model)


def views_key_of(identity: str, name: str, model: ModelConfig) -> str:
    """`views_key` of the samples of a task with this identity."""
    task, encoder = TASKS[name], model.encoder
    code = drawing_code() if identity.startswith("scenes/") else ""
    facts = [identity, code, task.view, task.boxes, task.region, task.margin, encoder.image_size, encoder.grid]
    if task.view != "frame" and model.crop_encoder != encoder:
        facts.append(model.crop_encoder.image_size)
    if model.shared_prefix:
        facts.append("frames")
    return keyed(facts)


def keyed(facts: Sequence[Any]) -> str:
    """A short hash of JSON data."""
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


def load_or_build(dataset: Dataset, model: ModelConfig, folder: Path, workers: int = 2) -> CachedData:
    """The cached views of a dataset, built first when they are missing. Broken samples are skipped and listed."""
    once(folder / TAGS, functools.partial(_build, dataset, model, folder, workers))
    return read_columns(folder, folder)


def _build(dataset: Dataset, model: ModelConfig, folder: Path, workers: int, tags: Path) -> None:
    """Write the columns into `folder`, then the tags: their presence marks the cache as complete."""
    frame, crop = model.views_of(dataset.task)
    size = frame * model.encoder.image_size**2 + crop * model.crop_encoder.image_size**2
    require_space(folder, len(dataset) * 3 * size, f"views of {dataset.task}")
    jobs = [(dataset, model, range(start, min(start + CHUNK, len(dataset)))) for start in range(0, len(dataset), CHUNK)]
    rows, frames = Rows(dataset.task), FrameList()
    with worker_pool(workers) as pool:
        for part, images in track(pool.map(_read_chunk, jobs), total=len(jobs), description=f"views of {dataset.task}"):
            rows.extend(part, frames.merged(images))
    if not rows.tags:
        raise ValueError(f"'{dataset.task}': none of {len(dataset)} samples is readable, first: {rows.skipped[:1]}.")
    if frames.views:
        np.save(folder / FRAMES, np.stack(frames.views))
    rows.write(folder, tags)


def _read_chunk(job: tuple[Dataset, ModelConfig, range]) -> tuple[Rows, FrameList]:
    """The rows of some samples, and their frames where they share them."""
    dataset, model, indices = job
    rows, frames = Rows(dataset.task), FrameList()
    for index in indices:
        try:
            sample = dataset[index]
        except (OSError, ValueError) as error:
            rows.skipped.append(f"{index}: {error}")
            continue
        rows.add(sample, model, frames if model.shared_prefix else None)
    return rows, frames


def pool_key(pool: ScenePool, model: ModelConfig) -> str:
    """A short hash of all that the views of a pool depend on."""
    model = dataclasses.replace(model, shared_prefix=False)  # a pool shares its frames with or without it
    return keyed([views_key_of(pool.identity, task, model) for task in pool.tasks])


def load_or_build_pool(pool: ScenePool, model: ModelConfig, folder: Path, workers: int = 2) -> dict[str, CachedData]:
    """The cached views of a pool by task, on frames that all tasks share; built first when they are missing."""
    once(folder / POOL, functools.partial(_build_pool, pool, model, folder, workers))
    data = {task: read_columns(folder / task, folder) for task in json.loads((folder / POOL).read_text())}
    return {
        task: part if model.views_of(task)[0] else dataclasses.replace(part, frames=None, frame_of=None)
        for task, part in data.items()
    }


def _build_pool(pool: ScenePool, model: ModelConfig, folder: Path, workers: int, done: Path) -> None:
    # Every sample with its frame, for any layout.
    model = dataclasses.replace(model, shared_prefix=True, boxes="token", order="visual_first")
    size = len(pool) * 3 * (model.encoder.image_size**2 + 4 * model.crop_encoder.image_size**2)
    require_space(folder, size, f"views of {len(pool)} scenes")
    jobs = [(pool, model, range(start, min(start + CHUNK, len(pool)))) for start in range(0, len(pool), CHUNK)]
    rows, frames = {task: Rows(task) for task in pool.tasks}, FrameList()
    with worker_pool(workers) as processes:
        for parts, images in track(processes.map(_draw_chunk, jobs), total=len(jobs), description="views of scenes"):
            merged = frames.merged(images)
            for task, part in parts.items():
                rows[task].extend(part, merged)
    np.save(folder / FRAMES, np.stack(frames.views))
    tasks = [task for task, of_task in rows.items() if of_task.tags]
    for task in tasks:
        rows[task].write(folder / task, folder / task / TAGS)
    done.write_text(json.dumps(tasks))


def _draw_chunk(job: tuple[ScenePool, ModelConfig, range]) -> tuple[dict[str, Rows], FrameList]:
    """The rows of some scenes by task, and their frames."""
    pool, model, indices = job
    rows, frames = {task: Rows(task) for task in pool.tasks}, FrameList()
    for index in indices:
        for sample in pool[index]:
            rows[sample.task].add(sample, model, frames)
    return rows, frames


def load_or_encode(
    cache: CachedData,
    encoder: nn.Module,
    model: ModelConfig,
    folder: Path,
    batch_size: int = 64,
    exact: bool = False,
) -> CachedData:
    """The cache with frozen features, memory-mapped; they are valid for one encoder and these views.

    float16 as in training, or float32 as in training.evaluate if `exact`.
    """
    options = batch_size, exact
    if cache.frames is not None:
        shared = cache.frames.folder
        features = _features("frames", cache.frames.views, encoder, model.encoder, shared, *options)
        cache = dataclasses.replace(cache, frames=dataclasses.replace(cache.frames, features=features))
    if cache.views is None:
        return cache
    config = model.encoder if TASKS[cache.task].view == "frame" else model.crop_encoder
    features = _features(cache.task, cache.views, encoder, config, folder, *options)
    return dataclasses.replace(cache, features=features)


def _features(
    what: str,
    pixels: np.ndarray,
    encoder: nn.Module,
    config: EncoderConfig,
    folder: Path,
    batch_size: int,
    exact: bool,
) -> np.ndarray:
    """Features (N, P, dim) of views (N, S, S, 3), made once. `what`: a task, or 'frames'."""
    name = "frames" if what == "frames" else "features"
    path = folder / f"{name}-{features_key(encoder, config)}{'-exact' if exact else ''}.npy"
    once(path, functools.partial(_encode, what, pixels, encoder, config, batch_size, exact))
    features: np.ndarray = np.load(path, mmap_mode="r")
    return features


@torch.no_grad()
def _encode(
    what: str, pixels: np.ndarray, encoder: nn.Module, config: EncoderConfig, batch_size: int, exact: bool, path: Path
) -> None:
    shape, dtype = (len(pixels), config.grid**2, config.dim), np.dtype(np.float32 if exact else np.float16)
    require_space(path.parent, dtype.itemsize * math.prod(shape), f"features of {what}")
    out = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    encode = at_size(encoder, config)
    for start in track(range(0, len(pixels), batch_size), description=f"features of {what}"):
        images = torch.from_numpy(views.normalise(np.asarray(pixels[start : start + batch_size]), config))
        images = images.to(next(encoder.parameters()).device)
        features = encode(images) if exact else frozen_features(encode, images)
        out[start : start + batch_size] = features.cpu().numpy()
    out.flush()


@torch.no_grad()
def frozen_features(encode: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Normalised images (B, 3, S, S) -> features (B, P, dim) for training, equal whether cached or not.

    Computed in bfloat16, or float32 on a CPU without its instructions, which would take 13 times as long; rounded to
    float16, whatever the training precision.
    """
    fast = images.device.type != "cpu" or has_bfloat16_instructions()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=fast):
        return encode(images).to(torch.float16)


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
