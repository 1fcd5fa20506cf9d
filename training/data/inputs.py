"""From a sample to what the model gets: the only transform of training, evaluation and caches.

A sample takes four forms: training.data.files.Record (an annotation), Sample (with its image), ModelInputs (arrays of
one sample) and Batch (tensors of several).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sf_ros.core import views
from sf_ros.core.config import EncoderConfig, ModelConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.gaze import encode
from training.data.sample import Sample

MAX_POINTS = 20  # gaze annotations per sample, as in GazeFollow's reference code


@dataclass(frozen=True)
class ModelInputs:
    """One sample as the model gets it: a view, or the frozen features (P, dim) of it; its marked boxes; its truth."""

    mask: np.ndarray  # (P,) bool, patches that a marked box touches
    boxes: np.ndarray  # (MAX_BOXES, 4) float32, corners in 0..1
    label: int  # -1 for gaze
    points: np.ndarray  # (MAX_POINTS, 2) float32, NaN after the last annotation
    view: np.ndarray | None = None  # (S, S, 3) uint8
    features: np.ndarray | None = None
    moments: tuple[np.ndarray, ...] = ()  # views (S, S, 3) of the same face just before and after
    broken: tuple[str, ...] = ()  # unreadable samples that this one replaces


def model_inputs(sample: Sample, encoder: EncoderConfig) -> ModelInputs:
    """One sample as arrays, by the functions that the robot uses."""
    task = TASKS[sample.task]
    height, width = sample.image.shape[:2]
    marked = sample.boxes if task.boxes else ()
    points = np.full((MAX_POINTS, 2), np.nan, np.float32)
    annotated = np.asarray(sample.points_norm, np.float32).reshape(-1, 2)[:MAX_POINTS]
    points[: len(annotated)] = annotated
    return ModelInputs(
        mask=views.box_mask(marked, width, height, encoder.grid),
        boxes=views.box_coordinates(marked, width, height),
        label=-1 if sample.label is None else sample.label,
        points=points,
        view=_view(sample, encoder),
        moments=tuple(_view(moment, encoder) for moment in sample.moments),
    )


def _view(sample: Sample, encoder: EncoderConfig) -> np.ndarray:
    return views.view(sample.image, TASKS[sample.task], sample.boxes, encoder.image_size)


@dataclass(frozen=True)
class Batch:
    """Samples of label tasks, or of heatmap tasks, as tensors. A sample of k moments has k consecutive rows."""

    tasks: tuple[str, ...]  # (B,)
    masks: Tensor  # (rows, P) bool
    boxes: Tensor  # (rows, MAX_BOXES, 4)
    labels: Tensor  # (B,)
    moments: tuple[int, ...]  # (B,) rows of each sample
    images: Tensor | None = None  # (rows, 3, S, S), normalised
    features: Tensor | None = None  # (rows, P, dim) where they were cached
    targets: Tensor | None = None  # (B, size, size), of heatmap tasks
    broken: tuple[str, ...] = ()  # unreadable samples that others replace
    llm_runs: int = 0  # one per task, of the process whose part of the batch has most


def collate(inputs: Sequence[ModelInputs], tasks: Sequence[str], model: ModelConfig, llm_runs: int = 0) -> Batch:
    """Samples of label tasks, or of heatmap tasks, as one batch."""
    moments = tuple(1 + len(part.moments) for part in inputs)
    features = [part.features for part in inputs if part.features is not None]
    cached = len(features) == len(inputs)
    return Batch(
        tasks=tuple(tasks),
        masks=torch.from_numpy(np.stack([part.mask for part in inputs]).repeat(moments, axis=0)),
        boxes=torch.from_numpy(np.stack([part.boxes for part in inputs]).repeat(moments, axis=0)),
        labels=torch.tensor([part.label for part in inputs]),
        moments=moments,
        images=None if cached else _normalised(inputs, model.encoder),
        features=torch.from_numpy(np.stack(features).astype(np.float32)) if cached else None,
        targets=_heatmaps(inputs, model) if TASKS[tasks[0]].kind == "heatmap" else None,
        broken=tuple(text for part in inputs for text in part.broken),
        llm_runs=llm_runs,
    )


def _normalised(inputs: Sequence[ModelInputs], encoder: EncoderConfig) -> Tensor:
    """Normalised views (rows, 3, S, S)."""
    rows = [view for part in inputs for view in (part.view, *part.moments) if view is not None]
    return torch.from_numpy(views.normalise(np.stack(rows), encoder))


def _heatmaps(inputs: Sequence[ModelInputs], model: ModelConfig) -> Tensor:
    """Target heatmaps (B, size, size) of the samples' first annotations."""
    points = [(float(part.points[0, 0]), float(part.points[0, 1])) for part in inputs]
    return torch.from_numpy(np.stack([encode(point, model.heatmap_size, model.heatmap_sigma) for point in points]))
