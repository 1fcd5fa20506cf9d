"""What does captioning do to an encoder?   python -m training.studies degradation tiny --data scenes --out DIR

The paper compares published encoders before and after VLM pre-training, which differ in much else; this is the same
comparison with all else equal. One encoder is put through a stage in which it learns to write generic captions together
with a LLM (training.pretraining.captioning); the control is the encoder that has not been through it. Both
are probed, their tasks' gradients compared, and the fused model trained on both, jointly and task by task.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sf_ros.core.config import known
from sf_ros.core.tasks import TASKS
from training.config import TrainConfig, preset
from training.evaluation import published_results
from training.model import start
from training.overrides import with_fields
from training.studies import conflict, probes
from training.studies.grid import fused, report
from training.studies.grid.fused import FIVE_TASKS, PAPER_FIGURES
from training.studies.grid.gains import direction
from training.studies.grid.grid import Cell, StudyArguments, run_grid
from training.studies.grid.records import Record
from training.studies.probing import towers

PARTS = ("captioning", "probes", "conflict", "transfer")
LAST = 50  # steps whose mean loss is told
GAIN = "joint - single"
NOTE = (
    "Before is the control: the same encoder without the stage. Both have the same pictures, questions, LLM, "
    "steps and seeds from there on. Seeds are those of fresh weights and of the order of samples: there is one encoder "
    "before and one after, and a spread says nothing of how another run of the stage would have ended."
)
GAINS = "Gains are joint minus single-task training with the same seed; of L2, single minus joint: more is better."


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """Command line of the experiment; PRESET trains an encoder of its own and has a captioned counterpart."""

    split: str = "test"
    parts: str = ",".join(PARTS)  # which of them, with commas between
    steps: int | None = None  # of the optimiser in every run of transfer; None: the preset's
    epochs: int = 200  # of a probe, at most
    patience: int = 10  # epochs of a probe without a lower loss on 'val'
    pooling: str = "mean"  # of a probe: mean | attentive
    gradients: int = 500  # samples of each question whose gradients are compared; 0: the whole training set


@dataclass(frozen=True)
class Run:
    """A cell, and what its figures are of."""

    part: str
    preset: str
    kind: str  # of transfer: joint | single
    cell: Cell


def run(arguments: Arguments) -> dict[str, Any]:
    """Run what is missing and write results.json, table.md, picture.png."""
    pair, runs = grid(arguments)
    records = run_grid("degradation", [one.cell for one in runs], arguments.out)
    found = {one.cell.name: record for one, record in zip(runs, records, strict=True)}
    figures = {part: figures_of(part, runs, found) for part in PARTS}
    shown = {name: in_picture(figures, name) for name in (pair.before, pair.after)}
    text = table(pair, figures)
    return report.write(arguments.out, "degradation", arguments, records, text, shown)


def grid(arguments: Arguments) -> tuple[towers.Pair, list[Run]]:
    """The pair and all cells, part by part and seed by seed. ValueError for a preset without such a pair."""
    pair = towers.OWN.get(arguments.preset)
    if pair is None or preset(pair.after).captioning is None:
        raise ValueError(f"'{arguments.preset}' has no captioned counterpart; 'tiny' has one.")
    chosen = [known(part, PARTS, "part") for part in arguments.parts.split(",")]
    runs = [one for part in PARTS if part in chosen for one in CELLS[part](arguments, pair)]
    return pair, runs


def fields_of(arguments: Arguments, name: str) -> tuple[str, ...]:
    """What --set changes of a preset; fields of the stage are those of the encoder after alone."""
    if preset(name).captioning is not None:
        return arguments.set
    return tuple(field for field in arguments.set if not field.startswith("captioning."))


def captioning_cells(arguments: Arguments, pair: towers.Pair) -> list[Run]:
    """The stage itself, which every other part of the encoder after would otherwise wait for."""
    config = with_fields(preset(pair.after), fields_of(arguments, pair.after))
    cell = Cell("captioning", {"config": config.to_dict()}, functools.partial(caption, arguments, config))
    return [Run("captioning", pair.after, "", cell)]


def caption(arguments: Arguments, config: TrainConfig, folder: Path) -> dict[str, Any]:
    """Pre-train what is missing; the loss of the captions at first, in the end, and beside other pictures."""
    *_, histories = start.frozen(config, arguments.shared / "pretraining")
    losses = [entry["caption"] for entry in histories["captioned"]]
    return {
        "first loss": losses[0],
        "last loss": float(np.mean(losses[-LAST:])),
        "loss beside other pictures": histories["captioned"][-1]["others"],
    }


def probe_cells(arguments: Arguments, pair: towers.Pair) -> list[Run]:
    """A probe per encoder, question and seed."""
    runs = []
    for seed in arguments.seed_numbers:
        for name in (pair.before, pair.after):
            told = probes.Arguments(
                name, arguments.data, arguments.out, arguments.start, arguments.split, arguments.samples,
                set=fields_of(arguments, name), epochs=arguments.epochs, patience=arguments.patience,
                pooling=arguments.pooling,
            )  # fmt: skip
            config = with_fields(preset(name), told.set)
            runs += [
                Run("probes", name, "", probes.cell(f"probe-{name}-{task}-seed{seed}", task, seed, told, config))
                for task in probes.QUESTIONS
            ]
    return runs


def conflict_cells(arguments: Arguments, pair: towers.Pair) -> list[Run]:
    """A measurement per encoder and seed."""
    told = conflict.Arguments(
        arguments.preset, arguments.data, arguments.out, arguments.start, samples=arguments.gradients
    )
    runs = []
    for seed in arguments.seed_numbers:
        for name in (pair.before, pair.after):
            config = dataclasses.replace(with_fields(preset(name), fields_of(arguments, name)), seed=seed)
            cell = conflict.cell(f"conflict-{name}-seed{seed}", told, config, None)
            runs.append(Run("conflict", name, "", cell))
    return runs


def transfer_cells(arguments: Arguments, pair: towers.Pair) -> list[Run]:
    """A joint run and one per task, for each encoder and seed."""
    runs = []
    for seed in arguments.seed_numbers:
        for name in (pair.before, pair.after):
            told = fused.Arguments(
                name, arguments.data, arguments.out, arguments.start, arguments.split, arguments.samples,
                set=fields_of(arguments, name), steps=arguments.steps,
            )  # fmt: skip
            for kind, tasks in (("joint", tuple(TASKS)), *FIVE_TASKS.items()):
                cell = fused.cell(f"{name}-{kind}-seed{seed}", told, tasks, seed)
                runs.append(Run("transfer", name, "joint" if kind == "joint" else "single", cell))
    return runs


CELLS = {
    "captioning": captioning_cells,
    "probes": probe_cells,
    "conflict": conflict_cells,
    "transfer": transfer_cells,
}


# Part, kind of runs, figures of each table.
TABLES = (
    ("probes", "", published_results.PROBED),
    ("conflict", "", conflict.FIGURES),
    *(("transfer", kind, PAPER_FIGURES) for kind in ("joint", "single", GAIN)),
)


def figures_of(part: str, runs: Sequence[Run], found: Mapping[str, Record]) -> dict[str, dict[str, list[float]]]:
    """One part's figures by preset; of transfer with 'joint', 'single' or GAIN before each."""
    mine = [one for one in runs if one.part == part]
    records = [found[one.cell.name] for one in mine]
    if part == "captioning":
        return {one.preset: {n: [v] for n, v in r.facts.items()} for one, r in zip(mine, records, strict=True)}
    if part == "conflict":
        return conflict.figures_of(records, {one.cell.name: one.preset for one in mine})
    if part == "probes":
        return fused.by_group({one.cell.name: one.preset for one in mine}, records)
    groups = fused.by_group({one.cell.name: f"{one.kind} {one.preset}" for one in mine}, records)
    figures: dict[str, dict[str, list[float]]] = {}
    for name in dict.fromkeys(one.preset for one in mine):
        joint, single = (groups.get(f"{kind} {name}", {}) for kind in ("joint", "single"))
        figures[name] = {f"joint {figure}": values for figure, values in joint.items()}
        figures[name] |= {f"single {figure}": values for figure, values in single.items()}
        figures[name] |= {f"{GAIN} {figure}": gains(figure, joint, single) for figure in PAPER_FIGURES}
    return figures


def in_picture(figures: Mapping[str, report.Figures], name: str) -> dict[str, Sequence[float]]:
    """What is drawn of one encoder: no pairs of tasks, and of joint and single runs the gains alone."""
    return {
        f"{part} {figure}": values
        for part in PARTS[1:]
        for figure, values in figures[part].get(name, {}).items()
        if " / " not in figure and (part != "transfer" or figure.startswith(GAIN))
    }


def gains(figure: str, joint: Mapping[str, Sequence[float]], single: Mapping[str, Sequence[float]]) -> list[float]:
    """What joint training gains seed by seed, more being better; nothing unless every seed has both."""
    pairs = joint.get(figure, ()), single.get(figure, ())
    if len(pairs[0]) != len(pairs[1]):
        return []
    return [direction(figure) * (j - s) for j, s in zip(*pairs, strict=True)]


def table(pair: towers.Pair, figures: Mapping[str, report.Figures]) -> str:
    """A table per part: before, after, and their difference."""
    found = []
    if told := figures["captioning"].get(pair.after):
        found += ["## captioning", report.markdown(tuple(told), [[f"{value[0]:.3f}" for value in told.values()]])]
    for part, kind, names in TABLES:
        if figures[part]:
            rows = towers.comparison(figures[part], [pair], [f"{kind} {name}".strip() for name in names])
            title = f"## {part}, {kind}" if kind else f"## {part}"
            found += [title, report.markdown(("pair", "encoder", *names), rows)]
    return "\n\n".join([*found, towers.notes([pair], NOTE, GAINS)])
