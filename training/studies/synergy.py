"""Which tasks help which?   python -m training.studies synergy PRESET --data ROOT --out DIR [--steps N] [--seeds 0,1,2]

All ten pairs of the five tasks, trained together and compared with single-task runs (paper section 4.5, table 6), with
the same samples, batch size and number of optimiser steps. A pair sees each of its tasks in a part of its batches only,
so a gain is one at less sight, and a loss may be nothing but that. Single-task cells have the names and settings of
those of transfer: copied from there, they are not run again.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.evaluation import published_results
from training.studies.grid import fused, gains, report
from training.studies.grid.fused import CHANCE, FIVE_TASKS, PAPER_FIGURES
from training.studies.grid.grid import Cell, run_grid

SINGLE = "single-task"
PAIRS = tuple(itertools.combinations(FIVE_TASKS, 2))

Arguments = fused.Arguments


def run(arguments: Arguments) -> dict[str, Any]:
    """Run what is missing and write results.json, table.md, picture.png."""
    cells = grid(arguments)
    records = run_grid("synergy", cells, arguments.out)
    figures = fused.by_group({cell.name: group_of(cell) for cell in cells}, records)
    text = "\n\n".join(
        [table(figures), gains.NOTE, *([published_results.OTHER_DATA] if arguments.data == "scenes" else [])]
    )
    draw = functools.partial(picture, figures)
    return report.write(arguments.out, "synergy", arguments, records, text, figures, draw)


def grid(arguments: Arguments) -> list[Cell]:
    """Seed by seed, first the single tasks, then the pairs."""
    told: list[tuple[str, tuple[str, ...]]] = list(FIVE_TASKS.items())
    told += [(pair_name(pair), FIVE_TASKS[pair[0]] + FIVE_TASKS[pair[1]]) for pair in PAIRS]
    return [
        fused.cell(f"{name}-seed{seed}", arguments, tasks, seed)
        for seed in arguments.seed_numbers
        for name, tasks in told
    ]


def pair_name(pair: Sequence[str]) -> str:
    """Two tasks as one word."""
    return "+".join(pair)


def group_of(cell: Cell) -> str:
    """The pair of a cell, or SINGLE."""
    name = cell.name.rpartition("-seed")[0]
    return name if "+" in name else SINGLE


def figures_of_task(task: str) -> tuple[str, ...]:
    """The paper's figures of one of the five tasks."""
    return tuple(name for name in PAPER_FIGURES if name.split()[0] in FIVE_TASKS[task])


def table(figures: report.Figures) -> str:
    """The paper's table 6, what each pair gains on either member, and the paper's beside."""
    single, theirs = figures.get(SINGLE, {}), published_results.by_name(published_results.TRANSFER["fused"][0])
    shown, differences = [], []
    for pair in PAIRS:
        name, found = pair_name(pair), figures.get(pair_name(pair), {})
        published = published_results.by_name(published_results.PAIRS[frozenset(pair)])
        shown += [
            report.spread_row(name, found, PAPER_FIGURES),
            report.spread_row("  the paper's", published, PAPER_FIGURES),
        ]
        differences += [
            gains.difference_row(f"{name} - single", single, found, PAPER_FIGURES),
            gains.sign_row("  sign", single, found, PAPER_FIGURES),
            gains.sign_row("  the paper's sign", theirs, published, PAPER_FIGURES),
        ]
    shown += [
        report.spread_row(SINGLE, single, PAPER_FIGURES),
        report.spread_row("  the paper's", theirs, PAPER_FIGURES),
        report.spread_row(CHANCE, figures.get(CHANCE, {}), PAPER_FIGURES),
    ]
    return "\n\n".join(report.markdown(("", *PAPER_FIGURES), rows) for rows in (shown, differences))


def matrix(pairs: report.Figures, single: gains.Values, title: str) -> report.Matrix:
    """Who (row) gains what, in percent and by its signs, from being trained with whom (column)."""
    values: list[list[float | None]] = []
    signs: list[list[str]] = []
    for task in FIVE_TASKS:
        values.append([])
        signs.append([])
        for partner in FIVE_TASKS:
            found = next((pairs[name] for name in pairs if set(name.split("+")) == {task, partner}), {})
            given = [gains.sign(name, single, found) for name in figures_of_task(task)]
            values[-1].append(gains.relative_gain(figures_of_task(task), single, found))
            signs[-1].append(" ".join(gains.SIGNS[value] for value in given if value is not None))
    return report.gains_matrix(title, tuple(FIVE_TASKS), tuple(f"with {task}" for task in FIVE_TASKS), values, signs)


def picture(figures: report.Figures, path: Path) -> None:
    """The matrix of this study and the paper's."""
    pairs = {name: values for name, values in figures.items() if "+" in name}
    theirs = {pair_name(sorted(pair)): published_results.by_name(row) for pair, row in published_results.PAIRS.items()}
    report.matrices(
        (
            matrix(pairs, figures.get(SINGLE, {}), "gain over single-task training, %: this study"),
            matrix(theirs, published_results.by_name(published_results.TRANSFER["fused"][0]), "the paper"),
        ),
        path,
    )
