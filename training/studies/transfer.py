"""Joint training against single-task training:

    python -m training.studies transfer PRESET --data ROOT --out DIR [--steps N] [--seeds 0,1,2] [--models fused,molmoe]

One joint run against five single-task runs per seed and model (paper section 4.4, tables 1 and 9, figure 1), with the
same samples, batch size and number of optimiser steps. Models: the fused one, and the paper's VLM baselines tuned by
LoRA (training.studies.grid.vlm_cells). The paper gives no number of steps. With equal steps a joint run sees each task
in a fraction of its batches and costs a fifth of the five specialists together: a gain is reached with fewer samples,
a loss may be due to them. With --joint-steps of five times --steps a task is seen about as often as by its specialist.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from training.data.source import open_source
from training.evaluation import published_results
from training.studies.grid import comparison, report, vlm_cells
from training.studies.grid.arguments import TrainingArguments
from training.studies.grid.cells import Cell, run_grid
from training.studies.grid.figures import CHANCE, FIVE_TASKS, PAPER_FIGURES, Figures, Values, by_group
from training.studies.grid.fused_cells import fused_cell
from training.studies.grid.hidden import with_scores

SINGLE, JOINT = "single-task", "joint"
FUSED = "fused"
MODELS = (FUSED, *vlm_cells.VLMS)
PAPER = "the paper's"


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """Command line of transfer."""

    joint_steps: int | None = None  # of joint runs; None: those of single runs
    models: str = FUSED  # comma-separated: fused, qwen2-vl-2b, molmoe, sail-vl-1.5, internvl3-2b
    # NAME=FOLDER or NAME=HUB_ID of a VLM's weights; by default the published ones, from the Hugging Face cache.
    weights: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()

    @property
    def chosen(self) -> tuple[str, ...]:
        """The selected models. ValueError for an unknown one."""
        return tuple(known(name, MODELS, "model") for name in self.models.split(","))


def run(arguments: Arguments) -> dict[str, Any]:
    """Run the missing cells and write results.json, table.md, plot.png."""
    cells, hidden = with_scores(arguments, grid(arguments))
    records = run_grid("transfer", cells, arguments.out)
    groups = {cell.name: group(model_of(cell), cell.settings["tasks"]) for cell in cells}
    scores = by_group(groups, records)
    names = [group(model, tasks) for model in arguments.chosen for tasks in ((), tuple(TASKS))] + [CHANCE]
    figures = {name: {column: scores.get(name, {}).get(column, []) for column in PAPER_FIGURES} for name in names}
    parts = [f"## {model}\n\n{table(figures, model)}" for model in arguments.chosen]
    text = "\n\n".join([*parts, f"## Transfer\n\n{summary(figures, arguments.chosen)}", *notes(arguments), *hidden])
    draw = functools.partial(plot, figures, arguments.chosen)
    return report.write(arguments.out, "transfer", arguments, records, text, figures, draw)


def grid(arguments: Arguments) -> list[Cell]:
    """The cells, seed by seed, so that an unfinished study can already be compared."""
    joint = dataclasses.replace(arguments, steps=arguments.joint_steps or arguments.steps)
    sources = vlm_cells.weight_sources(arguments.weights)
    cells = []
    for seed in arguments.seed_numbers:
        for model in arguments.chosen:
            for name, budget, tasks in (
                (JOINT, joint, tuple(TASKS)),
                *((name, arguments, tasks) for name, tasks in FIVE_TASKS.items()),
            ):
                if model == FUSED:
                    cells.append(fused_cell(f"{name}-seed{seed}", budget, tasks, seed))
                else:
                    cell_name = f"{model}-{name}-seed{seed}"
                    cells.append(vlm_cells.vlm_cell(cell_name, model, budget, tasks, seed, sources))
    return cells


def model_of(cell: Cell) -> str:
    """The model of a cell."""
    return cell.settings["model"]["name"] if "model" in cell.settings else FUSED


def group(model: str, tasks: Sequence[str]) -> str:
    """The group of a model's joint or single-task runs; the groups of the fused model have no prefix."""
    kind = JOINT if len(tasks) == len(TASKS) else SINGLE
    return kind if model == FUSED else f"{model} {kind}"


def table(figures: Figures, model: str = FUSED) -> str:
    """The paper's table 1 of one model: means, difference and sign of transfer, then the paper's own rows."""
    single, joint = (figures[group(model, tasks)] for tasks in ((), tuple(TASKS)))
    paper_single, paper_joint = (published_results.by_name(row) for row in published_results.TRANSFER[model])
    rows = [
        report.spread_row(SINGLE, single, PAPER_FIGURES),
        report.spread_row(JOINT, joint, PAPER_FIGURES),
        comparison.difference_row("joint - single", single, joint, PAPER_FIGURES),
        comparison.sign_row("transfer", single, joint, PAPER_FIGURES),
        report.spread_row(CHANCE, figures[CHANCE], PAPER_FIGURES),
        report.spread_row(f"{PAPER} {SINGLE}", paper_single, PAPER_FIGURES),
        report.spread_row(f"{PAPER} {JOINT}", paper_joint, PAPER_FIGURES),
        comparison.difference_row(f"{PAPER} difference", paper_single, paper_joint, PAPER_FIGURES),
        comparison.sign_row(f"{PAPER} transfer", paper_single, paper_joint, PAPER_FIGURES),
    ]
    return report.markdown(("", *PAPER_FIGURES), rows)


def summary(figures: Figures, models: Sequence[str]) -> str:
    """The signs of all models and how many are '+', as in figure 1, each with the paper's below."""
    rows = []
    for model in models:
        for title, single, joint in compared(figures, model):
            row = comparison.sign_row(title, single, joint, PAPER_FIGURES)
            signs = [text for text in row[1:] if text != comparison.MISSING]
            rows.append([*row, f"{signs.count('+')} of {len(signs)}"])
    return report.markdown(("", *PAPER_FIGURES, "positive"), rows)


def compared(figures: Figures, model: str) -> list[tuple[str, Values, Values]]:
    """(title, single runs, joint runs) of a model, from this study and from the paper."""
    paper = [published_results.by_name(row) for row in published_results.TRANSFER[model]]
    ours = [figures[group(model, tasks)] for tasks in ((), tuple(TASKS))]
    return [(model, ours[0], ours[1]), (f"{PAPER} {model}", paper[0], paper[1])]


def plot(figures: Figures, models: Sequence[str], path: Path) -> None:
    """Plot the gain of joint training in percent by model and figure, of this study and of the paper (figure 1)."""
    panels = []
    for number, title in enumerate(("this study", "the paper")):
        pairs = [compared(figures, model)[number] for model in models]
        values = [
            [comparison.relative_gain((name,), single, joint) for name in PAPER_FIGURES] for _, single, joint in pairs
        ]
        panels.append(report.gains_matrix(f"joint against single, %: {title}", models, PAPER_FIGURES, values))
    report.plot_matrices(panels, path)


def notes(arguments: Arguments) -> list[str]:
    """Remarks below the table."""
    remarks = [comparison.NOTE, *open_source(arguments.data).remarks]
    sources = vlm_cells.weight_sources(arguments.weights)
    if any(model != FUSED and vlm_cells.uses_miniature(model, arguments, sources) for model in arguments.chosen):
        remarks.append(vlm_cells.NOT_EVIDENCE)
    return remarks
