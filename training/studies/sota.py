"""A model beside published results:  python -m training.studies sota CHECKPOINT|BUNDLE --data ROOT --out DIR

A trained model on held-out samples beside the paper's and other published results (paper section 4.6, table 7), with
the caveats of the comparison. Tasks whose labels a split hides are left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sf_ros.core import bundle as bundles
from sf_ros.core.fields import known
from training import train
from training.data.cache import tensors_key
from training.data.source import labels_hidden, open_source
from training.evaluation import published_results
from training.evaluation.answers import Answerer, answerer, is_bundle
from training.evaluation.score import read, score
from training.studies.grid import report
from training.studies.grid.arguments import SPLITS
from training.studies.grid.cells import Cell, run_grid
from training.studies.grid.comparison import MISSING
from training.studies.grid.figures import PAPER_FIGURES, Figures, by_group
from training.trainer import checkpoint

THIS = "this run"
DRAWN = "This run was scored on drawn scenes, the others on photographs and films, so the figures cannot be compared."


@dataclass(frozen=True)
class Arguments:
    """Command line of the comparison."""

    model: Annotated[Path, tyro.conf.Positional]  # checkpoint folder or bundle folder
    data: str  # 'scenes', or the root of the real datasets
    out: Path  # folder of the study: results.json, table.md, plot.png
    split: str = "test"  # val | test
    samples: int = 1_000  # per task, when the data is procedural
    tasks: str | None = None  # comma-separated; None: all six


def run(arguments: Arguments) -> dict[str, Any]:
    """Run the missing cells and write results.json, table.md, plot.png."""
    cells = grid(arguments)
    records = run_grid("sota", cells, arguments.out)
    groups = by_group({cell.name: THIS for cell in cells}, records)
    figures = {name: {f: v for f, v in values.items() if f in PAPER_FIGURES} for name, values in groups.items()}
    figures |= {row.name: published_figures(row.figures) for row in published_results.PUBLISHED}
    text = table(figures, arguments)
    return report.write(arguments.out, "sota", arguments, records, text, figures)


def grid(arguments: Arguments) -> list[Cell]:
    """A cell per task. ValueError when the model is neither a checkpoint nor a bundle."""
    settings = {
        "model": identity(arguments.model),
        "data": arguments.data,
        "split": known(arguments.split, SPLITS, "split"),
        "samples": arguments.samples,
    }
    answer = functools.cache(lambda: answerer(arguments.model))
    return [
        Cell(
            task,
            {"task": task, **settings},
            functools.partial(measure, arguments, task, answer),
            reads=((task, arguments.split),),
        )
        for task in train.chosen(arguments.tasks)
    ]


def identity(model: Path) -> str:
    """A short hash of a model's weights. ValueError when it is neither a checkpoint nor a bundle."""
    if is_bundle(model):
        return bundles.load(model).manifest.weights
    tensors = {
        f"{path.stem}.{name}": tensor
        for path in sorted(model.glob("*.safetensors"))
        for name, tensor in checkpoint.read_weights(path).items()
    }
    return tensors_key(tensors)


def measure(arguments: Arguments, task: str, answer: Callable[[], Answerer], folder: Path) -> dict[str, Any]:
    """Score one task; no scores where its labels are hidden."""
    dataset = open_source(arguments.data).samples(task, arguments.split, count=arguments.samples)
    if labels_hidden(dataset):
        return {"scores": {}, "left_out": "labels are hidden: see --submission of training.evaluate"}
    broken: list[str] = []
    scores = score(task, answer(), read(dataset, broken))
    return {"scores": {task: scores}, "skipped": len(broken)}


def published_figures(figures: Sequence[float | None]) -> dict[str, list[float]]:
    """A published row as figures of one run, in shares of one where the paper uses percent."""
    return {
        f"{column.task} {column.metric}": [value / column.scale]
        for column, value in zip(published_results.COLUMNS, figures, strict=True)
        if value is not None
    }


def table(figures: Figures, arguments: Arguments) -> str:
    """The table in the paper's units and order, then the caveats of the selected tasks."""
    rows = []
    for name, values in figures.items():
        cells = []
        for column in published_results.COLUMNS:
            value = values.get(f"{column.task} {column.metric}")
            cells.append(f"{column.scale * value[0]:.{column.digits}f}" if value else MISSING)
        rows.append([name, *cells])
    header = ("", *(f"{column.dataset} {column.title}" for column in published_results.COLUMNS))
    tasks = dict.fromkeys(train.chosen(arguments.tasks))
    remarks = [c.text for c in published_results.PUBLISHED_CAVEATS if any(task in tasks for task in c.tasks)]
    notes = [
        *([DRAWN] if open_source(arguments.data).is_procedural else []),
        *published_results.caveats(tasks, arguments.split),
        *remarks,
    ]
    return f"{report.markdown(header, rows)}\n\n" + "\n".join(f"- {note}" for note in notes)
