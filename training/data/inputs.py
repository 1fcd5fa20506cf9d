"""From a sample to what the model gets: the only transform of training, evaluation and caches.

A sample takes four forms: training.data.files.Record (an annotation), Sample (with its image), ModelInputs (arrays of
one sample) and Batch (tensors of several).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sf_ros.core import views
from sf_ros.core.config import EncoderConfig, ModelConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.gaze import encode
from training.data.sample import Sample

MAX_POINTS = 20  # gaze annotations per sample, as in GazeFollow's reference code
NO_ROW = -1  # of a query without a frame, or without a crop


@dataclass(frozen=True)
class View:
    """A view (S, S, 3) of uint8, or the frozen features (P, dim) of it."""

    pixels: np.ndarray | None = None
    features: np.ndarray | None = None


@dataclass(frozen=True)
class ModelInputs:
    """One sample as the model gets it: the views that it needs, its boxes, its truth."""

    mask: np.ndarray  # (P,) bool, patches of the frame that a marked box touches
    boxes: np.ndarray  # (MAX_BOXES, 4) float32, corners in 0..1
    label: int  # -1 for gaze
    points: np.ndarray  # (MAX_POINTS, 2) float32, NaN after the last annotation
    frame: View | None = None
    crop: View | None = None
    image: Hashable = None  # inputs with equal names show the same frame; None: this one alone
    moments: tuple[ModelInputs, ...] = ()  # the same face just before and after
    taught: np.ndarray | None = None  # a teacher's probabilities (L,) or heatmap (size, size)
    broken: tuple[str, ...] = ()  # unreadable samples that this one replaces


def model_inputs(sample: Sample, model: ModelConfig) -> ModelInputs:
    """One sample as arrays, by the functions that the robot uses."""
    task = TASKS[sample.task]
    height, width = sample.image.shape[:2]
    marked = sample.boxes if task.boxes else ()
    points = np.full((MAX_POINTS, 2), np.nan, np.float32)
    annotated = np.asarray(sample.points_norm, np.float32).reshape(-1, 2)[:MAX_POINTS]
    points[: len(annotated)] = annotated
    frame, crop = model.views_of(sample.task)
    return ModelInputs(
        mask=views.box_mask(marked, width, height, model.encoder.grid),
        boxes=views.box_coordinates(sample.boxes, width, height),
        label=-1 if sample.label is None else sample.label,
        points=points,
        frame=View(views.frame_view(sample.image, model.encoder.image_size)) if frame else None,
        crop=View(views.view(sample.image, task, sample.boxes, model.crop_encoder.image_size)) if crop else None,
        moments=tuple(model_inputs(moment, model) for moment in sample.moments),
    )


@dataclass(frozen=True)
class Views:
    """Distinct views of a batch: normalised images (V, 3, S, S), or features (V, P, dim) where they were cached."""

    images: Tensor | None = None
    features: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """Samples of any tasks as tensors. A sample of k moments has k consecutive rows."""

    tasks: tuple[str, ...]  # (B,)
    masks: Tensor  # (rows, P) bool
    boxes: Tensor  # (rows, MAX_BOXES, 4)
    labels: Tensor  # (B,)
    moments: tuple[int, ...]  # (B,) rows of each sample
    frames: Views | None  # each distinct frame once
    crops: Views | None
    frame_of: tuple[int, ...]  # (rows,) index into frames, or NO_ROW
    crop_of: tuple[int, ...]  # (rows,) index into crops, or NO_ROW
    targets: Tensor | None = None  # (G, size, size), of the G samples of heatmap tasks in their order
    taught: tuple[np.ndarray | None, ...] = ()  # (B,) a teacher's answers; empty without one
    broken: tuple[str, ...] = ()  # unreadable samples that others replace
    llm_runs: int = 0  # one per task, of the process whose part of the batch has most

    @property
    def row_tasks(self) -> tuple[str, ...]:
        """(rows,) the task of each row."""
        return tuple(task for task, count in zip(self.tasks, self.moments, strict=True) for _ in range(count))


@dataclass
class _Distinct:
    """Views in the order of their first use, those of equal name once."""

    views: list[View] = field(default_factory=list)
    numbers: dict[Hashable, int] = field(default_factory=dict)

    def number(self, view: View | None, name: Hashable = None) -> int:
        if view is None:
            return NO_ROW
        name = object() if name is None else name
        if name not in self.numbers:
            self.numbers[name] = len(self.views)
            self.views.append(view)
        return self.numbers[name]

    def stacked(self, encoder: EncoderConfig) -> Views | None:
        """All views as tensors. Features only where all have them."""
        if not self.views:
            return None
        features = [view.features for view in self.views if view.features is not None]
        if len(features) == len(self.views):
            return Views(features=torch.from_numpy(np.stack(features).astype(np.float32)))
        pixels = np.stack([view.pixels for view in self.views if view.pixels is not None])
        return Views(images=torch.from_numpy(views.normalise(pixels, encoder)))


def collate(inputs: Sequence[ModelInputs], tasks: Sequence[str], model: ModelConfig, llm_runs: int = 0) -> Batch:
    """Samples of any tasks as one batch."""
    rows = [row for sample in inputs for row in (sample, *sample.moments)]
    frames, crops = _Distinct(), _Distinct()
    frame_of = tuple(frames.number(row.frame, row.image) for row in rows)
    crop_of = tuple(crops.number(row.crop) for row in rows)
    taught = tuple(sample.taught for sample in inputs)
    gaze = [sample for sample, task in zip(inputs, tasks, strict=True) if TASKS[task].kind == "heatmap"]
    return Batch(
        tasks=tuple(tasks),
        masks=torch.from_numpy(np.stack([row.mask for row in rows])),
        boxes=torch.from_numpy(np.stack([row.boxes for row in rows])),
        labels=torch.tensor([sample.label for sample in inputs]),
        moments=tuple(1 + len(sample.moments) for sample in inputs),
        frames=frames.stacked(model.encoder),
        crops=crops.stacked(model.crop_encoder),
        frame_of=frame_of,
        crop_of=crop_of,
        targets=_heatmaps(gaze, model) if gaze else None,
        taught=taught if any(answer is not None for answer in taught) else (),
        broken=tuple(text for sample in inputs for text in sample.broken),
        llm_runs=llm_runs,
    )


def _heatmaps(inputs: Sequence[ModelInputs], model: ModelConfig) -> Tensor:
    """Target heatmaps (G, size, size) of the samples' first annotations."""
    points = [(float(part.points[0, 0]), float(part.points[0, 1])) for part in inputs]
    return torch.from_numpy(np.stack([encode(point, model.heatmap_size, model.heatmap_sigma) for point in points]))
