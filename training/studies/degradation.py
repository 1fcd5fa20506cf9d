"""An encoder before and after captioning:  python -m training.studies degradation tiny --data scenes --out DIR

The paper compares published encoders before and after VLM pre-training, which also differ in other ways; this is the
same comparison with all else equal. One encoder learns to write generic captions together with an LLM
(training.pretraining.captioning); the control is the same encoder without that stage. Both are probed, their tasks'
gradients are compared, and the fused model is trained on both, jointly and task by task. PRESET tiny-captioned runs the
same cells and has options for the stage, for example --preset.captioning.steps.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sf_ros.core.cues import TASKS
from sf_ros.core.fields import known
from training.config import TrainConfig, preset
from training.evaluation import published_results
from training.model import start
from training.overrides import with_fields
from training.studies import conflict, probes
from training.studies.grid import encoder_pairs, report
from training.studies.grid.arguments import StudyArguments, TrainingArguments
from training.studies.grid.cells import Cell, Record, run_grid
from training.studies.grid.comparison import direction
from training.studies.grid.encoder_pairs import Pair
from training.studies.grid.figures import FIVE_TASKS, PAPER_FIGURES, Figures, Values, by_group
from training.studies.grid.fused_cells import fused_cell

PARTS = ("captioning", "probes", "conflict", "transfer")
LAST = 50  # steps of the reported mean loss
GAIN = "joint - single"
NOTE = (
    "Before is the control: the same encoder without the stage. Images, tasks, LLM, steps and seeds are the same for "
    "both from there on. The seeds are of fresh weights and of the order of samples: there is one encoder before and "
    "one after, so the spread does not cover other runs of the stage."
)
GAINS = "Gains are joint minus single-task training with the same seed, and single minus joint for L2: more is better."


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """Command line of the experiment; PRESET trains its own encoder and has a captioned counterpart."""

    split: str = "test"
    parts: str = ",".join(PARTS)  # comma-separated parts to run
    steps: int | None = None  # optimiser steps of every run of transfer; None: the preset's
    epochs: int = 200  # of a probe, at most
    patience: int = 10  # epochs of a probe without a lower loss on 'val'
    pooling: str = "mean"  # of a probe: mean | attentive
    gradients: int = 500  # samples per task for the gradients; 0: the whole training set


@dataclass(frozen=True)
class Run:
    """A cell and what its figures belong to."""

    part: str
    preset: str
    kind: str  # of transfer: joint | single
    cell: Cell


def run(arguments: Arguments) -> dict[str, Any]:
    """Run the missing cells and write results.json, table.md, plot.png."""
    pair, runs = grid(arguments)
    records = run_grid("degradation", [run.cell for run in runs], arguments.out)
    by_cell = {record.cell: record for record in records}
    figures = {part: figures_of(part, runs, by_cell) for part in PARTS}
    plotted = {name: plotted_figures(figures, name) for name in (pair.before, pair.after)}
    text = table(pair, figures)
    return report.write(arguments.out, "degradation", arguments, records, text, plotted)


def grid(arguments: Arguments) -> tuple[Pair, list[Run]]:
    """The pair and all cells, part by part and seed by seed. ValueError for a preset without such a pair."""
    pair = encoder_pairs.UNPUBLISHED.get(arguments.preset)
    if pair is None or preset(pair.after).captioning is None:
        raise ValueError(f"'{arguments.preset}' has no captioned counterpart; 'tiny' has one.")
    chosen = [known(part, PARTS, "part") for part in arguments.parts.split(",")]
    runs = [run for part in PARTS if part in chosen for run in CELLS[part](arguments, pair)]
    return pair, runs


def fields_of(arguments: Arguments, name: str) -> tuple[str, ...]:
    """The changed fields of a preset; those of the captioning stage apply to the encoder after only."""
    if preset(name).captioning is not None:
        return arguments.set
    return tuple(field for field in arguments.set if not field.startswith("captioning."))


def captioning_cells(arguments: Arguments, pair: Pair) -> list[Run]:
    """The captioning stage, as a cell of its own: all other cells of the encoder after need it."""
    config = with_fields(preset(pair.after), fields_of(arguments, pair.after))
    cell = Cell("captioning", {"config": config.to_dict()}, functools.partial(caption, arguments, config))
    return [Run("captioning", pair.after, "", cell)]


def caption(arguments: Arguments, config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Pre-train the missing parts; returns the first and last caption loss and the loss with swapped images."""
    *_, histories = start.frozen(config, arguments.shared / "pretraining")
    losses = [entry["caption"] for entry in histories["captioned"]]
    return {
        "first loss": losses[0],
        "last loss": float(np.mean(losses[-LAST:])),
        "loss with other images": histories["captioned"][-1]["others"],
    }


def probe_cells(arguments: Arguments, pair: Pair) -> list[Run]:
    """A probe per encoder, task and seed."""
    runs = []
    for seed in arguments.seed_numbers:
        for name in (pair.before, pair.after):
            probe_arguments = probes.Arguments(
                name, arguments.data, arguments.out, arguments.start, arguments.split, arguments.samples,
                set=fields_of(arguments, name), epochs=arguments.epochs, patience=arguments.patience,
                pooling=arguments.pooling,
            )  # fmt: skip
            config = with_fields(preset(name), probe_arguments.set)
            runs += [
                Run(
                    "probes",
                    name,
                    "",
                    probes.probe_cell(f"probe-{name}-{task}-seed{seed}", task, seed, probe_arguments, config),
                )
                for task in probes.LABEL_TASKS
            ]
    return runs


def conflict_cells(arguments: Arguments, pair: Pair) -> list[Run]:
    """A measurement per encoder and seed."""
    conflict_arguments = conflict.Arguments(
        arguments.preset, arguments.data, arguments.out, arguments.start, samples=arguments.gradients
    )
    runs = []
    for seed in arguments.seed_numbers:
        for name in (pair.before, pair.after):
            config = dataclasses.replace(with_fields(preset(name), fields_of(arguments, name)), seed=seed)
            cell = conflict.conflict_cell(f"conflict-{name}-seed{seed}", conflict_arguments, config, None)
            runs.append(Run("conflict", name, "", cell))
    return runs


def transfer_cells(arguments: Arguments, pair: Pair) -> list[Run]:
    """A joint run and one per task, for each encoder and seed."""
    runs = []
    for seed in arguments.seed_numbers:
        for name in (pair.before, pair.after):
            training_arguments = TrainingArguments(
                name, arguments.data, arguments.out, arguments.start, arguments.split, arguments.samples,
                set=fields_of(arguments, name), steps=arguments.steps,
            )  # fmt: skip
            for kind, tasks in (("joint", tuple(TASKS)), *FIVE_TASKS.items()):
                cell = fused_cell(f"{name}-{kind}-seed{seed}", training_arguments, tasks, seed)
                runs.append(Run("transfer", name, "joint" if kind == "joint" else "single", cell))
    return runs


CELLS = {
    "captioning": captioning_cells,
    "probes": probe_cells,
    "conflict": conflict_cells,
    "transfer": transfer_cells,
}


# (part, kind of runs, figures) of each table.
TABLES = (
    ("probes", "", published_results.PROBED),
    ("conflict", "", conflict.FIGURES),
    *(("transfer", kind, PAPER_FIGURES) for kind in ("joint", "single", GAIN)),
)


def figures_of(part: str, runs: Sequence[Run], by_cell: Mapping[str, Record]) -> dict[str, dict[str, list[float]]]:
    """Figures of one part by preset; those of transfer have a prefix 'joint', 'single' or GAIN."""
    part_runs = [run for run in runs if run.part == part]
    records = [by_cell[run.cell.name] for run in part_runs]
    if part == "captioning":
        return {
            run.preset: {name: [value] for name, value in record.facts.items()}
            for run, record in zip(part_runs, records, strict=True)
        }
    if part == "conflict":
        return conflict.figures_of(records, {run.cell.name: run.preset for run in part_runs})
    if part == "probes":
        return by_group({run.cell.name: run.preset for run in part_runs}, records)
    groups = by_group({run.cell.name: f"{run.kind} {run.preset}" for run in part_runs}, records)
    figures: dict[str, dict[str, list[float]]] = {}
    for name in dict.fromkeys(run.preset for run in part_runs):
        joint, single = (groups.get(f"{kind} {name}", {}) for kind in ("joint", "single"))
        figures[name] = {f"joint {figure}": values for figure, values in joint.items()}
        figures[name] |= {f"single {figure}": values for figure, values in single.items()}
        figures[name] |= {f"{GAIN} {figure}": gains(figure, joint, single) for figure in PAPER_FIGURES}
    return figures


def plotted_figures(figures: Mapping[str, Figures], name: str) -> dict[str, Sequence[float]]:
    """The plotted figures of one encoder: without task pairs, and with the gains alone of joint and single runs."""
    return {
        f"{part} {figure}": values
        for part in PARTS[1:]
        for figure, values in figures[part].get(name, {}).items()
        if " / " not in figure and (part != "transfer" or figure.startswith(GAIN))
    }


def gains(figure: str, joint: Values, single: Values) -> list[float]:
    """Gains of joint training seed by seed, more is better; empty unless every seed has both runs."""
    joint_values, single_values = joint.get(figure, ()), single.get(figure, ())
    if len(joint_values) != len(single_values):
        return []
    return [direction(figure) * (j - s) for j, s in zip(joint_values, single_values, strict=True)]


def table(pair: Pair, figures: Mapping[str, Figures]) -> str:
    """A table per part: before, after, and their difference."""
    sections = []
    if losses := figures["captioning"].get(pair.after):
        row = [f"{values[0]:.3f}" for values in losses.values()]
        sections += ["## captioning", report.markdown(tuple(losses), [row])]
    for part, kind, names in TABLES:
        if figures[part]:
            rows = encoder_pairs.pair_rows(figures[part], [pair], [f"{kind} {name}".strip() for name in names])
            title = f"## {part}, {kind}" if kind else f"## {part}"
            sections += [title, report.markdown(("pair", "encoder", *names), rows)]
    return "\n\n".join([*sections, encoder_pairs.notes([pair], NOTE, GAINS)])
