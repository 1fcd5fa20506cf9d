"""What can a linear layer read from frozen features?   python -m training.studies probes PRESET --data ROOT --out DIR

A linear classifier per question with labels, on pooled features that are cached: paper section 3.3, table 5. With
--encoders pairs the towers of PRESET's pairs are probed, before and after VLM pre-training. The paper says only that
its probes are linear; `mean` pools all patches, beside the marked ones where a question marks boxes, and `attentive`
learns where to look.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sf_ros.core.config import known
from sf_ros.core.tasks import TASKS
from training import evaluate, train
from training.config import PRESETS, TrainConfig, preset
from training.evaluation import metrics, published_results
from training.model import start
from training.overrides import with_fields
from training.studies.grid import fused, report
from training.studies.grid.grid import Cell, run_grid
from training.studies.probing import towers
from training.studies.probing.attentive import fit_attentive, logits
from training.studies.probing.linear import fit_probe, pooled
from training.trainer.objective import CachedData

QUESTIONS = tuple(name for name, spec in TASKS.items() if spec.kind == "label")
POOLINGS = ("mean", "attentive")
PAIRS = "pairs"  # --encoders: the towers of PRESET's pairs
PAPERS = (
    "The paper's figures are of validation splits, of probes whose pooling, optimiser and stopping it does not say. "
    "Hold differences within a pair against its differences, not figures against its figures."
)


@dataclass(frozen=True)
class Arguments(towers.TowerArguments):
    """Command line of the probes. They stop early on 'val'; --split test is scored on samples they never saw."""

    split: str = "test"
    epochs: int = 200  # at most
    patience: int = 10  # epochs without a lower loss on 'val'
    pooling: str = "mean"  # mean | attentive
    encoders: str = ""  # 'pairs': every tower of PRESET's pairs; or presets with commas between; none: PRESET's alone


def run(arguments: Arguments) -> dict[str, Any]:
    """Run what is missing and write results.json, table.md, picture.png."""
    known(arguments.pooling, POOLINGS, "pooling")
    presets = presets_of(arguments)
    cells, groups = [], {}
    for seed in arguments.seed_numbers:
        for name in presets:
            told = towers.told(arguments, name)
            config = with_fields(preset(name), told.set)
            for task in QUESTIONS:
                cells.append(cell(f"{name}-{task}-seed{seed}", task, seed, told, config))
                groups[cells[-1].name] = name
    records = run_grid("probes", cells, arguments.out)
    figures = fused.by_group(groups, records)
    return report.write(arguments.out, "probes", arguments, records, table(figures, presets), figures)


def presets_of(arguments: Arguments) -> tuple[str, ...]:
    """The presets whose encoders are probed."""
    if arguments.encoders == PAIRS:
        return towers.presets_of(arguments)
    names = arguments.encoders.split(",") if arguments.encoders else [arguments.preset]
    return tuple(dict.fromkeys(known(name, PRESETS, "preset") for name in names))


def table(figures: report.Figures, presets: tuple[str, ...]) -> str:
    """Complete pairs with their differences, other encoders, chance; below them, where there are pairs, table 5."""
    pairs = [pair for pair in towers.ALL if {pair.before, pair.after} <= set(presets)]
    rows = towers.comparison(figures, pairs, published_results.PROBED)
    if not pairs:
        return report.markdown(("", "encoder", *published_results.PROBED), rows)
    for name, figures_of_pair in published_results.PROBES.items():
        before, after = (np.array(values) / 100 for values in figures_of_pair)
        rows.append([f"paper, {name}", "before", *(f"{value:.3f}" for value in before)])
        rows.append([f"paper, {name}", "after", *(f"{value:.3f}" for value in after)])
        rows.append([f"paper, {name}", "after - before", *(f"{value:+.3f}" for value in after - before)])
    return f"{report.markdown(('pair', 'encoder', *published_results.PROBED), rows)}\n\n{towers.notes(pairs, PAPERS)}"


def cell(name: str, task: str, seed: int, arguments: Arguments, config: TrainConfig) -> Cell:
    """One encoder, one question, one seed."""
    limits = {"epochs": arguments.epochs, "patience": arguments.patience, "pooling": arguments.pooling}
    settings = {"task": task, "seed": seed, **arguments.held_out, **limits, "config": config.to_dict()}
    return Cell(name, settings, functools.partial(probe, task, seed, arguments, config))


def probe(task: str, seed: int, arguments: Arguments, config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Train and score one probe; it leaves nothing in its folder but the facts."""
    data = sets(task, arguments, config)
    limits = {"seed": seed, "epochs": arguments.epochs, "patience": arguments.patience}
    classes, held_out = len(TASKS[task].labels), data[arguments.split]
    if arguments.pooling == "mean":
        pool = {split: pooled(part) for split, part in data.items()}
        train_on, stop_on = ((pool[s], torch.from_numpy(np.asarray(data[s].views.labels))) for s in ("train", "val"))
        linear = fit_probe(train_on, stop_on, classes, **limits)
        epochs, found = linear.epochs, linear.layer(pool[arguments.split]).detach()
    else:
        attentive = fit_attentive(data["train"], data["val"], classes, **limits)
        epochs, found = attentive.epochs, logits(attentive.layer, held_out)
    truth = np.asarray(held_out.views.labels)
    scores = {
        "samples": len(truth),
        "metrics": metrics.label_metrics(task, found.softmax(-1).numpy(), truth),
        "chance": metrics.label_chance(truth, classes),
    }
    return {"scores": {task: scores}, "samples": {split: len(part) for split, part in data.items()}, "epochs": epochs}


def sets(task: str, arguments: Arguments, config: TrainConfig) -> Mapping[str, CachedData]:
    """Training, validation and scored split of a question with features. ValueError where labels are hidden."""
    model, *_ = start.frozen(config, arguments.shared / "pretraining")
    samples = {
        "train": train.dataset(arguments.data, config, task),
        **{
            split: evaluate.held_out(arguments.data, split, task, arguments.samples)
            for split in ("val", arguments.split)
        },
    }
    data = {}
    for split, part in samples.items():
        found = train.task_data(model, config, part, "features", arguments.shared / "cache")
        assert isinstance(found, CachedData)
        if (np.asarray(found.views.labels) < 0).any():
            raise ValueError(f"The labels of '{split}' of '{task}' are hidden; score --split val.")
        data[split] = found
    return data
