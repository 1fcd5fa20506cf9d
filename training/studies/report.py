"""What a study leaves behind: results.json, table.md and picture.png."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from training.checkpoint import commit, versions
from training.studies.analysis import mean_and_spread
from training.studies.grid import Record

Figures = Mapping[str, Mapping[str, Sequence[float]]]  # group of runs -> figure -> its value in every run
PANELS_IN_A_ROW = 4
MISSING = "–"


def write(
    out: Path, study: str, arguments: Any, records: Sequence[Record], table: str, figures: Figures
) -> dict[str, Any]:
    """Write the three files into `out`; a summary for the last line of stdout."""
    text = {
        "study": study,
        "arguments": {name: str(value) for name, value in dataclasses.asdict(arguments).items()},
        "commit": commit(),
        "versions": versions(),
        "figures": figures,
        "cells": [dataclasses.asdict(record) for record in records],
    }
    (out / "results.json").write_text(json.dumps(text, indent=2) + "\n")
    (out / "table.md").write_text(f"# {study}\n\n{table}\n")
    picture(figures, out / "picture.png")
    failed = {record.cell: record.error for record in records if record.error is not None}
    return {"study": study, "out": str(out), "cells": len(records), "failed": failed}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, its columns aligned for whoever reads the text."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )


def spread_row(group: str, values: Mapping[str, Sequence[float]], columns: Sequence[str]) -> list[str]:
    """A line of a table: the group, and per column 'mean ± spread' over its runs."""
    return [group, *(spread_text(values.get(column, ())) for column in columns)]


def spread_text(values: Sequence[float]) -> str:
    """'mean ± standard deviation' of several runs, the value of one, a dash for none."""
    if not len(values):
        return MISSING
    mean, spread = mean_and_spread(np.array(values)[:, None])
    return f"{mean[0]:.3f} ± {spread[0]:.3f}" if len(values) > 1 else f"{mean[0]:.3f}"


def picture(figures: Figures, path: Path) -> None:
    """A panel per figure: a dot for every run of every group, a bar at their mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(name for values in figures.values() for name in values))
    columns = max(1, min(PANELS_IN_A_ROW, len(names)))
    rows = max(1, -(-len(names) // columns))
    figure, axes = pyplot.subplots(rows, columns, figsize=(4 * columns, 3.4 * rows), squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for axis, name in zip(axes.flat, names, strict=False):
        groups = [group for group, values in figures.items() if values.get(name)]
        for place, group in enumerate(groups):
            values, colour = figures[group][name], f"C{list(figures).index(group)}"
            axis.plot([place] * len(values), values, "o", alpha=0.6, color=colour)
            axis.hlines(np.mean(values), place - 0.25, place + 0.25, color=colour)
        axis.set_title(name, fontsize="medium")
        axis.set_xticks(range(len(groups)), groups, rotation=30, ha="right", fontsize="small")
        axis.set_xlim(-0.6, len(groups) - 0.4)
        axis.grid(axis="y", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
