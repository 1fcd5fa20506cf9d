"""Cells that train any candidate of training.baselines as the paper trains them all, and score it as all are scored.

The mixture is the paper's (section 3.2): sets undersampled to the smallest, text questions mixed within batches, gaze
in batches of its own between them. Steps, batch, learning rate and precision are those of the preset's joint stage.
Samples are read when they are wanted; a run killed at any moment ends as an unbroken one would.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState
from torch import nn

from sf_ros.core.config import NotAvailable
from sf_ros.core.tasks import TASKS
from training import evaluate, train
from training.baselines.interface import Candidate, save_trained
from training.baselines.vlm import Vlm
from training.config import TrainConfig
from training.data.augment import augment
from training.data.cache import Dataset
from training.data.mixture import BatchOrder
from training.studies.grid import fused
from training.studies.grid.grid import Cell
from training.trainer import checkpoint, curves, loop
from training.trainer.objective import readable_sample
from training.trainer.throughput import Throughput

# Fields of TrainConfig that a candidate's training depends on; the others shape the fused model.
USED = ("joint", "samples", "factors", "mixed", "seed", "data_seed", "precision", "augment")
UNUSED = ("pcgrad", "uncertainty", "checkpoint_activations", "moments")  # have no meaning here unless switched off
STATE, TRAINED = "joint", "checkpoint"  # folders of a cell

Make = Callable[[], Candidate]  # fresh; WeightsError or NotAvailable where it cannot be made


def configured(told: fused.Arguments, tasks: Sequence[str], seed: int) -> TrainConfig:
    """The preset with the command line's changes. ValueError for those that it refuses or that nothing would obey."""
    command = train.Arguments(
        told.preset, told.data, told.out, steps=told.steps, tasks=",".join(tasks), seed=seed, set=told.set
    )
    config = train.configured(command)
    for field in UNUSED:
        if getattr(config, field) != TrainConfig.__dataclass_fields__[field].default:
            raise NotAvailable(f"{field} is the fused model's; other models are trained without it. Leave it out.")
    return config


def cell(
    name: str, told: fused.Arguments, tasks: Sequence[str], config: TrainConfig, make: Make, model: Mapping[str, Any]
) -> Cell:
    """Train a candidate on some questions, score it on the same; `model`: what its figures depend on besides."""
    used = {field: value for field, value in config.to_dict().items() if field in USED}
    settings = {"tasks": list(tasks), "seed": config.seed, **told.held_out, "model": dict(model), "config": used}
    run = functools.partial(train_and_score, told, config, tuple(tasks), make)
    return Cell(name, settings, run, scratch=() if told.keep else (STATE, TRAINED))


def train_and_score(
    told: fused.Arguments, config: TrainConfig, tasks: Sequence[str], make: Make, folder: Path
) -> dict[str, Any]:
    """What training and evaluation say of one run."""
    datasets = {task: train.dataset(told.data, config, task) for task in tasks}
    candidate = make()
    facts = fit(candidate, datasets, config, folder, workers=0 if told.data == "scenes" else 2)
    return {"training": facts, "scores": scores(candidate, told, tasks)}


def fit(
    candidate: Candidate, datasets: Mapping[str, Dataset], config: TrainConfig, folder: Path, *, workers: int = 0,
    stop_after: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train what is trainable of a candidate, going on where `folder` has a state; what is to be known of the run."""
    assert isinstance(candidate, nn.Module)
    state = PartialState()
    speed, broken = Throughput(state.device), dict[str, None]()

    def loss(batch: Mapping[str, Any]) -> loop.Losses:
        broken.update(dict.fromkeys(batch["broken"]))
        return candidate.loss(batch["samples"])

    history = loop.fit(
        "candidate", candidate, loss, config.joint, folder / STATE, precision=config.precision, seed=config.seed,
        save_every=config.save_every, batches=SampleBatches(datasets, config, state.process_index, state.num_processes),
        workers=workers, speed=speed, stop_after=stop_after,
    )  # fmt: skip
    if state.is_main_process:
        curves.plot({"joint": history}, folder / "curves.png")
        save_trained(candidate, folder / TRAINED / "trained.safetensors")
    return {
        "steps": config.joint.steps,
        "samples": {task: len(part) for task, part in datasets.items()},
        "left_out": {task: train.left_out(part) for task, part in datasets.items() if train.left_out(part)},
        "broken": list(broken)[:20],
        "trainable_parameters": checkpoint.trainable_parameters(candidate),
        "seconds": round(loop.state.seconds(folder / STATE)),  # over all its stretches
        "seconds_per_step": speed.seconds_per_step,
        "loss": {key: value for entry in history[-50:] for key, value in entry.items()},
        "versions": checkpoint.versions(),
    }


def scores(candidate: Candidate, told: fused.Arguments, tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What training.evaluate finds, by its own metrics."""
    results: dict[str, dict[str, Any]] = {}
    for task in tasks:
        broken: list[str] = []
        dataset = evaluate.held_out(told.data, told.split, task, told.samples)
        results[task] = evaluate.score(task, candidate.answer, evaluate.read(dataset, broken))
        if isinstance(candidate, Vlm) and TASKS[task].kind == "heatmap":
            without_ranking(results[task])
            results[task]["unreadable"] = candidate.malformed
        if broken:
            results[task]["skipped"] = {"samples": len(broken), "first": broken[0]}
    return results


def without_ranking(result: dict[str, Any]) -> None:
    """Take AUC out of the scores of written points: they rank no pixels (paper section 4.1)."""
    for part in ("metrics", "chance", "target_after_head", "target_before_head"):
        result.get(part, {}).pop("AUC", None)


@dataclasses.dataclass
class SampleBatches:
    """Batches of samples, by number; of each the part that this process computes at this time."""

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
