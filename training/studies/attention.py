"""What does full attention among visual tokens do for gaze?

    python -m training.studies attention PRESET --data ROOT --out DIR [--steps N] [--seeds 0,1,2]

Under a causal mask the patches before the head in raster order never see the mark on it (paper section 3.4), so targets
before and after the head are scored apart. Trained on gaze alone.
"""

from __future__ import annotations

from typing import Any

from training.studies import fused, report
from training.studies.grid import Cell, run_grid

KINDS = ("causal", "full")
TASK = "gaze"
FIGURES = tuple(
    f"{part} {metric}"
    for part in (TASK, f"{TASK} before head", f"{TASK} after head")
    for metric in ("min_L2", "avg_L2", "AUC")
)

Arguments = fused.Arguments


def run(arguments: Arguments) -> dict[str, Any]:
    """Run what is missing and write results.json, table.md, picture.png."""
    cells = grid(arguments)
    records = run_grid("attention", cells, arguments.out)
    figures = fused.by_group({cell.name: cell.settings["config"]["model"]["attention"] for cell in cells}, records)
    rows = [report.spread_row(group, values, FIGURES) for group, values in figures.items()]
    table = report.markdown(("attention", *FIGURES), rows)
    return report.write(arguments.out, "attention", arguments, records, table, figures)


def grid(arguments: Arguments) -> list[Cell]:
    """Seed by seed, both kinds of attention."""
    return [
        fused.cell(f"{kind}-seed{seed}", arguments, (TASK,), seed, [f"model.attention={kind}"])
        for seed in arguments.seed_numbers
        for kind in KINDS
    ]
