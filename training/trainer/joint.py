"""Joint training of connector, box embedding, heatmap head and adapters over the tasks (paper section 3.2)."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
from accelerate import PartialState
from torch import nn

from sf_ros.core.fields import NotAvailable
from sf_ros.model.fusion import FusedModel
from training.config import TrainConfig
from training.data.inputs import Batch, collate
from training.data.mixture import BatchOrder
from training.data.task_data import TaskData
from training.trainer.gradients import ProjectedGradients
from training.trainer.loop import Trainer, summed_backward
from training.trainer.objective import Losses, joint_losses
from training.trainer.state import History
from training.trainer.throughput import Throughput, batch_flops
from training.trainer.weighting import UncertaintyWeights

LOG_VARIANCES = "log_variances.json"


class JointBatches:
    """Batches by number; of each, the part that this process computes."""

    def __init__(self, data: Mapping[str, TaskData], config: TrainConfig, process: int = 0, processes: int = 1) -> None:
        self._data, self._config = data, config
        sizes = {task: len(part) for task, part in data.items()}
        images = None
        if config.model.shared_prefix:
            images = {task: [part.image(index) for index in range(len(part))] for task, part in data.items()}
        self._order = BatchOrder(sizes, config, process, processes, images)

    def __getitem__(self, number: int) -> Batch:
        part = self._order.part(number)
        inputs = [
            self._data[task].inputs(index, generator)
            for (task, index), generator in zip(part.elements, part.generators, strict=True)
        ]
        return collate(inputs, [task for task, _ in part.elements], self._config.model, part.llm_runs)


def fit_joint(
    model: FusedModel,
    data: Mapping[str, TaskData],
    config: TrainConfig,
    out: Path,
    *,
    workers: int = 0,
    tracker: str | None = None,
    validate: Callable[[], Mapping[str, float]] | None = None,
    throughput: Throughput | None = None,
    stop_after: int | None = None,
) -> tuple[History, list[str]]:
    """Train the trainable parts of a model with adapters; the loss history, and the errors of unreadable samples.

    `validate` gives scores for the history (training.trainer.validation). Uncertainty weighting writes LOG_VARIANCES
    into `out`. NotAvailable for PCGrad or uncertainty weighting in several processes.
    """
    state = PartialState()
    for name in ("pcgrad", "uncertainty"):  # both work by task, and each process sees other tasks
        if getattr(config, name) and state.num_processes > 1:
            raise NotAvailable(f"{name}=True works in one process in this version; launch a single one.")
    weights = UncertaintyWeights(tuple(data)) if config.uncertainty else None
    module = model if weights is None else nn.ModuleDict({"model": model, "weights": weights})
    broken: dict[str, None] = {}

    def objective(trained: nn.Module, batch: Batch) -> Losses:
        broken.update(dict.fromkeys(batch.broken))
        if isinstance(trained, nn.ModuleDict):
            fused, uncertainty = cast(FusedModel, trained["model"]), cast(UncertaintyWeights, trained["weights"])
            return joint_losses(fused, batch, config, uncertainty)
        return joint_losses(cast(FusedModel, trained), batch, config)

    set_training(model, config)
    trainer = Trainer.of("joint", config, config.joint, out, workers=workers, tracker=tracker, stop_after=stop_after)
    history = trainer.fit(
        module,
        JointBatches(data, config, state.process_index, state.num_processes),
        objective,
        validate=validate,
        backward=ProjectedGradients([p for p in module.parameters() if p.requires_grad])
        if config.pcgrad
        else summed_backward,
        throughput=throughput or Throughput(state.device, functools.partial(batch_flops, model)),
    )
    if weights is not None and state.is_main_process:
        (out / LOG_VARIANCES).write_text(json.dumps(weights.to_dict()))
    return history, list(broken)


def set_training(model: FusedModel, config: TrainConfig) -> None:
    """Put the LLM of a model with adapters into training mode, with the attention and memory use that suit it."""
    if not torch.cuda.is_available():
        model.llm.base_model.model.set_attn_implementation("eager")  # on a CPU nearly twice as fast to train as sdpa
    if config.checkpoint_activations:
        model.llm.gradient_checkpointing_enable({"use_reentrant": False})
    model.llm.train()
