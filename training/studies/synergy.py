"""Which tasks help which:  python -m training.studies synergy PRESET --data ROOT --out DIR [--steps N] [--seeds 0,1,2]

All ten pairs of the five tasks, trained together and compared with single-task runs (paper section 4.5, table 6), with
the same samples, batch size and number of optimiser steps. A pair sees each of its tasks in a fraction of its batches
only: a gain is reached with fewer samples, a loss may be due to them. Single-task cells have the names and settings of
those of transfer; cells copied from there are not run again.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.data.source import open_source
from training.evaluation import published_results
from training.studies.grid import comparison, report
from training.studies.grid.arguments import TrainingArguments
from training.studies.grid.cells import Cell, run_grid
from training.studies.grid.figures import CHANCE, FIVE_TASKS, PAPER_FIGURES, Figures, Values, by_group
from training.studies.grid.fused_cells import fused_cell
from training.studies.grid.hidden import with_scores

SINGLE = "single-task"
PAIRS = tuple(itertools.combinations(FIVE_TASKS, 2))

Arguments = TrainingArguments


def run(arguments: Arguments) -> dict[str, Any]:
    """Run the missing cells and write results.json, table.md, plot.png."""
    cells, hidden = with_scores(arguments, grid(arguments))
    records = run_grid("synergy", cells, arguments.out)
    figures = by_group({cell.name: group_of(cell) for cell in cells}, records)
    text = "\n\n".join([table(figures), comparison.NOTE, *open_source(arguments.data).remarks, *hidden])
    draw = functools.partial(plot, figures)
    return report.write(arguments.out, "synergy", arguments, records, text, figures, draw)


def grid(arguments: Arguments) -> list[Cell]:
    """The cells, seed by seed: first single tasks, then pairs."""
    trainings: list[tuple[str, tuple[str, ...]]] = list(FIVE_TASKS.items())
    trainings += [(pair_name(pair), FIVE_TASKS[pair[0]] + FIVE_TASKS[pair[1]]) for pair in PAIRS]
    return [
        fused_cell(f"{name}-seed{seed}", arguments, tasks, seed)
        for seed in arguments.seed_numbers
        for name, tasks in trainings
    ]


def pair_name(pair: Sequence[str]) -> str:
    """The name of a pair of tasks."""
    return "+".join(pair)


def group_of(cell: Cell) -> str:
    """The pair of a cell, or SINGLE."""
    name = cell.name.rpartition("-seed")[0]
    return name if "+" in name else SINGLE


def figures_of_task(task: str) -> tuple[str, ...]:
    """The paper's figures of one of FIVE_TASKS."""
    return tuple(name for name in PAPER_FIGURES if name.split()[0] in FIVE_TASKS[task])


def table(figures: Figures) -> str:
    """The paper's table 6 and the gains of each pair over single tasks, beside the paper's own figures."""
    single = figures.get(SINGLE, {})
    paper_single = published_results.by_name(published_results.TRANSFER["fused"][0])
    scores, differences = [], []
    for pair in PAIRS:
        name, joint = pair_name(pair), figures.get(pair_name(pair), {})
        published = published_results.by_name(published_results.PAIRS[frozenset(pair)])
        scores += [
            report.spread_row(name, joint, PAPER_FIGURES),
            report.spread_row("  the paper's", published, PAPER_FIGURES),
        ]
        differences += [
            comparison.difference_row(f"{name} - single", single, joint, PAPER_FIGURES),
            comparison.sign_row("  sign", single, joint, PAPER_FIGURES),
            comparison.sign_row("  the paper's sign", paper_single, published, PAPER_FIGURES),
        ]
    scores += [
        report.spread_row(SINGLE, single, PAPER_FIGURES),
        report.spread_row("  the paper's", paper_single, PAPER_FIGURES),
        report.spread_row(CHANCE, figures.get(CHANCE, {}), PAPER_FIGURES),
    ]
    return "\n\n".join(report.markdown(("", *PAPER_FIGURES), rows) for rows in (scores, differences))


def matrix(pairs: Figures, single: Values, title: str) -> report.Matrix:
    """Gains of each task (row), in percent and as signs, from joint training with each other task (column)."""
    values: list[list[float | None]] = []
    signs: list[list[str]] = []
    for task in FIVE_TASKS:
        values.append([])
        signs.append([])
        for partner in FIVE_TASKS:
            joint = next((pairs[name] for name in pairs if set(name.split("+")) == {task, partner}), {})
            gain_signs = [comparison.sign(name, single, joint) for name in figures_of_task(task)]
            values[-1].append(comparison.relative_gain(figures_of_task(task), single, joint))
            signs[-1].append(" ".join(comparison.SIGNS[value] for value in gain_signs if value is not None))
    return report.gains_matrix(title, tuple(FIVE_TASKS), tuple(f"with {task}" for task in FIVE_TASKS), values, signs)


def plot(figures: Figures, path: Path) -> None:
    """Plot the matrix of this study beside the paper's."""
    pairs = {name: values for name, values in figures.items() if "+" in name}
    paper_pairs = {
        pair_name(sorted(pair)): published_results.by_name(row) for pair, row in published_results.PAIRS.items()
    }
    report.plot_matrices(
        (
            matrix(pairs, figures.get(SINGLE, {}), "gain over single-task training, %: this study"),
            matrix(paper_pairs, published_results.by_name(published_results.TRANSFER["fused"][0]), "the paper"),
        ),
        path,
    )
