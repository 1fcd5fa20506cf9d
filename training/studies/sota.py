"""How far from the best?   python -m training.studies sota CHECKPOINT|BUNDLE --data ROOT --out DIR [--split test]

A trained model on held-out samples beside the paper's and other published results (paper section 4.6, table 7), with
what must be known to compare them. Questions whose labels a split hides are left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sf_ros.core import bundle as bundles
from sf_ros.core.config import known
from training import evaluate, train
from training.data.cache import tensors_key
from training.evaluation import published_results
from training.studies.grid import report
from training.studies.grid.fused import CHANCE, PAPER_FIGURES, figures_of
from training.studies.grid.grid import SPLITS, Cell, run_grid
from training.studies.grid.records import Record
from training.trainer import checkpoint

THIS = "this run"
DRAWN = (
    "This run was scored on drawn scenes, the others on photographs and films: the table shows its form, and compares "
    "nothing."
)


@dataclass(frozen=True)
class Arguments:
    """Command line of the comparison."""

    model: Annotated[Path, tyro.conf.Positional]  # checkpoint folder or bundle folder
    data: str  # 'scenes', or the root of the real datasets
    out: Path  # folder of the study: results.json, table.md, picture.png
    split: str = "test"  # val | test
    samples: int = 1_000  # per question, when the data is procedural
    tasks: str | None = None  # comma-separated questions; None: all six


def run(arguments: Arguments) -> dict[str, Any]:
    """Score what is missing and write results.json, table.md, picture.png."""
    cells = grid(arguments)
    records = run_grid("sota", cells, arguments.out)
    figures = {THIS: found_in(records), CHANCE: chance_in(records)}
    figures |= {row.name: in_our_units(row.figures) for row in published_results.PUBLISHED}
    text = table(figures, arguments)
    return report.write(arguments.out, "sota", arguments, records, text, figures)


def grid(arguments: Arguments) -> list[Cell]:
    """A cell per question. ValueError for what is no model."""
    settings = {
        "model": identity(arguments.model),
        "data": arguments.data,
        "split": known(arguments.split, SPLITS, "split"),
        "samples": arguments.samples,
    }
    answer = functools.cache(lambda: evaluate.answerer(arguments.model))
    return [
        Cell(task, {"task": task, **settings}, functools.partial(measure, arguments, task, answer))
        for task in train.chosen(arguments.tasks)
    ]


def identity(model: Path) -> str:
    """A short hash of what a model's answers depend on. ValueError when it is no model."""
    if (model / bundles.MANIFEST).exists():
        return bundles.load(model).manifest.weights
    if not (model / checkpoint.CONFIG).exists():
        raise ValueError(
            f"{model}: neither a bundle (no {bundles.MANIFEST}) nor a checkpoint (no {checkpoint.CONFIG})."
        )
    tensors = {
        f"{path.stem}.{name}": tensor
        for path in sorted(model.glob("*.safetensors"))
        for name, tensor in checkpoint.read_weights(path).items()
    }
    return tensors_key(tensors)


def measure(arguments: Arguments, task: str, answer: Callable[[], evaluate.Answerer], folder: Path) -> dict[str, Any]:
    """One question's scores; none where its labels are hidden."""
    dataset = evaluate.held_out(arguments.data, arguments.split, task, arguments.samples)
    if evaluate.hidden(dataset):
        return {"scores": {}, "left_out": "labels are hidden: see --submission of training.evaluate"}
    broken: list[str] = []
    scores = evaluate.score(task, answer(), evaluate.read(dataset, broken))
    return {"scores": {task: scores}, "skipped": len(broken)}


def found_in(records: Sequence[Record]) -> dict[str, list[float]]:
    """'question metric' -> value, as a list of one."""
    scores = {task: result for record in records for task, result in record.facts.get("scores", {}).items()}
    return {name: [value] for name, value in figures_of(scores).items() if name in PAPER_FIGURES}


def chance_in(records: Sequence[Record]) -> dict[str, list[float]]:
    """What answering without looking reaches."""
    scores = {task: result for record in records for task, result in record.facts.get("scores", {}).items()}
    chance = {f"{task} {metric}": [v] for task, result in scores.items() for metric, v in result["chance"].items()}
    return {name: value for name, value in chance.items() if name in PAPER_FIGURES}


def in_our_units(figures: Sequence[float | None]) -> dict[str, list[float]]:
    """A published row as figures of one run: shares of one where the paper writes percent."""
    return {
        f"{column.task} {column.metric}": [value / column.scale]
        for column, value in zip(published_results.COLUMNS, figures, strict=True)
        if value is not None
    }


def table(figures: Mapping[str, Mapping[str, Sequence[float]]], arguments: Arguments) -> str:
    """In the paper's units and order; what bears on the questions that were asked below."""
    rows = []
    for name, values in figures.items():
        cells = []
        for column in published_results.COLUMNS:
            value = values.get(f"{column.task} {column.metric}")
            cells.append(f"{column.scale * value[0]:.{column.digits}f}" if value else report.MISSING)
        rows.append([name, *cells])
    header = ("", *(f"{column.dataset} {column.title}" for column in published_results.COLUMNS))
    asked = dict.fromkeys(train.chosen(arguments.tasks))
    remarks = [c.text for c in published_results.PUBLISHED_CAVEATS if any(task in asked for task in c.tasks)]
    notes = [
        *([DRAWN] if arguments.data == "scenes" else []),
        *published_results.caveats(asked, arguments.split),
        *remarks,
    ]
    return f"{report.markdown(header, rows)}\n\n" + "\n".join(f"- {note}" for note in notes)
