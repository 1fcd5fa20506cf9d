"""Time saved by cached features:  python -m training.studies caching PRESET --data ROOT --out DIR

Steps of the joint stage and epochs of a linear probe, with cached features and with the encoder, alternating on the
same batches so that other load on the machine affects both. Wall and CPU time of this process are measured. Without
--start the frozen parts are almost untrained, which does not change the times.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from sf_ros.core.cues import TASKS
from sf_ros.core.views import normalise
from sf_ros.model.fusion import FusedModel
from training import train
from training.config import TrainConfig, preset
from training.data.cache import frozen_features
from training.data.columns import CachedData
from training.data.inputs import Batch, Views
from training.model import start
from training.model.lora import attach
from training.overrides import with_fields
from training.studies.grid import report
from training.studies.grid.arguments import StudyArguments
from training.studies.grid.cells import Cell, run_grid
from training.studies.measures.linear_probe import fit_probe, pool, pooled
from training.trainer import loop
from training.trainer.joint import JointBatches, set_training
from training.trainer.objective import joint_losses

T = TypeVar("T")
# Shortest pre-training, used without --start.
MINIMAL_PRETRAINING = ("encoder.steps=1", "llm.steps=1", "scenes=50", "compile=false")
PROBED = "expression"
KINDS = CACHED, UNCACHED = "cached", "uncached"


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """Command line of the measurement; `samples` is the size of each task's training set."""

    samples: int = 128
    rounds: int = 40  # steps with and without cache each
    probe_rounds: int = 5  # probes with and without cache each


@dataclass(frozen=True)
class Seconds:
    """Duration of a call in seconds."""

    clock: float  # wall clock
    cpu: float  # of all threads of this process


def run(arguments: Arguments) -> dict[str, Any]:
    """Run the missing cells and write results.json, table.md, plot.png."""
    pretraining = MINIMAL_PRETRAINING if arguments.start is None and preset(arguments.preset).encoder else ()
    fields = (*pretraining, *arguments.set, f"samples={arguments.samples}", "factors={}")
    config = with_fields(preset(arguments.preset), fields)
    cells = [
        Cell(
            name,
            {**rounds, "data": arguments.data, "config": config.to_dict()},
            functools.partial(measure, arguments, config),
        )
        for name, rounds, measure in (
            ("step", {"rounds": arguments.rounds}, measure_steps),
            ("probe", {"rounds": arguments.probe_rounds}, measure_probe),
        )
    ]
    records = run_grid("caching", cells, arguments.out)
    figures: dict[str, dict[str, list[float]]] = {}
    rows = []
    for record in records:
        for group, seconds in record.facts.get("seconds", {}).items():
            figures.setdefault(group, {}).update(
                {f"{record.cell}, {clock} ms": [1_000 * s for s in seconds[clock]] for clock in seconds}
            )
        rows += [[record.cell, name, f"{value:.4g}"] for name, value in record.facts.get("figures", {}).items()]
    table = report.markdown(("measured", "figure", "value"), rows)
    return report.write(arguments.out, "caching", arguments, records, table, figures)


def measure_steps(arguments: Arguments, config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Measure alternating steps of the joint stage and the encoder's share, and compare the features of both."""
    model, *_ = start.frozen(config, arguments.shared / "pretraining")
    set_training(attach(model, config.lora_rank, config.lora_alpha), config)
    cached = {task: cached_data(arguments, config, model, task) for task in TASKS}
    uncached = {task: replace(data, features=None) for task, data in cached.items()}
    batches = {CACHED: JointBatches(cached, config), UNCACHED: JointBatches(uncached, config)}
    optimizers = loop.build_optimizers(model, config.joint)
    seconds: dict[str, list[Seconds]] = {CACHED: [], UNCACHED: [], "encoder": []}
    equal_shares, differences, same_inputs = [], [], True
    for number in range(arguments.rounds + 1):
        batch: dict[str, Batch] = {}
        for kind in (CACHED, UNCACHED) if number % 2 else (UNCACHED, CACHED):
            whole, encoder, batch[kind] = step(model, optimizers, batches[kind], number, config)
            if number:  # the first step warms up
                seconds[kind].append(whole)
                seconds["encoder"] += [encoder] if kind == UNCACHED else []
        cached_features, features = (torch.cat([part.flatten() for part in features_of(batch[k])]) for k in KINDS)
        equal_shares.append(float((cached_features == features).float().mean()))
        differences.append(float((cached_features - features).abs().max()))
        for name in ("masks", "labels"):
            same_inputs = same_inputs and torch.equal(getattr(batch[CACHED], name), getattr(batch[UNCACHED], name))
    return {"seconds": as_lists(seconds), "figures": {
        **savings(seconds),
        "same masks and labels": float(same_inputs),
        "share of features the same to the bit": float(np.mean(equal_shares)),
        "largest difference of a feature": max(differences),
    }}  # fmt: skip


def step(
    model: FusedModel, optimizers: list[torch.optim.Optimizer], batches: JointBatches, number: int, config: TrainConfig
) -> tuple[Seconds, Seconds, Batch]:
    """Run one optimiser step; returns its duration, the encoder's share of it, and the batch with its features."""

    def work() -> tuple[Seconds, Batch]:
        batch, encoder = batches[number], Seconds(0.0, 0.0)

        def encoded(views: Views | None) -> Views | None:
            nonlocal encoder
            if views is None or views.images is None:
                return views
            spent, features = timed(functools.partial(frozen_features, model.encode, views.images))
            encoder = Seconds(encoder.clock + spent.clock, encoder.cpu + spent.cpu)
            return Views(features=features.float())

        batch = replace(batch, frames=encoded(batch.frames), crops=encoded(batch.crops))
        with torch.autocast("cpu", torch.bfloat16, enabled=loop.mixed_precision(config) == "bf16"):
            losses = joint_losses(model, batch, config)
        torch.stack(list(losses.values())).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return encoder, batch

    whole, (encoder, batch) = timed(work)
    return whole, encoder, batch


def features_of(batch: Batch) -> list[Tensor]:
    """The features of a batch's frames and crops."""
    return [views.features for views in (batch.frames, batch.crops) if views and views.features is not None]


def measure_probe(arguments: Arguments, config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Measure alternating epochs of a linear probe on cached features and on features encoded anew."""
    model, *_ = start.frozen(config, arguments.shared / "pretraining")
    data = cached_data(arguments, config, model, PROBED)
    labels = torch.from_numpy(np.asarray(data.labels))

    def encode_and_pool() -> Tensor:
        parts = np.array_split(np.arange(len(data)), max(1, len(data) // config.joint.batch_size))
        assert data.views is not None
        batches = (torch.from_numpy(normalise(np.asarray(data.views[p]), config.model.encoder)) for p in parts)
        return torch.cat([pool(frozen_features(model.encoder, images).float(), None) for images in batches])

    def epoch(inputs: Callable[[], Tensor]) -> None:
        examples = (inputs(), labels)
        fit_probe(examples, examples, len(TASKS[PROBED].labels), seed=0, epochs=1, patience=1)

    seconds: dict[str, list[Seconds]] = {CACHED: [], UNCACHED: []}
    for number in range(arguments.probe_rounds + 1):
        for kind, inputs in ((CACHED, lambda: pooled(data)), (UNCACHED, encode_and_pool)):
            duration, _ = timed(functools.partial(epoch, inputs))
            if number:
                seconds[kind].append(duration)
    faster = {
        f"times faster, {clock}": median(seconds[UNCACHED], clock) / median(seconds[CACHED], clock)
        for clock in ("clock", "cpu")
    }
    return {"seconds": as_lists(seconds), "figures": {"samples": float(len(data)), **faster}}


def cached_data(arguments: Arguments, config: TrainConfig, model: FusedModel, task: str) -> CachedData:
    """A task's training set with features."""
    samples = train.training_set(arguments.data, config, task)
    data = train.task_data(model, config, samples, "features", arguments.shared / "cache")
    assert isinstance(data, CachedData)
    return data


def savings(seconds: dict[str, list[Seconds]]) -> dict[str, float]:
    """Median times and median saving of paired steps in milliseconds, and the saving relative to the encoder's time."""
    figures: dict[str, float] = {}
    for clock in ("clock", "cpu"):
        pairs = zip(seconds[UNCACHED], seconds[CACHED], strict=True)
        saved = float(np.median([getattr(slow, clock) - getattr(fast, clock) for slow, fast in pairs]))
        encoder = median(seconds["encoder"], clock)
        figures |= {f"{kind} step, {clock} ms": 1_000 * median(seconds[kind], clock) for kind in (CACHED, UNCACHED)}
        figures |= {f"encoder, {clock} ms": 1_000 * encoder, f"saving, {clock} ms": 1_000 * saved}
        figures |= {f"saving / encoder, {clock}": saved / encoder}
    return figures


def median(seconds: list[Seconds], clock: str) -> float:
    """Median wall or CPU time."""
    return float(np.median([getattr(duration, clock) for duration in seconds]))


def as_lists(seconds: dict[str, list[Seconds]]) -> dict[str, dict[str, list[float]]]:
    """Kind -> clock | cpu -> all measured values, as JSON data."""
    return {
        kind: {clock: [getattr(duration, clock) for duration in durations] for clock in ("clock", "cpu")}
        for kind, durations in seconds.items()
    }


def timed(work: Callable[[], T]) -> tuple[Seconds, T]:
    """The duration of a call and its result."""
    clock, cpu = time.perf_counter(), time.process_time()
    result = work()
    return Seconds(time.perf_counter() - clock, time.process_time() - cpu), result
