"""Views and frozen features of a dataset on disk, each computed once."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from sf_ros.core import views
from sf_ros.core.config import EncoderConfig
from sf_ros.core.tasks import TASKS
from training import lock
from training.data.sample import Sample
from training.data.workers import worker_pool

CHUNK = 32
MAX_POINTS = 20  # gaze annotations kept per sample, as in the reference code


class Dataset(Protocol):
    """What a dataset of one question must offer."""

    task: str
    identity: str  # names the samples: another text, other samples

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class ViewCache:
    """A dataset as the model sees it, before the encoder."""

    task: str
    views: np.ndarray  # (N, S, S, 3) uint8
    masks: np.ndarray  # (N, grid * grid) bool
    boxes: np.ndarray  # (N, MAX_BOXES, 4) float32, corners in 0..1
    labels: np.ndarray  # (N,) int64, -1 for gaze
    points: np.ndarray  # (N, MAX_POINTS, 2) float32, NaN where there are fewer
    sizes: np.ndarray  # (N, 2) int32: width and height of the original image
    tags: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.views)


def model_inputs(sample: Sample, encoder: EncoderConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One sample as the model sees it, by the functions the robot uses.

    View (S, S, 3) uint8, and its marked boxes twice: mask (grid * grid,) bool and corners (MAX_BOXES, 4) float32.
    """
    spec = TASKS[sample.task]
    picture = views.view(sample.image, spec, sample.boxes, encoder.image_size)
    height, width = sample.image.shape[:2]
    marked = sample.boxes if spec.boxes else ()
    mask = views.box_mask(marked, width, height, encoder.grid)
    return picture, mask, views.box_coordinates(marked, width, height)


def annotation(sample: Sample) -> tuple[int, np.ndarray]:
    """A sample's label (-1 for gaze), and its gaze points (MAX_POINTS, 2) float32, NaN where there are fewer."""
    points = np.full((MAX_POINTS, 2), np.nan, np.float32)
    given = np.asarray(sample.points_norm, np.float32).reshape(-1, 2)[:MAX_POINTS]
    points[: len(given)] = given
    return -1 if sample.label is None else sample.label, points


def views_key(dataset: Dataset, encoder: EncoderConfig) -> str:
    """A short hash of all that a dataset's views depend on: its samples, the question's view, the picture's size."""
    spec = TASKS[dataset.task]
    facts = [dataset.identity, spec.view, spec.boxes, spec.region, spec.margin, encoder.image_size, encoder.grid]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def require_space(folder: Path, size: int, what: str) -> None:
    """ValueError where a disk has no room for `size` more bytes, which are told before they are written."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(place).free
    print(f"{what}: {size / 2**30:.1f} GB into {folder} ({free / 2**30:.0f} GB free)", file=sys.stderr)
    if size > 0.95 * free:
        raise ValueError(
            f"{what} take {size / 2**30:.1f} GB and {folder} has {free / 2**30:.1f} GB free. "
            "Free some space, name another --out, or train with --cache none."
        )


def load_or_build(dataset: Dataset, encoder: EncoderConfig, folder: Path, workers: int = 2) -> ViewCache:
    """The cached views of a dataset, built first when they are not there. Broken samples are skipped and listed."""
    lock.once(folder / "tags.json", functools.partial(_build, dataset, encoder, folder, workers))
    text = json.loads((folder / "tags.json").read_text())
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r" if name == "views" else None) for name in _ARRAYS}
    return ViewCache(task=text["task"], tags=text["tags"], **arrays)


_ARRAYS = ("views", "masks", "boxes", "labels", "points", "sizes")


def _build(dataset: Dataset, encoder: EncoderConfig, folder: Path, workers: int, tags: Path) -> None:
    """Write the arrays into `folder`, then the file that says that they are whole."""
    require_space(folder, len(dataset) * 3 * encoder.image_size**2, f"views of {dataset.task}")
    jobs = [
        (dataset, encoder, range(start, min(start + CHUNK, len(dataset)))) for start in range(0, len(dataset), CHUNK)
    ]
    rows: list[tuple] = []
    skipped: list[str] = []
    with worker_pool(workers) as pool:
        for done, broken in track(pool.map(_read_chunk, jobs), total=len(jobs), description=f"views of {dataset.task}"):
            rows += done
            skipped += broken
    if not rows:
        raise ValueError(f"'{dataset.task}': none of {len(dataset)} samples could be read, first: {skipped[:1]}.")
    for name, column in zip(_ARRAYS, zip(*(row[:-1] for row in rows), strict=True), strict=True):
        np.save(folder / f"{name}.npy", np.stack(column))
    text = {"task": dataset.task, "skipped": skipped, "tags": [row[-1] for row in rows]}
    tags.write_text(json.dumps(text))


def _read_chunk(job: tuple[Dataset, EncoderConfig, range]) -> tuple[list[tuple], list[str]]:
    dataset, encoder, indices = job
    rows, skipped = [], []
    for index in indices:
        try:
            sample = dataset[index]
        except (OSError, ValueError) as error:
            skipped.append(f"{index}: {error}")
            continue
        inputs = model_inputs(sample, encoder)
        label, points = annotation(sample)
        size = np.array([sample.image.shape[1], sample.image.shape[0]], np.int32)
        rows.append((*inputs, np.int64(label), points, size, {**sample.tags, "key": sample.key}))
    return rows, skipped


def load_or_encode(
    cache: ViewCache,
    encoder: nn.Module,
    config: EncoderConfig,
    folder: Path,
    batch_size: int = 64,
    exact: bool = False,
) -> np.ndarray:
    """Frozen features (N, P, dim) of a view cache, memory-mapped; valid for one encoder and these views.

    As training sees them (float16), or `exact` as training.evaluate does (float32).
    """
    path = folder / f"features-{features_key(encoder, config)}{'-exact' if exact else ''}.npy"
    lock.once(path, functools.partial(_encode, cache, encoder, config, batch_size, exact))
    return np.load(path, mmap_mode="r")


@torch.no_grad()
def _encode(
    cache: ViewCache, encoder: nn.Module, config: EncoderConfig, batch_size: int, exact: bool, path: Path
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
    """Normalised pictures (B, 3, S, S) -> features (B, P, dim) that are trained on, the same whether cached or not.

    Float16 from bfloat16 arithmetic, whatever the precision of the rest: what a cache holds.
    """
    with torch.autocast(images.device.type, torch.bfloat16):
        return encoder(images).to(torch.float16)


def features_key(encoder: nn.Module, config: EncoderConfig) -> str:
    """A short hash of all that features depend on besides the views: the weights, and how they are read."""
    facts = json.dumps(dataclasses.asdict(config), sort_keys=True)
    return hashlib.sha256(f"{weights_key(encoder)}{facts}".encode()).hexdigest()[:12]


def weights_key(module: nn.Module) -> str:
    """A short hash of a module's weights."""
    return tensors_key(module.state_dict())


def tensors_key(tensors: Mapping[str, Tensor]) -> str:
    """A short hash of tensors by name; of their values, so that the precision they are kept in does not matter."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).to(torch.float32).numpy().data)
    return digest.hexdigest()[:12]


def as_tensor(features: np.ndarray, indices: Sequence[int]) -> Tensor:
    """Rows of a feature file as float32 (B, P, dim)."""
    return torch.from_numpy(np.asarray(features[np.asarray(indices)], np.float32))
