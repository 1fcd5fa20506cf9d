"""What can a linear layer read from frozen features?   python -m training.studies probes PRESET --data ROOT --out DIR

A linear classifier per question with labels, on pooled features that are cached: paper section 3.3, table 5.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sf_ros.core.tasks import TASKS
from training import evaluate, metrics, start, train
from training.config import TrainConfig, preset
from training.joint import CachedData
from training.overrides import with_fields
from training.studies import fused, report
from training.studies.grid import Cell, StudyArguments, run_grid
from training.studies.linear import fit_probe, pooled

QUESTIONS = tuple(name for name, spec in TASKS.items() if spec.kind == "label")


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """Command line of the probes. They stop early on 'val'; --split test is scored on samples they never saw."""

    split: str = "test"
    epochs: int = 200  # at most
    patience: int = 10  # epochs without a lower loss on 'val'


def run(arguments: Arguments) -> dict[str, Any]:
    """Run what is missing and write results.json, table.md, picture.png."""
    config = with_fields(preset(arguments.preset), arguments.set)
    cells = [cell(task, seed, arguments, config) for seed in arguments.seed_numbers for task in QUESTIONS]
    records = run_grid("probes", cells, arguments.out)
    figures = fused.by_group({cell.name: config.model.encoder.name for cell in cells}, records)
    columns = [name for name in fused.PAPER_FIGURES if name.split()[0] in QUESTIONS]
    rows = [report.spread_row(group, values, columns) for group, values in figures.items()]
    table = report.markdown(("encoder", *columns), rows)
    return report.write(arguments.out, "probes", arguments, records, table, figures)


def cell(task: str, seed: int, arguments: Arguments, config: TrainConfig) -> Cell:
    """One question, one seed."""
    limits = {"epochs": arguments.epochs, "patience": arguments.patience}
    settings = {"task": task, "seed": seed, **arguments.held_out, **limits, "config": config.to_dict()}
    return Cell(f"{task}-seed{seed}", settings, functools.partial(probe, task, seed, arguments, config))


def probe(task: str, seed: int, arguments: Arguments, config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Train and score one probe; it is over in seconds and leaves nothing in its folder but the facts."""
    model, *_ = start.frozen(config, arguments.shared / "pretraining")
    sets = {
        "train": train.dataset(arguments.data, config, task),
        **{
            split: evaluate.held_out(arguments.data, split, task, arguments.samples)
            for split in ("val", arguments.split)
        },
    }
    inputs, labels = {}, {}
    for split, samples in sets.items():
        data = train.task_data(model, config, samples, "features", arguments.shared / "cache")
        assert isinstance(data, CachedData)
        inputs[split], labels[split] = pooled(data), torch.from_numpy(np.asarray(data.views.labels))
    fitted = fit_probe(
        (inputs["train"], labels["train"]), (inputs["val"], labels["val"]), len(TASKS[task].labels),
        seed=seed, epochs=arguments.epochs, patience=arguments.patience,
    )  # fmt: skip
    with torch.no_grad():
        probabilities = fitted.layer(inputs[arguments.split]).softmax(-1).numpy()
    truth = labels[arguments.split].numpy()
    scores = {
        "samples": len(truth),
        "metrics": metrics.label_metrics(task, probabilities, truth),
        "chance": metrics.label_chance(truth, len(TASKS[task].labels)),
    }
    counts = {split: len(values) for split, values in labels.items()}
    return {"scores": {task: scores}, "samples": counts, "epochs": fitted.epochs}
