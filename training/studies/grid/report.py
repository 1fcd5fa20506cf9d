"""What a study leaves behind: results.json, table.md and picture.png."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training import lock
from training.config import TOYS
from training.studies.grid.analysis import mean_and_spread
from training.studies.grid.grid import LOCK
from training.studies.grid.records import Record
from training.trainer.checkpoint import commit, versions

Figures = Mapping[str, Mapping[str, Sequence[float]]]  # group of runs -> figure -> its value in every run
PANELS_IN_A_ROW = 4
MISSING = "–"
TOY = "**A run of a few steps: it proves plumbing, and is no evidence of anything.**"


@dataclass(frozen=True)
class Matrix:
    """Numbers in a rectangle; NaN where there is none."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray  # (rows, columns); better is more
    texts: Sequence[Sequence[str]]  # what is written into each place


def write(
    out: Path,
    study: str,
    arguments: Any,
    records: Sequence[Record],
    table: str,
    figures: Figures,
    draw: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Write the three files into `out`; a summary for the last line of stdout.

    `draw` writes another picture than the one of all figures. A table of a preset that is a toy says so first.
    """
    if getattr(arguments, "preset", None) in TOYS:
        table = f"{TOY}\n\n{table}"
    text = {
        "study": study,
        "arguments": {name: str(value) for name, value in dataclasses.asdict(arguments).items()},
        "commit": commit(),
        "versions": versions(),
        "figures": figures,
        "cells": [dataclasses.asdict(record) for record in records],
    }
    files: dict[str, Callable[[Path], object]] = {
        "results.json": lambda path: path.write_text(json.dumps(text, indent=2) + "\n"),
        "table.md": lambda path: path.write_text(f"# {study}\n\n{table}\n"),
        "picture.png": draw or functools.partial(picture, figures),
    }
    with lock.held(out / LOCK):  # every process that runs the grid writes the same
        for name, make in files.items():
            make(lock.beside(out / name))
            lock.beside(out / name).replace(out / name)
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


def gains_matrix(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    signs: Sequence[Sequence[str]] | None = None,
) -> Matrix:
    """A matrix of gains in percent, None where there is none; `signs` stand below the numbers."""
    numbers = np.array([[np.nan if value is None else value for value in row] for row in values], float)
    below = signs or [[""] * len(columns)] * len(rows)
    texts = [
        ["" if np.isnan(value) else f"{value:+.1f}\n{sign}".rstrip() for value, sign in zip(*both, strict=True)]
        for both in zip(numbers, below, strict=True)
    ]
    return Matrix(title, rows, columns, numbers, texts)


def matrices(panels: Sequence[Matrix], path: Path) -> None:
    """Matrices, each place coloured by its sign (blue better, red worse) and size, its text inside.

    Wide ones stand below one another, others side by side.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    width, height = max(len(panel.columns) for panel in panels), max(len(panel.rows) for panel in panels)
    down, across = (len(panels), 1) if width > 2 * height else (1, len(panels))
    size = (0.95 * width + 2.2) * across, (0.75 * height + 1.6) * down
    figure, axes = pyplot.subplots(down, across, figsize=size, squeeze=False, layout="constrained")
    for axis, panel in zip(axes.flat, panels, strict=True):
        known = np.abs(panel.values[np.isfinite(panel.values)])
        # Shades by the root of the size, so that one large figure leaves the small ones visible.
        shade = np.sign(panel.values) * np.sqrt(np.abs(panel.values))
        limit = float(np.sqrt(known.max())) if known.size and known.max() > 0 else 1.0
        axis.imshow(shade, cmap="RdBu", vmin=-1.4 * limit, vmax=1.4 * limit, aspect="auto")
        for (row, column), value in np.ndenumerate(shade):
            colour = "white" if abs(value) > 0.8 * limit else "black"
            axis.text(column, row, panel.texts[row][column], ha="center", va="center", fontsize="small", color=colour)
        axis.set_xticks(range(len(panel.columns)), panel.columns, rotation=30, ha="right", fontsize="small")
        axis.set_yticks(range(len(panel.rows)), panel.rows, fontsize="small")
        axis.set_title(panel.title, fontsize="medium")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
