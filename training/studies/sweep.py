"""A grid over fields of the preset, for what the paper's text lost (learning rate, LoRA's alpha, lambda, layer, order):

    python -m training.studies sweep PRESET --data ROOT --out DIR --grid lora_alpha=32,64 [--grid ...] [--tasks a,b]

Every combination is a run. Fields are TrainConfig's by dotted names; lists are values: model.encoder.layers=[-1],[-2].
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from training import train
from training.studies.grid import fused, report
from training.studies.grid.grid import Cell, run_grid

# What the shared encoder and body were pre-trained by: no cell can change it any more.
PRETRAINING = ("encoder", "body", "captioning", "scenes", "described", "data_seed")


@dataclass(frozen=True)
class Arguments(fused.Arguments):
    """Command line of a sweep."""

    seeds: str = "0"
    tasks: str | None = None  # comma-separated questions; None: all six
    grid: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()  # a field and its values: lora_alpha=32,64


def run(arguments: Arguments) -> dict[str, Any]:
    """Run what is missing and write results.json, table.md, picture.png."""
    cells, groups = grid(arguments)
    records = run_grid("sweep", cells, arguments.out)
    figures = fused.by_group(groups, records)
    columns = tuple(dict.fromkeys(name for values in figures.values() for name in values))
    rows = [report.spread_row(group, values, columns) for group, values in figures.items()]
    table = report.markdown(("fields", *columns), rows)
    return report.write(arguments.out, "sweep", arguments, records, table, figures)


def grid(arguments: Arguments) -> tuple[list[Cell], dict[str, str]]:
    """The cells, and cell -> its combination of fields. ValueError for a field that cannot be swept."""
    cells, groups = [], {}
    tasks = train.chosen(arguments.tasks)
    for seed in arguments.seed_numbers:
        for fields in combinations(arguments.grid):
            group = " ".join(fields)
            cells.append(fused.cell(f"{group} seed{seed}".replace("/", "_"), arguments, tasks, seed, fields))
            groups[cells[-1].name] = group
    return cells, groups


def combinations(grid: Sequence[str]) -> list[tuple[str, ...]]:
    """'a=1,2', 'b=3' -> ('a=1', 'b=3'), ('a=2', 'b=3'). Commas inside brackets do not part values."""
    if not grid:
        raise ValueError("--grid names no field; expected e.g. --grid joint.learning_rate=1e-4,3e-4.")
    choices = []
    for entry in grid:
        name, _, values = entry.partition("=")
        if name.split(".")[0] in PRETRAINING:
            raise ValueError(f"'{name}' shapes the pre-trained parts, which all cells share; make another --start.")
        if name == "seed":
            raise ValueError("'seed' is not swept: give --seeds.")
        choices.append([f"{name}={value}" for value in re.split(r",(?![^\[{]*[\]}])", values)])
    return list(itertools.product(*choices))
