"""What do cached features save, are they the same?   python -m training.studies caching PRESET --data ROOT --out DIR

Steps of the joint stage, and epochs of a linear probe, with features from the cache and with the encoder at work, by
turns on the same batches, so that whatever else the machine does falls on both. Time is this process's CPU time besides
the clock's. Without --start the frozen parts are as good as random, which changes no time.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from sf_ros.core.tasks import TASKS
from sf_ros.core.views import normalise
from sf_ros.model.fusion import FusedModel
from training import train
from training.config import TrainConfig, preset
from training.data.cache import frozen_features
from training.model import start
from training.model.lora import attach
from training.overrides import with_fields
from training.studies.grid import report
from training.studies.grid.grid import Cell, StudyArguments, run_grid
from training.studies.probing.linear import fit_probe, pool, pooled
from training.trainer import loop
from training.trainer.objective import CachedData, JointBatches, batch_losses, set_training

T = TypeVar("T")
# Pre-training where nothing is given to start from.
BARELY = ("encoder.steps=1", "llm.steps=1", "scenes=50", "compile=false")
PROBED = "expression"
CACHED, UNCACHED = "cached", "uncached"


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """Command line of the measurement; `samples` are those of a question's training set."""

    samples: int = 128
    rounds: int = 40  # steps of each kind
    probe_rounds: int = 5  # probes of each kind


@dataclass(frozen=True)
class Seconds:
    """How long something took."""

    clock: float
    cpu: float  # of all threads of this process


def run(arguments: Arguments) -> dict[str, Any]:
    """Measure what is not measured yet and write results.json, table.md, picture.png."""
    pretraining = BARELY if arguments.start is None and preset(arguments.preset).encoder else ()
    fields = (*pretraining, *arguments.set, f"samples={arguments.samples}", "factors={}")
    config = with_fields(preset(arguments.preset), fields)
    cells = [
        Cell(
            name,
            {**told, "data": arguments.data, "config": config.to_dict()},
            functools.partial(measure, arguments, config),
        )
        for name, told, measure in (
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
    """Steps of the joint stage by turns, the encoder's part in those without cache, and the features of both."""
    model, *_ = start.frozen(config, arguments.shared / "pretraining")
    set_training(attach(model, config.lora_rank, config.lora_alpha), config)
    cached = {task: cached_data(arguments, config, model, task) for task in TASKS}
    uncached = {task: CachedData(data.views) for task, data in cached.items()}
    batches = {CACHED: JointBatches(cached, config), UNCACHED: JointBatches(uncached, config)}
    optimizers = loop.build_optimizers(model, config.joint)
    taken: dict[str, list[Seconds]] = {CACHED: [], UNCACHED: [], "encoder": []}
    same, differences, inputs = [], [], True
    for number in range(arguments.rounds + 1):
        seen = {}
        for kind in (CACHED, UNCACHED) if number % 2 else (UNCACHED, CACHED):
            whole, encoder, seen[kind] = step(model, optimizers, batches[kind], number, config)
            if number:  # the first step warms up
                taken[kind].append(whole)
                taken["encoder"] += [encoder] if kind == UNCACHED else []
        one, other = seen[CACHED].pop("features"), seen[UNCACHED].pop("features")
        same.append(float((one == other).float().mean()))
        differences.append(float((one - other).abs().max()))
        inputs = inputs and all(torch.equal(seen[CACHED][name], seen[UNCACHED][name]) for name in ("masks", "labels"))
    return {"seconds": listed(taken), "figures": {
        **savings(taken),
        "same masks and labels": float(inputs),
        "share of features the same to the bit": float(np.mean(same)),
        "largest difference of a feature": max(differences),
    }}  # fmt: skip


def step(
    model: FusedModel, optimizers: list[torch.optim.Optimizer], batches: JointBatches, number: int, config: TrainConfig
) -> tuple[Seconds, Seconds, dict[str, Any]]:
    """One step of the optimiser: how long it took, how long the encoder of it, and the batch with its features."""

    def work() -> tuple[Seconds, dict[str, Any]]:
        batch, encoder = batches[number], Seconds(0.0, 0.0)
        if "images" in batch:
            images = batch.pop("images")
            encoder, features = timed(lambda: frozen_features(model.encoder, images))
            batch["features"] = features.float()
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            losses = batch_losses(model, batch, config.heatmap_weight)
        torch.stack(list(losses.values())).sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return encoder, batch

    whole, (encoder, batch) = timed(work)
    return whole, encoder, batch


def measure_probe(arguments: Arguments, config: TrainConfig, folder: Path) -> dict[str, Any]:
    """One epoch of a linear probe by turns, pooling its features from the cache or encoding its pictures."""
    model, *_ = start.frozen(config, arguments.shared / "pretraining")
    data = cached_data(arguments, config, model, PROBED)
    labels = torch.from_numpy(np.asarray(data.views.labels))

    def encoded() -> Tensor:
        parts = np.array_split(np.arange(len(data)), max(1, len(data) // config.joint.batch_size))
        pictures = (torch.from_numpy(normalise(np.asarray(data.views.views[p]), config.model.encoder)) for p in parts)
        return torch.cat([pool(frozen_features(model.encoder, images).float(), None) for images in pictures])

    def epoch(inputs: Callable[[], Tensor]) -> None:
        seen = (inputs(), labels)
        fit_probe(seen, seen, len(TASKS[PROBED].labels), seed=0, epochs=1, patience=1)

    taken: dict[str, list[Seconds]] = {CACHED: [], UNCACHED: []}
    for number in range(arguments.probe_rounds + 1):
        for kind, inputs in ((CACHED, lambda: pooled(data)), (UNCACHED, encoded)):
            seconds, _ = timed(functools.partial(epoch, inputs))
            if number:
                taken[kind].append(seconds)
    faster = {
        f"times faster, {clock}": median(taken[UNCACHED], clock) / median(taken[CACHED], clock)
        for clock in ("clock", "cpu")
    }
    return {"seconds": listed(taken), "figures": {"samples": float(len(data)), **faster}}


def cached_data(arguments: Arguments, config: TrainConfig, model: FusedModel, task: str) -> CachedData:
    """A question's training set with features."""
    samples = train.dataset(arguments.data, config, task)
    data = train.task_data(model, config, samples, "features", arguments.shared / "cache")
    assert isinstance(data, CachedData)
    return data


def savings(taken: dict[str, list[Seconds]]) -> dict[str, float]:
    """Medians in milliseconds, of the differences of paired steps too, and what is saved of the encoder's part."""
    found: dict[str, float] = {}
    for clock in ("clock", "cpu"):
        pairs = zip(taken[UNCACHED], taken[CACHED], strict=True)
        saved = float(np.median([getattr(slow, clock) - getattr(fast, clock) for slow, fast in pairs]))
        encoder = median(taken["encoder"], clock)
        found |= {f"{kind} step, {clock} ms": 1_000 * median(taken[kind], clock) for kind in (CACHED, UNCACHED)}
        found |= {f"encoder, {clock} ms": 1_000 * encoder, f"saving, {clock} ms": 1_000 * saved}
        found |= {f"saving / encoder, {clock}": saved / encoder}
    return found


def median(seconds: list[Seconds], clock: str) -> float:
    """Of one of the two times."""
    return float(np.median([getattr(s, clock) for s in seconds]))


def listed(taken: dict[str, list[Seconds]]) -> dict[str, dict[str, list[float]]]:
    """Kind -> time -> every measured value."""
    rows = {kind: [dataclasses.asdict(s) for s in seconds] for kind, seconds in taken.items()}
    return {kind: {clock: [row[clock] for row in found] for clock in ("clock", "cpu")} for kind, found in rows.items()}


def timed(work: Callable[[], T]) -> tuple[Seconds, T]:
    """How long a call took, and what it returned."""
    clock, cpu = time.perf_counter(), time.process_time()
    result = work()
    return Seconds(time.perf_counter() - clock, time.process_time() - cpu), result
