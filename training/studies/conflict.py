"""Conflict of the tasks' gradients:  python -m training.studies conflict PRESET --data ROOT --out DIR [--checkpoint C]

The gradient conflict degree 1 - cos between the gradients of two tasks, each over the task's whole training set, with
respect to the trainable parameters at initialisation (paper section 3.3, table 4), for every encoder of PRESET's pairs.
LoRA starts with B = 0, where A's gradient is zero: connector, B and, for tasks with boxes, the box embedding are
compared. With --checkpoint a trained model is measured too, where A counts.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from sf_ros.model.fusion import FusedModel
from training import train
from training.config import TrainConfig, preset
from training.data.inputs import collate
from training.data.source import open_source
from training.data.task_data import TaskData
from training.evaluation import published_results
from training.model import start
from training.model.lora import attach
from training.overrides import with_fields
from training.studies.grid import encoder_pairs, report
from training.studies.grid.cells import Cell, Record, run_grid
from training.studies.grid.comparison import MISSING
from training.studies.grid.encoder_pairs import EncoderPairArguments, Pair
from training.studies.grid.figures import FIVE_TASKS, Figures
from training.studies.measures.conflict_degree import conflict_matrix, conflict_of_products, mean_pair, shared_conflict
from training.trainer import checkpoint
from training.trainer.joint import set_training
from training.trainer.loop import mixed_precision
from training.trainer.objective import joint_losses
from training.trainer.validation import Spread

TRAINED = "checkpoint"  # the group of the trained model
DEGREE, SHARED = "degree", "degree, shared weights"
PARTS = {"connector": "connector.", "adapters": "llm."}  # part of the model -> prefix of its parameters
FIGURES = (DEGREE, SHARED, *(f"degree, {part}" for part in PARTS))
NOTE = (
    "The degree is 1 - cos: 0 for the same direction, 1 for orthogonal gradients, more where they conflict. The paper "
    "calls tasks below 1 aligned; its .93 to .96 are mean cosines of .04 to .07, close to orthogonal. 'Shared weights' "
    "compares each pair on the tensors that both tasks reach: a tensor that only one reaches (the heatmap head, the "
    "box embedding) changes only that gradient's length. Tensors that no task reaches (LoRA's A at initialisation) "
    "change nothing."
)


@dataclass(frozen=True)
class Arguments(EncoderPairArguments):
    """Command line of the measurement; the seeds are of fresh weights."""

    samples: int = 0  # per task, evenly spread over its training set; 0: all
    checkpoint: Path | None = None  # a trained model to measure as well
    cache: str = "auto"  # as in training.train
    batch_size: int | None = None  # changes no result; None: the preset's


def run(arguments: Arguments) -> dict[str, Any]:
    """Run the missing cells and write results.json, table.md, plot.png."""
    cells, groups = grid(arguments)
    records = run_grid("conflict", cells, arguments.out)
    figures = figures_of(records, groups)
    text = table(figures, encoder_pairs.pairs_of(arguments))
    return report.write(arguments.out, "conflict", arguments, records, text, figures)


def grid(arguments: Arguments) -> tuple[list[Cell], dict[str, str]]:
    """The cells, encoder by encoder, and cell -> group of figures. ValueError for an unknown cache mode or preset."""
    known(arguments.cache, train.CACHES, "cache")
    cells, groups = [], {}
    for seed in arguments.seed_numbers:
        for name in encoder_pairs.presets_of(arguments):
            fields = encoder_pairs.for_encoder(arguments, name).set
            config = dataclasses.replace(with_fields(preset(name), fields), seed=seed)
            cells.append(conflict_cell(f"{name}-seed{seed}", arguments, config, None))
            groups[cells[-1].name] = name
    if arguments.checkpoint is not None:
        cells.append(conflict_cell(TRAINED, arguments, None, arguments.checkpoint))
        groups[TRAINED] = TRAINED
    return cells, groups


def conflict_cell(name: str, arguments: Arguments, config: TrainConfig | None, trained: Path | None) -> Cell:
    """The cell of one model: fresh from a configuration, or trained."""
    settings: dict[str, Any] = {"data": arguments.data, "samples": arguments.samples}
    settings |= {"config": config.to_dict()} if config else {"checkpoint": str(trained)}
    reads = tuple((task, "train") for task in TASKS)
    return Cell(name, settings, functools.partial(measure, arguments, config, trained), reads=reads)


def measure(arguments: Arguments, config: TrainConfig | None, trained: Path | None, folder: Path) -> dict[str, Any]:
    """Measure the degrees of one model."""
    if config is not None:
        model, _, config, _ = start.frozen(config, arguments.shared / "pretraining")
        attach(model, config.lora_rank, config.lora_alpha)
    else:
        assert trained is not None
        model, _, config = checkpoint.load(trained)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    set_training(model, config)
    data = {task: training_set(arguments, model, config, task) for task in TASKS}
    losses = {
        name: set_losses(model, {task: data[task] for task in tasks}, config, arguments.batch_size)
        for name, tasks in FIVE_TASKS.items()
    }
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    gradients = task_gradients(list(trainable.values()), losses)
    samples = {task: len(part) for task, part in data.items()}
    return {"samples": samples, **degrees(gradients, {name: p.numel() for name, p in trainable.items()})}


def training_set(arguments: Arguments, model: FusedModel, config: TrainConfig, task: str) -> TaskData:
    """A task's training set, or samples spread evenly over it."""
    samples = train.training_set(arguments.data, config, task)
    if 0 < arguments.samples < len(samples):
        samples = Spread(samples, arguments.samples)
    mode = open_source(arguments.data).default_cache if arguments.cache == "auto" else arguments.cache
    return train.task_data(model, config, samples, mode, arguments.shared / "cache")


def set_losses(
    model: FusedModel, data: Mapping[str, TaskData], config: TrainConfig, batch_size: int | None
) -> Iterator[Tensor]:
    """Parts of the mean loss over all samples of some tasks; the parts add up to it."""
    size, total = batch_size or config.joint.batch_size, sum(map(len, data.values()))
    batches = [
        (task, range(first, min(first + size, len(part))))
        for task, part in data.items()
        for first in range(0, len(part), size)
    ]
    device = next(model.parameters()).device.type
    for task, indices in track(batches, description=f"gradient of {'+'.join(data)}"):
        inputs = [data[task].inputs(index) for index in indices]
        batch = collate(inputs, [task] * len(inputs), config.model)
        with torch.autocast(device, torch.bfloat16, enabled=mixed_precision(config) == "bf16"):
            (loss,) = joint_losses(model, batch, config).values()
        yield loss * len(inputs) / total


def task_gradients(parameters: Sequence[nn.Parameter], losses: Mapping[str, Iterable[Tensor]]) -> np.ndarray:
    """Gradients of each task's summed losses, float32 (T, P); 0 where a task does not reach a parameter."""
    gradients = np.zeros((len(losses), sum(p.numel() for p in parameters)), np.float32)
    for row, parts in zip(gradients, losses.values(), strict=True):
        for loss in parts:
            loss.backward()
        first = 0
        for parameter in parameters:
            if parameter.grad is not None:
                row[first : first + parameter.numel()] = parameter.grad.float().flatten().cpu().numpy()
            parameter.grad = None
            first += parameter.numel()
    return gradients


def degrees(gradients: np.ndarray, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Conflict degrees of gradients (T, P); `sizes` maps the parameters' names to their sizes, in order."""
    ends = np.cumsum(list(sizes.values()))
    pieces = np.split(gradients, ends[:-1], axis=1)
    products = np.stack([np.asarray(piece @ piece.T, float) for piece in pieces])  # (N, T, T)
    matrices = {DEGREE: conflict_matrix(gradients), SHARED: shared_conflict(products)}
    for part, prefix in PARTS.items():
        members = [number for number, name in enumerate(sizes) if name.startswith(prefix)]
        matrices[f"degree, {part}"] = conflict_of_products(products[members].sum(0))
    unreached = [name for name, product in zip(sizes, products, strict=True) if not product.any()]
    return {
        "tasks": list(FIVE_TASKS),
        "parameters": int(ends[-1]),
        "unreached_parameters": sum(sizes[name] for name in unreached),
        "matrices": {name: _json(matrix) for name, matrix in matrices.items()},
    }


def figures_of(records: Sequence[Record], groups: Mapping[str, str]) -> dict[str, dict[str, list[float]]]:
    """Group -> figure -> its value in every run: means by kind of degree, and the degree of every task pair."""
    figures: dict[str, dict[str, list[float]]] = {group: {} for group in groups.values()}
    for record in records:
        if record.error is not None:
            continue
        values = figures[groups[record.cell]]
        matrices = {name: np.array(matrix, float) for name, matrix in record.facts["matrices"].items()}
        for name, matrix in matrices.items():
            values.setdefault(name, []).append(mean_pair(matrix))
        tasks = record.facts["tasks"]
        for i, j in zip(*np.triu_indices(len(tasks), 1), strict=True):
            values.setdefault(f"{tasks[i]} / {tasks[j]}", []).append(float(matrices[DEGREE][i, j]))
    return figures


def table(figures: Figures, pairs: Sequence[Pair]) -> str:
    """Means by encoder pair, the paper's table 4, then the degree of every pair of tasks."""
    rows = encoder_pairs.pair_rows(figures, pairs, FIGURES)
    for name, (before, after) in published_results.CONFLICT.items():
        blank = [MISSING] * (len(FIGURES) - 1)
        rows += [
            [f"paper, {name}", "before", f"{before:.3f}", *blank],
            [f"paper, {name}", "after", f"{after:.3f}", *blank],
            [f"paper, {name}", "after - before", f"{after - before:+.3f}", *blank],
        ]
    names = list(dict.fromkeys(name for values in figures.values() for name in values if " / " in name))
    by_tasks = [report.spread_row(group, values, names) for group, values in figures.items()]
    return "\n\n".join(
        [
            report.markdown(("pair", "encoder", *FIGURES), rows),
            "The degree of every pair of tasks:",
            report.markdown(("encoder", *names), by_tasks),
            encoder_pairs.notes(pairs, NOTE),
        ]
    )


def _json(matrix: np.ndarray) -> list[list[float | None]]:
    """A matrix as JSON data, with None for NaN."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in matrix]
