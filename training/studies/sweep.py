"""A grid over fields of the preset, for values missing in the paper (learning rate, LoRA's alpha, lambda, layer):

    python -m training.studies sweep PRESET --data ROOT --out DIR --grid lora_alpha=32,64 [--grid ...] [--tasks a,b]

Every combination is a run. Fields are dotted names of TrainConfig; values may be lists: model.encoder.layers=[-1],[-2].
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from training import train
from training.studies.grid import report
from training.studies.grid.arguments import TrainingArguments
from training.studies.grid.cells import Cell, run_grid
from training.studies.grid.figures import by_group
from training.studies.grid.fused_cells import fused_cell
from training.studies.grid.hidden import with_scores

# Fields of the pre-training of the encoder and LLM that all cells share; a cell cannot change them.
PRETRAINING = ("encoder", "llm", "captioning", "scenes", "described", "data_seed")


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """Command line of a sweep."""

    seeds: str = "0"
    tasks: str | None = None  # comma-separated; None: all six
    grid: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()  # FIELD=V1,V2,...


def run(arguments: Arguments) -> dict[str, Any]:
    """Run the missing cells and write results.json, table.md, plot.png."""
    cells, groups = grid(arguments)
    cells, hidden = with_scores(arguments, cells)
    records = run_grid("sweep", cells, arguments.out)
    figures = by_group(groups, records)
    columns = tuple(dict.fromkeys(name for values in figures.values() for name in values))
    rows = [report.spread_row(group, values, columns) for group, values in figures.items()]
    table = "\n\n".join([report.markdown(("fields", *columns), rows), *hidden])
    return report.write(arguments.out, "sweep", arguments, records, table, figures)


def grid(arguments: Arguments) -> tuple[list[Cell], dict[str, str]]:
    """The cells, and cell -> combination of fields. ValueError for a field that cannot be swept."""
    cells, groups = [], {}
    tasks = train.chosen(arguments.tasks)
    for seed in arguments.seed_numbers:
        for fields in combinations(arguments.grid):
            group = " ".join(fields)
            cells.append(fused_cell(f"{group} seed{seed}".replace("/", "_"), arguments, tasks, seed, fields))
            groups[cells[-1].name] = group
    return cells, groups


def combinations(grid: Sequence[str]) -> list[tuple[str, ...]]:
    """'a=1,2', 'b=3' -> ('a=1', 'b=3'), ('a=2', 'b=3'). Commas inside brackets do not separate values."""
    if not grid:
        raise ValueError("--grid is missing; expected e.g. --grid joint.learning_rate=1e-4,3e-4.")
    choices = []
    for entry in grid:
        name, _, values = entry.partition("=")
        if name.split(".")[0] in PRETRAINING:
            raise ValueError(f"'{name}' changes the pre-trained parts, which all cells share; train another --start.")
        if name == "seed":
            raise ValueError("'seed' cannot be swept; use --seeds.")
        choices.append([f"{name}={value}" for value in re.split(r",(?![^\[{]*[\]}])", values)])
    return list(itertools.product(*choices))
