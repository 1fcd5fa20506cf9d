"""Does joint training help?

    python -m training.studies transfer PRESET --data ROOT --out DIR [--steps N] [--seeds 0,1,2]

One joint run against five single-task runs per seed (paper section 4.4, table 1), with the same encoder, samples, batch
size and number of optimiser steps. The paper gives no steps; it compares one model for everything to five specialists.
Under equal steps a joint run sees each task in a fraction of its batches, and costs a fifth of the five specialists
together: what it does better it does better with less; what it does worse it may only have seen too little of. The
comparison at equal sight, every task shown about as often as to its specialist, is --joint-steps with the five's sum.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from sf_ros.core.tasks import TASKS
from training.studies import fused, report
from training.studies.analysis import CLEAR, mean_and_spread, transfer_signs
from training.studies.fused import CHANCE, FIVE_TASKS, PAPER_FIGURES
from training.studies.grid import Cell, run_grid

SINGLE, JOINT = "single-task", "joint"
SMALLER_IS_BETTER = ("L2",)  # ends of figures
SIGNS = {1: "+", 0: "0", -1: "-"}


@dataclass(frozen=True)
class Arguments(fused.Arguments):
    """Command line of transfer."""

    joint_steps: int | None = None  # of joint runs; None: as many as single ones


def run(arguments: Arguments) -> dict[str, Any]:
    """Run what is missing and write results.json, table.md, picture.png."""
    cells = grid(arguments)
    records = run_grid("transfer", cells, arguments.out)
    groups = {cell.name: JOINT if len(cell.settings["tasks"]) == len(TASKS) else SINGLE for cell in cells}
    found = fused.by_group(groups, records)
    figures = {group: {name: found[group].get(name, []) for name in PAPER_FIGURES} for group in (SINGLE, JOINT, CHANCE)}
    return report.write(arguments.out, "transfer", arguments, records, table(figures), figures)


def grid(arguments: Arguments) -> list[Cell]:
    """Seed by seed, so that a study that is not over compares what it has."""
    joint = dataclasses.replace(arguments, steps=arguments.joint_steps or arguments.steps)
    return [
        fused.cell(f"{name}-seed{seed}", told, tasks, seed)
        for seed in arguments.seed_numbers
        for name, told, tasks in (
            (JOINT, joint, tuple(TASKS)),
            *((name, arguments, tasks) for name, tasks in FIVE_TASKS.items()),
        )
    ]


def table(figures: report.Figures) -> str:
    """The paper's table 1 with spreads, and below it difference and sign of transfer."""
    rows = [report.spread_row(group, figures[group], PAPER_FIGURES) for group in (SINGLE, JOINT)]
    rows += [
        ["joint - single", *(_difference(figures, name) for name in PAPER_FIGURES)],
        ["transfer", *(_sign(figures, name) for name in PAPER_FIGURES)],
        report.spread_row(CHANCE, figures[CHANCE], PAPER_FIGURES),
    ]
    note = (
        f"Transfer is 0 where the means are no further apart than {CLEAR:g} standard errors; L2 is better when smaller."
    )
    return f"{report.markdown(('', *PAPER_FIGURES), rows)}\n\n{note}"


def _columns(figures: report.Figures, name: str) -> tuple[np.ndarray, np.ndarray]:
    """One figure of single and joint runs (R, 1) each."""
    single, joint = (np.array(figures[group][name], float)[:, None] for group in (SINGLE, JOINT))
    return single, joint


def _difference(figures: report.Figures, name: str) -> str:
    single, joint = _columns(figures, name)
    if not (len(single) and len(joint)):
        return report.MISSING
    return f"{mean_and_spread(joint)[0][0] - mean_and_spread(single)[0][0]:+.3f}"


def _sign(figures: report.Figures, name: str) -> str:
    single, joint = _columns(figures, name)
    if not (len(single) and len(joint)):
        return report.MISSING
    better = -1 if name.endswith(SMALLER_IS_BETTER) else 1
    return SIGNS[int(transfer_signs(better * single, better * joint)[0])]
