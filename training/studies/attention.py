"""What does full attention among visual tokens do for gaze?

    python -m training.studies attention PRESET --data ROOT --out DIR [--steps N] [--seeds 0,1,2]

Under a causal mask the patches before the head in raster order never see the mark on it (paper section 3.4), so targets
before and after the head are scored apart. Trained on gaze alone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.studies.grid import fused, report
from training.studies.grid.grid import Cell, run_grid

KINDS = ("causal", "full")
TASK = "gaze"
PARTS = (TASK, f"{TASK} before head", f"{TASK} after head")
FIGURES = tuple(f"{part} {metric}" for part in PARTS for metric in ("min_L2", "avg_L2", "AUC"))

Arguments = fused.Arguments


def run(arguments: Arguments) -> dict[str, Any]:
    """Run what is missing and write results.json, table.md, picture.png."""
    cells = grid(arguments)
    records = run_grid("attention", cells, arguments.out)
    figures = fused.by_group({cell.name: cell.settings["config"]["model"]["attention"] for cell in cells}, records)
    rows = [report.spread_row(group, values, FIGURES) for group, values in figures.items()]
    table = report.markdown(("attention", *FIGURES), rows)
    draw = functools.partial(picture, figures)
    return report.write(arguments.out, "attention", arguments, records, table, figures, draw)


def grid(arguments: Arguments) -> list[Cell]:
    """Seed by seed, both kinds of attention."""
    return [
        fused.cell(f"{kind}-seed{seed}", arguments, (TASK,), seed, [f"model.attention={kind}"])
        for seed in arguments.seed_numbers
        for kind in KINDS
    ]


def picture(figures: Mapping[str, Mapping[str, Sequence[float]]], path: Path) -> None:
    """The distance to the nearest annotation, by where the target lies and kind of attention: runs and their mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6.4, 3.6))
    for number, kind in enumerate(KINDS):
        for place, part in enumerate(PARTS):
            values = figures.get(kind, {}).get(f"{part} min_L2", ())
            if len(values):
                middle = place + 0.36 * (number - 0.5)
                axis.bar(
                    middle, np.mean(values), 0.32, color=f"C{number}", alpha=0.35, label=kind if not place else None
                )
                axis.plot([middle] * len(values), values, "o", color=f"C{number}", markersize=4)
    axis.set_xticks(range(len(PARTS)), ["all targets", "before the head", "after the head"])
    axis.set_ylabel("min L2, of the picture's sides")
    axis.legend(title="attention", frameon=False)
    axis.grid(axis="y", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
