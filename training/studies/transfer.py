"""Does joint training help?

    python -m training.studies transfer PRESET --data ROOT --out DIR [--steps N] [--seeds 0,1,2] [--models fused,molmoe]

One joint run against five single-task runs per seed and model (paper section 4.4, tables 1 and 9, figure 1), with the
same samples, batch size and number of optimiser steps. Models: the fused one, and the paper's VLM baselines tuned by
LoRA (training.studies.vlms). The paper gives no steps; it compares one model for everything to five specialists.
Under equal steps a joint run sees each task in a fraction of its batches, and costs a fifth of the five specialists
together: what it does better it does better with less; what it does worse it may only have seen too little of. The
comparison at equal sight, every task shown about as often as to its specialist, is --joint-steps with the five's sum.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sf_ros.core.config import known
from sf_ros.core.tasks import TASKS
from training.evaluation import published_results
from training.studies import vlms
from training.studies.grid import fused, gains, report
from training.studies.grid.fused import CHANCE, FIVE_TASKS, PAPER_FIGURES
from training.studies.grid.grid import Cell, run_grid

SINGLE, JOINT = "single-task", "joint"
FUSED = "fused"
MODELS = (FUSED, *vlms.BASELINES)
PAPER = "the paper's"


@dataclass(frozen=True)
class Arguments(fused.Arguments):
    """Command line of transfer."""

    joint_steps: int | None = None  # of joint runs; None: as many as single ones
    models: str = FUSED  # comma-separated: fused, qwen2-vl-2b, molmoe, sail-vl-1.5, internvl3-2b
    # Where a VLM's weights lie: NAME=FOLDER or NAME=HUB_ID; none: the published place, in the Hugging Face cache.
    weights: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()

    @property
    def chosen(self) -> tuple[str, ...]:
        """The models. ValueError for an unknown one."""
        return tuple(known(name, MODELS, "model") for name in self.models.split(","))


def run(arguments: Arguments) -> dict[str, Any]:
    """Run what is missing and write results.json, table.md, picture.png."""
    cells = grid(arguments)
    records = run_grid("transfer", cells, arguments.out)
    groups = {cell.name: group(model_of(cell), cell.settings["tasks"]) for cell in cells}
    found = fused.by_group(groups, records)
    names = [group(model, tasks) for model in arguments.chosen for tasks in ((), tuple(TASKS))] + [CHANCE]
    figures = {name: {column: found.get(name, {}).get(column, []) for column in PAPER_FIGURES} for name in names}
    parts = [f"## {model}\n\n{table(figures, model)}" for model in arguments.chosen]
    text = "\n\n".join([*parts, f"## Transfer\n\n{summary(figures, arguments.chosen)}", *notes(arguments)])
    draw = functools.partial(picture, figures, arguments.chosen)
    return report.write(arguments.out, "transfer", arguments, records, text, figures, draw)


def grid(arguments: Arguments) -> list[Cell]:
    """Seed by seed, so that a study that is not over compares what it has."""
    joint = dataclasses.replace(arguments, steps=arguments.joint_steps or arguments.steps)
    sources = vlms.given(arguments.weights, tuple(vlms.BASELINES))
    cells = []
    for seed in arguments.seed_numbers:
        for model in arguments.chosen:
            for name, told, tasks in (
                (JOINT, joint, tuple(TASKS)),
                *((name, arguments, tasks) for name, tasks in FIVE_TASKS.items()),
            ):
                if model == FUSED:
                    cells.append(fused.cell(f"{name}-seed{seed}", told, tasks, seed))
                else:
                    cells.append(vlms.cell(f"{model}-{name}-seed{seed}", model, told, tasks, seed, sources))
    return cells


def model_of(cell: Cell) -> str:
    """The model of a cell."""
    return cell.settings["model"]["name"] if "model" in cell.settings else FUSED


def group(model: str, tasks: Sequence[str]) -> str:
    """The group of a model's runs on some questions; the fused model's has no name before it."""
    kind = JOINT if len(tasks) == len(TASKS) else SINGLE
    return kind if model == FUSED else f"{model} {kind}"


def table(figures: report.Figures, model: str = FUSED) -> str:
    """The paper's table 1 of one model with spreads, below it difference and sign of transfer, the paper's beside."""
    single, joint = (figures[group(model, tasks)] for tasks in ((), tuple(TASKS)))
    their_single, their_joint = (published_results.by_name(row) for row in published_results.TRANSFER[model])
    rows = [
        report.spread_row(SINGLE, single, PAPER_FIGURES),
        report.spread_row(JOINT, joint, PAPER_FIGURES),
        gains.difference_row("joint - single", single, joint, PAPER_FIGURES),
        gains.sign_row("transfer", single, joint, PAPER_FIGURES),
        report.spread_row(CHANCE, figures[CHANCE], PAPER_FIGURES),
        report.spread_row(f"{PAPER} {SINGLE}", their_single, PAPER_FIGURES),
        report.spread_row(f"{PAPER} {JOINT}", their_joint, PAPER_FIGURES),
        gains.difference_row(f"{PAPER} difference", their_single, their_joint, PAPER_FIGURES),
        gains.sign_row(f"{PAPER} transfer", their_single, their_joint, PAPER_FIGURES),
    ]
    return report.markdown(("", *PAPER_FIGURES), rows)


def summary(figures: report.Figures, models: Sequence[str]) -> str:
    """The signs of all models and how many are '+', as in figure 1; the paper's below each."""
    rows = []
    for model in models:
        for title, single, joint in compared(figures, model):
            row = gains.sign_row(title, single, joint, PAPER_FIGURES)
            known_ones = [text for text in row[1:] if text != report.MISSING]
            rows.append([*row, f"{known_ones.count('+')} of {len(known_ones)}"])
    return report.markdown(("", *PAPER_FIGURES, "positive"), rows)


def compared(figures: report.Figures, model: str) -> list[tuple[str, gains.Values, gains.Values]]:
    """A model's single and joint runs, of this study and of the published_results, each with its title."""
    theirs = [published_results.by_name(row) for row in published_results.TRANSFER[model]]
    ours = [figures[group(model, tasks)] for tasks in ((), tuple(TASKS))]
    return [(model, ours[0], ours[1]), (f"{PAPER} {model}", theirs[0], theirs[1])]


def picture(figures: report.Figures, models: Sequence[str], path: Path) -> None:
    """What joint training gains in percent, by model and figure: this study's and the paper's (figure 1)."""
    panels = []
    for place, title in enumerate(("this study", "the paper")):
        pairs = [compared(figures, model)[place] for model in models]
        values = [[gains.relative_gain((name,), single, joint) for name in PAPER_FIGURES] for _, single, joint in pairs]
        panels.append(report.gains_matrix(f"joint against single, %: {title}", models, PAPER_FIGURES, values))
    report.matrices(panels, path)


def notes(arguments: Arguments) -> list[str]:
    """What to know before figures are compared."""
    found = [gains.NOTE]
    if arguments.data == "scenes":
        found.append(published_results.OTHER_DATA)
    sources: Mapping[str, str] = vlms.given(arguments.weights, tuple(vlms.BASELINES))
    if any(model != FUSED and vlms.is_miniature(model, arguments, sources) for model in arguments.chosen):
        found.append(vlms.NOT_EVIDENCE)
    return found
