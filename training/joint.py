"""The paper's stage: connector, box embedding, heatmap head and adapters, jointly over the questions (section 3.2)."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import PartialState

from sf_ros.core.config import EncoderConfig
from sf_ros.core.gaze import encode
from sf_ros.core.tasks import TASKS
from sf_ros.core.views import normalise
from sf_ros.model.fusion import FusedModel
from training import loop
from training.config import TrainConfig
from training.data.cache import Dataset, ViewCache, annotation, frozen_features, model_inputs
from training.data.mixture import Batch, epoch_batches
from training.losses import heatmap_loss, text_loss
from training.throughput import body_flops

MAX_BROKEN_IN_A_ROW = 100


@dataclass(frozen=True)
class Row:
    """One sample as the model sees it: frozen features (P, dim), or the view (S, S, 3) uint8 that they come from."""

    mask: np.ndarray  # (P,) bool
    boxes: np.ndarray  # (MAX_BOXES, 4), corners in 0..1
    label: int  # -1 for gaze
    points: np.ndarray  # (MAX_POINTS, 2), NaN where there are fewer
    features: np.ndarray | None = None
    view: np.ndarray | None = None
    broken: tuple[str, ...] = ()  # samples that could not be read and that this one stands for


class TaskData(Protocol):
    """One question's training set."""

    def __len__(self) -> int: ...

    def row(self, index: int) -> Row: ...


@dataclass(frozen=True)
class CachedData:
    """Views on disk, and their frozen features (N, P, dim) where those were cached too."""

    views: ViewCache
    features: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.views)

    def row(self, index: int) -> Row:
        cache = self.views
        facts = cache.masks[index], cache.boxes[index], int(cache.labels[index]), cache.points[index]
        if self.features is None:
            return Row(*facts, view=np.asarray(cache.views[index]))
        return Row(*facts, features=self.features[index])


@dataclass(frozen=True)
class LiveData:
    """Samples that are read when they are wanted; one that cannot be read is replaced by the next that can."""

    dataset: Dataset
    encoder: EncoderConfig

    def __len__(self) -> int:
        return len(self.dataset)

    def row(self, index: int) -> Row:
        broken: list[str] = []
        for offset in range(MAX_BROKEN_IN_A_ROW):
            try:
                sample = self.dataset[(index + offset) % len(self.dataset)]
            except (OSError, ValueError) as error:
                broken.append(str(error))
                continue
            view, mask, boxes = model_inputs(sample, self.encoder)
            return Row(mask, boxes, *annotation(sample), view=view, broken=tuple(broken))
        raise OSError(f"{MAX_BROKEN_IN_A_ROW} samples of '{self.dataset.task}' in a row cannot be read: {broken[0]}")


class JointBatches:
    """Batches as tensors; of each the part that this process computes at this time.

    Part p of n takes every n-th sample, so that parts are of one size and their mean is the batch's.
    """

    def __init__(self, data: Mapping[str, TaskData], config: TrainConfig, process: int = 0, processes: int = 1) -> None:
        self._data, self._config = data, config
        self._process, self._parts = process, processes * config.joint.accumulate
        if config.joint.batch_size % self._parts:
            raise ValueError(
                f"batch_size {config.joint.batch_size} is not a multiple of {processes} processes x "
                f"{config.joint.accumulate} parts each."
            )

    def __getitem__(self, number: int) -> dict[str, Any]:
        step, part = divmod(number, self._config.joint.accumulate)
        first = self._process * self._config.joint.accumulate + part
        batch = self.batch(step)[first :: self._parts]
        rows = [self._data[task].row(index) for task, index in batch]
        found: dict[str, Any] = {
            "tasks": [task for task, _ in batch],
            "masks": torch.from_numpy(np.stack([row.mask for row in rows])),
            "boxes": torch.from_numpy(np.stack([row.boxes for row in rows])),
            "labels": torch.tensor([row.label for row in rows]),
            "broken": [text for row in rows for text in row.broken],
        }
        if TASKS[batch[0][0]].kind == "heatmap":
            found["targets"] = torch.from_numpy(np.stack([gaze_target(row.points, self._config) for row in rows]))
        features = [row.features for row in rows if row.features is not None]
        if len(features) == len(rows):
            found["features"] = torch.from_numpy(np.stack(features).astype(np.float32))
        else:
            views = np.stack([row.view for row in rows if row.view is not None])
            found["images"] = torch.from_numpy(normalise(views, self._config.model.encoder))
        return found

    def batch(self, step: int) -> Batch:
        """The whole batch of a step: (question, sample) of every element."""
        epoch, place = divmod(step, len(self._epoch(0)))
        return self._epoch(epoch)[place]

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_epoch"}  # the cache stays at home

    @functools.cached_property
    def _epoch(self) -> Any:
        @functools.lru_cache(maxsize=2)
        def epoch(number: int) -> list[Batch]:
            sizes = {task: len(data) for task, data in self._data.items()}
            config = self._config
            return epoch_batches(sizes, config.joint.batch_size, number, config.seed, config.factors)

        return epoch


def fit_joint(
    model: FusedModel,
    data: Mapping[str, TaskData],
    config: TrainConfig,
    out: Path,
    *,
    workers: int = 0,
    tracker: str | None = None,
    stop_after: int | None = None,
) -> tuple[list[dict[str, float]], list[str]]:
    """Train what is trainable of a model with adapters; its loss history, and what could not be read meanwhile."""
    state = PartialState()
    batches = JointBatches(data, config, state.process_index, state.num_processes)
    broken: dict[str, None] = {}

    def loss(batch: dict[str, Any]) -> loop.Losses:
        broken.update(dict.fromkeys(batch["broken"]))
        device = next(model.parameters()).device
        features = (
            batch["features"] if "features" in batch else frozen_features(model.encoder, batch["images"].to(device))
        )
        visual = model.visual(features.to(device, torch.float32), batch["masks"].to(device), batch["boxes"].to(device))
        if "targets" in batch:
            return {"gaze": config.heatmap_weight * heatmap_loss(model, visual, batch["targets"].to(device))}
        return {"text": text_loss(model, visual, batch["tasks"], batch["labels"])}

    if not torch.cuda.is_available():
        model.body.base_model.model.set_attn_implementation("eager")  # on a CPU nearly twice as fast to train as sdpa
    if config.checkpoint_activations:
        model.body.gradient_checkpointing_enable({"use_reentrant": False})
    model.body.train()
    history = loop.fit(
        "joint", model, loss, config.joint, out, precision=config.precision, seed=config.seed,
        save_every=config.save_every, batches=batches, workers=workers, tracker=tracker,
        flops=functools.partial(batch_flops, model), stop_after=stop_after,
    )  # fmt: skip
    return history, list(broken)


def batch_flops(model: FusedModel, batch: dict[str, Any]) -> float:
    """Operations of a batch, forward and backward; the encoder's (forward only) where its features were not cached."""
    language, patches = model.config.language, model.config.encoder.grid**2
    weights = _size(
        p for name, p in model.body.named_parameters() if "lora_" not in name and "embed_tokens" not in name
    )
    total = 0.0
    for task, count in Counter(batch["tasks"]).items():
        length = model.length(task)
        total += count * body_flops(weights, length, depth=language.depth, dim=language.dim, length=length)
    total += 6.0 * _size(model.connector.parameters()) * patches * len(batch["tasks"])
    if "images" in batch:
        total += 2.0 * _size(model.encoder.parameters()) * patches * len(batch["tasks"])
    return total


def gaze_target(points: np.ndarray, config: TrainConfig) -> np.ndarray:
    """The heatmap (size, size) of a sample's first annotation."""
    return encode((float(points[0, 0]), float(points[0, 1])), config.model.heatmap_size, config.model.heatmap_sigma)


def _size(parameters: Iterable[torch.Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)
