"""Linear probes on frozen features:  python -m training.studies probes PRESET --data ROOT --out DIR

A linear classifier per label task on pooled cached features (paper section 3.3, table 5). With --encoders pairs the
encoders of PRESET's pairs are probed, before and after VLM pre-training. The paper does not say how its probes pool:
`mean` averages all patches and, for tasks with marked boxes, also the marked ones; `attentive` learns the weights.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from training import train
from training.config import PRESETS, TrainConfig, preset
from training.data.columns import CachedData
from training.data.source import labels_hidden, open_source
from training.evaluation import metrics, published_results
from training.model import start
from training.overrides import with_fields
from training.studies.grid import encoder_pairs, report
from training.studies.grid.cells import Cell, run_grid
from training.studies.grid.encoder_pairs import EncoderPairArguments
from training.studies.grid.figures import Figures, by_group
from training.studies.grid.hidden import with_scores
from training.studies.measures.attentive_probe import attentive_logits, fit_attentive
from training.studies.measures.linear_probe import fit_probe, pooled

LABEL_TASKS = tuple(name for name, spec in TASKS.items() if spec.kind == "label")
POOLINGS = ("mean", "attentive")
PAIRS = "pairs"  # --encoders: the encoders of PRESET's pairs
PAPER_NOTE = (
    "The paper's figures are of validation splits, and it does not give pooling, optimiser and stopping of its probes. "
    "Compare differences within a pair, not single figures."
)


@dataclass(frozen=True)
class Arguments(EncoderPairArguments):
    """Command line of the probes, which stop early on 'val' and are scored on --split."""

    split: str = "test"
    epochs: int = 200  # at most
    patience: int = 10  # epochs without a lower loss on 'val'
    pooling: str = "mean"  # mean | attentive
    encoders: str = ""  # 'pairs': all encoders of PRESET's pairs; or comma-separated presets; empty: PRESET


def run(arguments: Arguments) -> dict[str, Any]:
    """Run the missing cells and write results.json, table.md, plot.png."""
    known(arguments.pooling, POOLINGS, "pooling")
    presets = presets_of(arguments)
    cells, groups = [], {}
    for seed in arguments.seed_numbers:
        for name in presets:
            encoder_arguments = encoder_pairs.for_encoder(arguments, name)
            config = with_fields(preset(name), encoder_arguments.set)
            for task in LABEL_TASKS:
                cells.append(probe_cell(f"{name}-{task}-seed{seed}", task, seed, encoder_arguments, config))
                groups[cells[-1].name] = name
    cells, hidden = with_scores(arguments, cells)
    records = run_grid("probes", cells, arguments.out)
    figures = by_group(groups, records)
    text = "\n\n".join([table(figures, presets), *hidden])
    return report.write(arguments.out, "probes", arguments, records, text, figures)


def presets_of(arguments: Arguments) -> tuple[str, ...]:
    """Presets of the probed encoders."""
    if arguments.encoders == PAIRS:
        return encoder_pairs.presets_of(arguments)
    names = arguments.encoders.split(",") if arguments.encoders else [arguments.preset]
    return tuple(dict.fromkeys(known(name, PRESETS, "preset") for name in names))


def table(figures: Figures, presets: tuple[str, ...]) -> str:
    """Complete pairs with differences, other encoders and chance; then, if there are pairs, the paper's table 5."""
    pairs = [pair for pair in encoder_pairs.ALL if {pair.before, pair.after} <= set(presets)]
    rows = encoder_pairs.pair_rows(figures, pairs, published_results.PROBED)
    if not pairs:
        return report.markdown(("", "encoder", *published_results.PROBED), rows)
    for name, figures_of_pair in published_results.PROBES.items():
        before, after = (np.array(values) / 100 for values in figures_of_pair)
        rows.append([f"paper, {name}", "before", *(f"{value:.3f}" for value in before)])
        rows.append([f"paper, {name}", "after", *(f"{value:.3f}" for value in after)])
        rows.append([f"paper, {name}", "after - before", *(f"{value:+.3f}" for value in after - before)])
    text = report.markdown(("pair", "encoder", *published_results.PROBED), rows)
    return f"{text}\n\n{encoder_pairs.notes(pairs, PAPER_NOTE)}"


def probe_cell(name: str, task: str, seed: int, arguments: Arguments, config: TrainConfig) -> Cell:
    """The cell of one encoder, task and seed."""
    limits = {"epochs": arguments.epochs, "patience": arguments.patience, "pooling": arguments.pooling}
    settings = {"task": task, "seed": seed, **arguments.held_out, **limits, "config": config.to_dict()}
    run = functools.partial(probe, task, seed, arguments, config)
    return Cell(name, settings, run, reads=arguments.read_by((task,), "train", "val"))


def probe(task: str, seed: int, arguments: Arguments, config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Train one probe and return its scores."""
    data = splits(task, arguments, config)
    limits = {"seed": seed, "epochs": arguments.epochs, "patience": arguments.patience}
    classes, held_out = len(TASKS[task].labels), data[arguments.split]
    if arguments.pooling == "mean":
        inputs = {split: pooled(part) for split, part in data.items()}
        training, validation = (
            (inputs[split], torch.from_numpy(np.asarray(data[split].labels))) for split in ("train", "val")
        )
        linear = fit_probe(training, validation, classes, **limits)
        epochs, logits = linear.epochs, linear.layer(inputs[arguments.split]).detach()
    else:
        attentive = fit_attentive(data["train"], data["val"], classes, **limits)
        epochs, logits = attentive.epochs, attentive_logits(attentive.layer, held_out)
    truth = np.asarray(held_out.labels)
    scores = {
        "samples": len(truth),
        "metrics": metrics.label_metrics(task, logits.softmax(-1).numpy(), truth),
        "chance": metrics.label_chance(truth, classes),
    }
    return {"scores": {task: scores}, "samples": {split: len(part) for split, part in data.items()}, "epochs": epochs}


def splits(task: str, arguments: Arguments, config: TrainConfig) -> Mapping[str, CachedData]:
    """Training, validation and scored split of a task with cached features. ValueError where labels are hidden."""
    source = open_source(arguments.data)
    samples = {
        split: source.samples(task, split, count=arguments.samples) for split in dict.fromkeys(("val", arguments.split))
    }
    samples = {"train": train.training_set(arguments.data, config, task), **samples}
    if hidden := [split for split, part in samples.items() if labels_hidden(part)]:
        raise ValueError(f"The labels of '{hidden[0]}' of '{task}' are hidden; score --split val.")
    model, *_ = start.frozen(config, arguments.shared / "pretraining")
    data = {}
    for split, part in samples.items():
        cached = train.task_data(model, config, part, "features", arguments.shared / "cache")
        assert isinstance(cached, CachedData)
        data[split] = cached
    return data
