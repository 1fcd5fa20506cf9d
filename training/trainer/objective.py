"""The paper's stage: connector, box embedding, heatmap head and adapters, jointly over the questions (section 3.2)."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import PartialState
from torch import nn
from torch.distributed.fsdp import FSDPModule

from sf_ros.core.config import EncoderConfig, NotAvailable
from sf_ros.core.gaze import encode
from sf_ros.core.tasks import TASKS
from sf_ros.core.views import normalise
from sf_ros.model.fusion import FusedModel
from training.config import TrainConfig
from training.data.augment import augment
from training.data.cache import Dataset, ViewCache, annotation, frozen_features, model_inputs
from training.data.mixture import BatchOrder
from training.data.sample import Sample
from training.trainer import loop
from training.trainer.gradients import ProjectedGradients
from training.trainer.losses import by_question, heatmap_loss, text_losses
from training.trainer.throughput import Throughput, llm_flops
from training.trainer.weighting import UncertaintyWeights

MAX_BROKEN_IN_A_ROW = 100
LOG_VARIANCES = "log_variances.json"


@dataclass(frozen=True)
class Row:
    """One sample as the model sees it: frozen features (P, dim), or the view (S, S, 3) uint8 that they come from."""

    mask: np.ndarray  # (P,) bool
    boxes: np.ndarray  # (MAX_BOXES, 4), corners in 0..1
    label: int  # -1 for gaze
    points: np.ndarray  # (MAX_POINTS, 2), NaN where there are fewer
    features: np.ndarray | None = None
    view: np.ndarray | None = None
    moments: tuple[np.ndarray, ...] = ()  # views (S, S, 3) of the same face just before and after
    broken: tuple[str, ...] = ()  # samples that could not be read and that this one stands for


class TaskData(Protocol):
    """One question's training set."""

    def __len__(self) -> int: ...

    def row(self, index: int, generator: np.random.Generator | None = None) -> Row:
        """One sample; with a generator, changed at random where that is wanted and the sample is read anew."""
        ...


@dataclass(frozen=True)
class CachedData:
    """Views on disk, and their frozen features (N, P, dim) where those were cached too."""

    views: ViewCache
    features: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.views)

    def row(self, index: int, generator: np.random.Generator | None = None) -> Row:
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
    augment: tuple[str, ...] = ()  # kinds of training.data.augment

    def __len__(self) -> int:
        return len(self.dataset)

    def row(self, index: int, generator: np.random.Generator | None = None) -> Row:
        sample, broken = readable_sample(self.dataset, index)
        if generator is not None:
            sample = augment(sample, self.augment, generator)
        view, mask, boxes = model_inputs(sample, self.encoder)
        moments = tuple(model_inputs(moment, self.encoder)[0] for moment in sample.moments)
        return Row(mask, boxes, *annotation(sample), view=view, moments=moments, broken=broken)


def readable_sample(dataset: Dataset, index: int) -> tuple[Sample, tuple[str, ...]]:
    """A sample, or the next that can be read, and what could not be. OSError after MAX_BROKEN_IN_A_ROW of these."""
    broken: list[str] = []
    for offset in range(MAX_BROKEN_IN_A_ROW):
        try:
            return dataset[(index + offset) % len(dataset)], tuple(broken)
        except (OSError, ValueError) as error:
            broken.append(str(error))
    raise OSError(f"{MAX_BROKEN_IN_A_ROW} samples of '{dataset.task}' in a row cannot be read: {broken[0]}")


class JointBatches:
    """Batches as tensors; of each the part that this process computes at this time."""

    def __init__(self, data: Mapping[str, TaskData], config: TrainConfig, process: int = 0, processes: int = 1) -> None:
        self._data, self._config = data, config
        self._order = BatchOrder({task: len(part) for task, part in data.items()}, config, process, processes)

    def __getitem__(self, number: int) -> dict[str, Any]:
        part = self._order.part(number)
        rows = [
            self._data[task].row(index, generator)
            for (task, index), generator in zip(part.elements, part.generators, strict=True)
        ]
        found = stacked(rows, self._config)
        found["tasks"] = [task for task, _ in part.elements]
        found["passes"] = part.passes
        if TASKS[found["tasks"][0]].kind == "heatmap":
            found["targets"] = torch.from_numpy(np.stack([gaze_target(row.points, self._config) for row in rows]))
        return found


def stacked(rows: Sequence[Row], config: TrainConfig) -> dict[str, Any]:
    """Rows of one kind as tensors (B, ...): features or normalised images, marks, labels; and what was broken.

    A row of several moments is as many images and marks, one after the other; 'moments' (B,) says how many.
    """
    moments = [1 + len(row.moments) for row in rows]
    found: dict[str, Any] = {
        "masks": torch.from_numpy(np.stack([row.mask for row in rows]).repeat(moments, axis=0)),
        "boxes": torch.from_numpy(np.stack([row.boxes for row in rows]).repeat(moments, axis=0)),
        "labels": torch.tensor([row.label for row in rows]),
        "moments": moments,
        "broken": [text for row in rows for text in row.broken],
    }
    features = [row.features for row in rows if row.features is not None]
    if len(features) == len(rows):
        found["features"] = torch.from_numpy(np.stack(features).astype(np.float32))
    else:
        views = np.stack([view for row in rows for view in (row.view, *row.moments) if view is not None])
        found["images"] = torch.from_numpy(normalise(views, config.model.encoder))
    return found


def visual_tokens(model: FusedModel, batch: Mapping[str, Any]) -> torch.Tensor:
    """A batch of `stacked` -> visual tokens (B, N, D) on the model's device."""
    device = next(model.parameters()).device
    features = batch["features"] if "features" in batch else frozen_features(model.encoder, batch["images"].to(device))
    return model.visual(features.to(device, torch.float32), batch["masks"].to(device), batch["boxes"].to(device))


def batch_losses(
    model: FusedModel, batch: Mapping[str, Any], heatmap_weight: float, *, split: bool = False
) -> loop.Losses:
    """The paper's objective on a batch: 'text' (`split`: in its parts, by question) or 'gaze', weighted by lambda."""
    visual = visual_tokens(model, batch)
    if "targets" in batch:
        return {"gaze": heatmap_weight * heatmap_loss(model, visual, batch["targets"].to(visual.device))}
    losses = text_losses(model, visual, batch["tasks"], batch["labels"], batch["moments"])
    if any(isinstance(part, FSDPModule) for part in model.llm.modules()):
        losses = losses + idle_passes(model, visual, batch["passes"] - len(set(batch["tasks"])))
    return by_question(losses, batch["tasks"]) if split else {"text": losses.mean()}


def idle_passes(model: FusedModel, visual: torch.Tensor, count: int) -> torch.Tensor:
    """Zero, by way of `count` passes through the body.

    Each question is a pass of its own, and processes that share sharded weights gather them at every pass: one whose
    part of a batch asks fewer questions than another's has to take part all the same, forward and backward.
    """
    passes = [model.next_token_logits(visual[:1], model.prompted[:1]).sum() for _ in range(count)]
    return 0.0 * torch.stack(passes).sum() if passes else visual.new_zeros(())


def set_training(model: FusedModel, config: TrainConfig) -> None:
    """Put the body of a model with adapters into training mode, as fast or as small as the configuration wants it."""
    if not torch.cuda.is_available():
        model.llm.base_model.model.set_attn_implementation("eager")  # on a CPU nearly twice as fast to train as sdpa
    if config.checkpoint_activations:
        model.llm.gradient_checkpointing_enable({"use_reentrant": False})
    model.llm.train()


def fit_joint(
    model: FusedModel,
    data: Mapping[str, TaskData],
    config: TrainConfig,
    out: Path,
    *,
    workers: int = 0,
    tracker: str | None = None,
    validate: Callable[[], Mapping[str, float]] | None = None,
    speed: Throughput | None = None,
    stop_after: int | None = None,
) -> tuple[list[dict[str, float]], list[str]]:
    """Train what is trainable of a model with adapters; its history, and what could not be read meanwhile.

    `validate` gives figures for the history (training.trainer.validation), `speed` collects how long steps take. What
    uncertainty has learned goes to LOG_VARIANCES in `out`. NotAvailable for PCGrad or uncertainty in several
    processes.
    """
    state = PartialState()
    for name in ("pcgrad", "uncertainty"):  # what they weigh is by question, and processes see different questions
        if getattr(config, name) and state.num_processes > 1:
            raise NotAvailable(f"{name}=True works in one process in this version; launch a single one.")
    batches = JointBatches(data, config, state.process_index, state.num_processes)
    broken: dict[str, None] = {}

    def loss(batch: dict[str, Any]) -> loop.Losses:
        broken.update(dict.fromkeys(batch["broken"]))
        losses = batch_losses(model, batch, config.heatmap_weight, split=config.pcgrad or config.uncertainty)
        if weights is None:
            return losses
        return weights(losses, {task: n / len(batch["tasks"]) for task, n in Counter(batch["tasks"]).items()})

    weights = UncertaintyWeights(tuple(data)) if config.uncertainty else None
    module = model if weights is None else nn.ModuleDict({"model": model, "weights": weights})
    trainable = [p for p in module.parameters() if p.requires_grad]
    set_training(model, config)
    history = loop.fit(
        "joint", module, loss, config.joint, out, precision=config.precision, seed=config.seed,
        save_every=config.save_every, batches=batches, workers=workers, tracker=tracker,
        flops=functools.partial(batch_flops, model), validate=validate, validate_every=config.validate_every,
        speed=speed, backward=ProjectedGradients(trainable) if config.pcgrad else loop.summed_backward,
        stop_after=stop_after,
    )  # fmt: skip
    if weights is not None and state.is_main_process:
        (out / LOG_VARIANCES).write_text(json.dumps(weights.to_dict()))
    return history, list(broken)


def batch_flops(model: FusedModel, batch: dict[str, Any]) -> float:
    """Operations of a batch, forward and backward; the encoder's (forward only) where its features were not cached."""
    language, patches = model.config.llm, model.config.encoder.grid**2
    weights = _size(p for name, p in model.llm.named_parameters() if "lora_" not in name and "embed_tokens" not in name)
    total = 0.0
    counts: Counter[str] = Counter()
    for task, moments in zip(batch["tasks"], batch.get("moments") or [1] * len(batch["tasks"]), strict=True):
        counts[task] += moments
    for task, count in counts.items():
        length = model.length(task)
        total += count * llm_flops(weights, length, depth=language.depth, dim=language.dim, length=length)
    total += 6.0 * _size(model.connector.parameters()) * patches * counts.total()
    if "images" in batch:
        total += 2.0 * _size(model.encoder.parameters()) * patches * counts.total()
    return total


def gaze_target(points: np.ndarray, config: TrainConfig) -> np.ndarray:
    """The heatmap (size, size) of a sample's first annotation."""
    return encode((float(points[0, 0]), float(points[0, 1])), config.model.heatmap_size, config.model.heatmap_sigma)


def _size(parameters: Iterable[torch.Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)
