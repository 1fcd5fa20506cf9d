"""Reports of a study: results.json, table.md and plot.png."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from training.config import TOYS
from training.studies.grid.cells import LOCK, Record
from training.studies.grid.comparison import MISSING, mean_and_spread
from training.studies.grid.figures import Figures, Values
from training.trainer.checkpoint import commit, versions

PANELS_PER_ROW = 4
TOY = "**A run of a few steps: it shows that the study runs, and nothing else.**"


@dataclass(frozen=True)
class Matrix:
    """A table of numbers that is plotted in colours."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray  # (rows, columns), larger is better; NaN for an empty field
    texts: Sequence[Sequence[str]]  # the text of each field


def write(
    out: Path,
    study: str,
    arguments: Any,
    records: Sequence[Record],
    table: str,
    figures: Figures,
    draw: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Write the three files into `out`; returns a summary for the last line of stdout.

    `draw` writes plot.png; by default it has a panel per figure. The table of a toy preset starts with a warning.
    """
    if getattr(arguments, "preset", None) in TOYS:
        table = f"{TOY}\n\n{table}"
    results = {
        "study": study,
        "arguments": {name: str(value) for name, value in dataclasses.asdict(arguments).items()},
        "commit": commit(),
        "versions": versions(),
        "figures": figures,
        "cells": [dataclasses.asdict(record) for record in records],
    }
    files: dict[str, Callable[[Path], object]] = {
        "results.json": lambda path: path.write_text(json.dumps(results, indent=2) + "\n"),
        "table.md": lambda path: path.write_text(f"# {study}\n\n{table}\n"),
        "plot.png": draw or functools.partial(plot, figures),
    }
    with FileLock(out / LOCK):  # every process that runs the grid writes the same files
        for name, write_file in files.items():
            partial = (out / name).with_suffix(f".part{Path(name).suffix}")
            write_file(partial)
            partial.replace(out / name)
    failed = {record.cell: record.error for record in records if record.error is not None}
    return {"study": study, "out": str(out), "cells": len(records), "failed": failed}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |" for line in lines
    )


def spread_row(group: str, values: Values, columns: Sequence[str]) -> list[str]:
    """A table row: the group, and per column 'mean ± standard deviation' over its runs."""
    return [group, *(spread_text(values.get(column, ())) for column in columns)]


def spread_text(values: Sequence[float]) -> str:
    """'mean ± standard deviation' of several runs, the value of one, a dash for none."""
    if not len(values):
        return MISSING
    mean, spread = mean_and_spread(np.array(values)[:, None])
    return f"{mean[0]:.3f} ± {spread[0]:.3f}" if len(values) > 1 else f"{mean[0]:.3f}"


def plot(figures: Figures, path: Path) -> None:
    """Plot a panel per figure: a dot per run of every group, a bar at the group's mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(dict.fromkeys(name for values in figures.values() for name in values))
    columns = max(1, min(PANELS_PER_ROW, len(names)))
    rows = max(1, -(-len(names) // columns))
    figure, axes = pyplot.subplots(rows, columns, figsize=(4 * columns, 3.4 * rows), squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.remove()
    for axis, name in zip(axes.flat, names, strict=False):
        groups = [group for group, values in figures.items() if values.get(name)]
        for column, group in enumerate(groups):
            values, colour = figures[group][name], f"C{list(figures).index(group)}"
            axis.plot([column] * len(values), values, "o", alpha=0.6, color=colour)
            axis.hlines(np.mean(values), column - 0.25, column + 0.25, color=colour)
        axis.set_title(name, fontsize="medium")
        axis.set_xticks(range(len(groups)), groups, rotation=30, ha="right", fontsize="small")
        axis.set_xlim(-0.6, len(groups) - 0.4)
        axis.grid(axis="y", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def gains_matrix(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    signs: Sequence[Sequence[str]] | None = None,
) -> Matrix:
    """A matrix of gains in percent; None leaves a field empty. `signs` are written below the numbers."""
    numbers = np.array([[np.nan if value is None else value for value in row] for row in values], float)
    sign_rows = signs or [[""] * len(columns)] * len(rows)
    texts = [
        ["" if np.isnan(value) else f"{value:+.1f}\n{sign}".rstrip() for value, sign in zip(*fields, strict=True)]
        for fields in zip(numbers, sign_rows, strict=True)
    ]
    return Matrix(title, rows, columns, numbers, texts)


def plot_matrices(panels: Sequence[Matrix], path: Path) -> None:
    """Plot matrices, each field coloured by sign (blue better, red worse) and size, with its text.

    Wide matrices are stacked, others are side by side.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    width, height = max(len(panel.columns) for panel in panels), max(len(panel.rows) for panel in panels)
    down, across = (len(panels), 1) if width > 2 * height else (1, len(panels))
    size = (0.95 * width + 2.2) * across, (0.75 * height + 1.6) * down
    figure, axes = pyplot.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for axis, panel in zip(axes.flat, panels, strict=True):
        sizes = np.abs(panel.values[np.isfinite(panel.values)])
        # Square root, so that small values stay visible beside a large one.
        shade = np.sign(panel.values) * np.sqrt(np.abs(panel.values))
        limit = float(np.sqrt(sizes.max())) if sizes.size and sizes.max() > 0 else 1.0
        axis.imshow(shade, cmap="RdBu", vmin=-1.4 * limit, vmax=1.4 * limit, aspect="auto")
        for (row, column), value in np.ndenumerate(shade):
            colour = "white" if abs(value) > 0.8 * limit else "black"
            axis.text(column, row, panel.texts[row][column], ha="center", va="center", fontsize="small", color=colour)
        axis.set_xticks(range(len(panel.columns)), panel.columns, rotation=30, ha="right", fontsize="small")
        axis.set_yticks(range(len(panel.rows)), panel.rows, fontsize="small")
        axis.set_title(panel.title, fontsize="medium")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
