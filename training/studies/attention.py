"""Full attention among visual tokens against causal attention, for gaze:

    python -m training.studies attention PRESET --data ROOT --out DIR [--steps N] [--seeds 0,1,2]

Under a causal mask the patches before the head in raster order never see the mark on it (paper section 3.4), so targets
before and after the head are scored separately. The models are trained on gaze alone.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from training.studies.grid import report
from training.studies.grid.arguments import TrainingArguments
from training.studies.grid.cells import Cell, run_grid
from training.studies.grid.figures import Figures, by_group
from training.studies.grid.fused_cells import fused_cell

KINDS = ("causal", "full")
TASK = "gaze"
PARTS = (TASK, f"{TASK} before head", f"{TASK} after head")
FIGURES = tuple(f"{part} {metric}" for part in PARTS for metric in ("min_L2", "avg_L2", "AUC"))

Arguments = TrainingArguments


def run(arguments: Arguments) -> dict[str, Any]:
    """Run the missing cells and write results.json, table.md, plot.png."""
    cells = grid(arguments)
    records = run_grid("attention", cells, arguments.out)
    figures = by_group({cell.name: cell.settings["config"]["model"]["attention"] for cell in cells}, records)
    rows = [report.spread_row(group, values, FIGURES) for group, values in figures.items()]
    table = report.markdown(("attention", *FIGURES), rows)
    draw = functools.partial(plot, figures)
    return report.write(arguments.out, "attention", arguments, records, table, figures, draw)


def grid(arguments: Arguments) -> list[Cell]:
    """The cells, seed by seed: both kinds of attention."""
    return [
        fused_cell(f"{kind}-seed{seed}", arguments, (TASK,), seed, [f"model.attention={kind}"])
        for seed in arguments.seed_numbers
        for kind in KINDS
    ]


def plot(figures: Figures, path: Path) -> None:
    """Plot the distance to the nearest annotation by position of the target and kind of attention: runs and mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6.4, 3.6))
    for number, kind in enumerate(KINDS):
        for column, part in enumerate(PARTS):
            values = figures.get(kind, {}).get(f"{part} min_L2", ())
            if len(values):
                middle = column + 0.36 * (number - 0.5)
                axis.bar(
                    middle, np.mean(values), 0.32, color=f"C{number}", alpha=0.35, label=kind if not column else None
                )
                axis.plot([middle] * len(values), values, "o", color=f"C{number}", markersize=4)
    axis.set_xticks(range(len(PARTS)), ["all targets", "before the head", "after the head"])
    axis.set_ylabel("min L2, shares of the image sides")
    axis.legend(title="attention", frameon=False)
    axis.grid(axis="y", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
