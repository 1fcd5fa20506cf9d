"""Cells that train a baseline of training.baselines on the paper's mixture and score it like every other model.

The mixture is the paper's (section 3.2): datasets undersampled to the smallest, text tasks mixed within batches, gaze
in batches of its own between them. Steps, batch, learning rate and precision are those of the preset's joint stage.
Samples are read as they are needed. A run that is killed and resumed gives the results of an unbroken one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from torch import nn

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import NotAvailable
from training import train
from training.baselines.interface import Baseline, save_trained
from training.baselines.vlm import Vlm
from training.config import TrainConfig
from training.data.augment import augment
from training.data.mixture import BatchOrder
from training.data.sample import Dataset
from training.data.source import left_out, open_source
from training.data.task_data import readable_sample
from training.evaluation.score import read, score
from training.studies.grid.arguments import TrainingArguments
from training.studies.grid.cells import Cell
from training.studies.grid.hidden import visible
from training.trainer import checkpoint, curves
from training.trainer import state as saved
from training.trainer.loop import Trainer
from training.trainer.objective import Losses
from training.trainer.throughput import Throughput

# Fields of TrainConfig that a baseline's training depends on; the others shape the fused model.
USED = ("joint", "samples", "factors", "mixed", "seed", "data_seed", "precision", "augment")
FUSED_ONLY = ("pcgrad", "uncertainty", "checkpoint_activations", "moments")  # refused unless at their defaults
STATE, TRAINED = "joint", "checkpoint"  # folders of a cell

Build = Callable[[], Baseline]  # builds a fresh model; WeightsError or NotAvailable where it cannot


def baseline_config(arguments: TrainingArguments, tasks: Sequence[str], seed: int) -> TrainConfig:
    """The preset with the command line's changes. ValueError for invalid fields and for those without effect here."""
    command = train.Arguments(
        arguments.preset, arguments.data, arguments.out, steps=arguments.steps, tasks=",".join(tasks), seed=seed,
        set=arguments.set,
    )  # fmt: skip
    config = train.configured(command)
    for field in FUSED_ONLY:
        if getattr(config, field) != TrainConfig.__dataclass_fields__[field].default:
            raise NotAvailable(f"{field} is for the fused model; other models are trained without it. Leave it out.")
    return config


def baseline_cell(
    name: str,
    arguments: TrainingArguments,
    tasks: Sequence[str],
    config: TrainConfig,
    build: Build,
    model: Mapping[str, Any],
) -> Cell:
    """A cell that trains a baseline on some tasks and scores it on the same; `model` identifies it in the settings."""
    used = {field: value for field, value in config.to_dict().items() if field in USED}
    settings = {"tasks": list(tasks), "seed": config.seed, **arguments.held_out, "model": dict(model), "config": used}
    run = functools.partial(train_and_score, arguments, config, tuple(tasks), build)
    return Cell(name, settings, run, () if arguments.keep else (STATE, TRAINED), arguments.read_by(tasks, "train"))


def train_and_score(
    arguments: TrainingArguments, config: TrainConfig, tasks: Sequence[str], build: Build, folder: Path
) -> dict[str, Any]:
    """Results of training and of evaluation of one run, on the tasks whose labels the scored split shows."""
    scored = visible(arguments, tasks)
    datasets = {task: train.training_set(arguments.data, config, task) for task in tasks}
    baseline = build()
    facts = fit(baseline, datasets, config, folder, workers=open_source(arguments.data).workers)
    return {"training": facts, "scores": baseline_scores(baseline, arguments, scored)}


def fit(
    baseline: Baseline, datasets: Mapping[str, Dataset], config: TrainConfig, folder: Path, *, workers: int = 0,
    stop_after: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train a baseline's trainable weights, resuming from a state in `folder`; returns the facts of the run."""
    assert isinstance(baseline, nn.Module)
    state = PartialState()
    throughput, broken = Throughput(state.device), dict[str, None]()

    def objective(trained: Baseline, batch: Mapping[str, Any]) -> Losses:
        broken.update(dict.fromkeys(batch["broken"]))
        return trained.loss(batch["samples"])

    batches = SampleBatches(datasets, config, state.process_index, state.num_processes)
    trainer = Trainer.of("baseline", config, config.joint, folder / STATE, workers=workers, stop_after=stop_after)
    history = trainer.fit(baseline, batches, objective, throughput=throughput)
    if state.is_main_process:
        curves.plot({"joint": history}, folder / "curves.png")
        save_trained(baseline, folder / TRAINED / "trained.safetensors")
    return {
        "steps": config.joint.steps,
        "samples": {task: len(part) for task, part in datasets.items()},
        "left_out": {task: left_out(part) for task, part in datasets.items() if left_out(part)},
        "broken": list(broken)[:20],
        "trainable_parameters": checkpoint.trainable_parameters(baseline),
        "seconds": round(saved.seconds(folder / STATE)),  # including the time before interruptions
        "seconds_per_step": throughput.seconds_per_step,
        "loss": {key: value for entry in history[-50:] for key, value in entry.items()},
        "versions": checkpoint.versions(),
    }


def baseline_scores(
    baseline: Baseline, arguments: TrainingArguments, tasks: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Results by the metrics of training.evaluate; `unreadable` counts written gaze points that could not be parsed."""
    results: dict[str, dict[str, Any]] = {}
    for task in tasks:
        broken: list[str] = []
        dataset = open_source(arguments.data).samples(task, arguments.split, count=arguments.samples)
        results[task] = score(task, baseline.answer, read(dataset, broken))
        if isinstance(baseline, Vlm) and TASKS[task].kind == "heatmap":
            remove_auc(results[task])
            results[task]["unreadable"] = baseline.malformed
        if broken:
            results[task]["skipped"] = {"samples": len(broken), "first": broken[0]}
    return results


def remove_auc(result: dict[str, Any]) -> None:
    """Remove AUC from the scores of written points, which rank no pixels (paper section 4.1)."""
    for part in ("metrics", "chance", "target_after_head", "target_before_head"):
        result.get(part, {}).pop("AUC", None)


@dataclasses.dataclass
class SampleBatches:
    """Batches of samples by number; each item is the part of a batch that this process computes at one time."""

    datasets: Mapping[str, Dataset]
    config: TrainConfig
    process: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        sizes = {task: len(part) for task, part in self.datasets.items()}
        self._order = BatchOrder(sizes, self.config, self.process, self.processes)

    def __getitem__(self, number: int) -> dict[str, Any]:
        part = self._order.part(number)
        read = [readable_sample(self.datasets[task], index) for task, index in part.elements]
        samples = [
            augment(sample, self.config.augment, generator)
            for (sample, _), generator in zip(read, part.generators, strict=True)
        ]
        return {"samples": samples, "broken": [text for _, faults in read for text in faults]}
