"""Does the same hold for another head?   python -m training.studies gaze_lle PRESET --data ROOT --out DIR

Gaze-LLE (Ryan et al. 2025) on each encoder before and after VLM pre-training (paper section 3.2, table 2), by its
published recipe: 15 epochs, batches of 60, Adam at 1e-3, its own augmentations. Differences to it: the cosine falls
step by step, arithmetic has the preset's precision, and pictures have the size of the preset's encoder.

    python -m training.studies gaze_lle paper-dinov2 --checkpoint gazelle_dinov2_vitl14.pt --data ROOT --out DIR

scores a published checkpoint of its authors on PRESET's encoder and trains nothing.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sf_ros.model.encoders import build_encoder, load_weights
from sf_ros.model.published import open_tensors
from training import train
from training.baselines.gaze_lle import GazeLle, GazeLleConfig
from training.config import StageConfig, TrainConfig
from training.evaluation import published_results
from training.model import start
from training.overrides import with_fields
from training.studies.grid import candidates, fused, gains, report
from training.studies.grid.grid import Cell, run_grid
from training.studies.probing import towers

TASK = "gaze"
FIGURES = tuple(name for name in fused.PAPER_FIGURES if name.split()[0] == TASK)
NO_CLIPPING = 1e9  # of the gradient's norm: the published recipe has none
PUBLISHED = {"gaze min_L2": [0.041], "gaze avg_L2": [0.099], "gaze AUC": [0.958]}  # DINOv2-L; paper section 4.6


@dataclass(frozen=True)
class Arguments(fused.Arguments, towers.TowerArguments):
    """Command line of the comparison in Gaze-LLE."""

    checkpoint: Path | None = None  # published weights of the head, to be scored on PRESET's encoder


def run(arguments: Arguments) -> dict[str, Any]:
    """Run what is missing and write results.json, table.md, picture.png."""
    cells, groups = grid(arguments)
    records = run_grid("gaze_lle", cells, arguments.out)
    figures = fused.by_group(groups, records)
    pairs = () if arguments.checkpoint else towers.pairs_of(arguments)
    return report.write(
        arguments.out, "gaze_lle", arguments, records, table(figures, pairs, arguments.data), figures
    )  # fmt: skip


def grid(arguments: Arguments) -> tuple[list[Cell], dict[str, str]]:
    """Cells seed by seed, tower by tower, and cell -> its group of figures."""
    if arguments.checkpoint is not None:
        cell = published_cell(towers.told(arguments, arguments.preset), arguments.checkpoint)
        return [cell], {cell.name: f"{arguments.preset}, {arguments.checkpoint.name}"}
    cells, groups = [], {}
    for seed in arguments.seed_numbers:
        for preset in towers.presets_of(arguments):
            cells.append(trained_cell(f"{preset}-seed{seed}", towers.told(arguments, preset), seed))
            groups[cells[-1].name] = preset
    return cells, groups


def trained_cell(name: str, told: Arguments, seed: int) -> Cell:
    """Gaze-LLE trained on one tower."""
    head = GazeLleConfig()
    config = configured(told, seed, head)
    make = functools.partial(made, told, config, head)
    return candidates.cell(name, told, (TASK,), config, make, about(config, head))


def published_cell(told: Arguments, checkpoint: Path) -> Cell:
    """A published checkpoint on one tower. WeightsError for what is no such file."""
    head = GazeLleConfig(inout=any(name.startswith("inout_head.") for name in open_tensors(checkpoint)))
    config = candidates.configured(told, (TASK,), 0)
    settings = {**told.held_out, "checkpoint": checkpoint.name, "model": about(config, head)}
    return Cell(checkpoint.stem, settings, functools.partial(score_published, told, config, head, checkpoint))


def configured(told: Arguments, seed: int, head: GazeLleConfig) -> TrainConfig:
    """The preset with the published recipe in the place of its joint stage; fields of --set count last."""
    config = candidates.configured(told, (TASK,), seed)
    batches = max(1, len(train.dataset(told.data, config, TASK)) // head.batch_size)
    recipe = StageConfig(
        steps=told.steps or head.epochs * batches, batch_size=head.batch_size, learning_rate=head.learning_rate,
        warmup=0, weight_decay=0.0, beta2=0.999, clip_norm=NO_CLIPPING,
    )  # fmt: skip
    changed = [field for field in told.set if field.startswith("joint.")]
    return with_fields(dataclasses.replace(config, joint=recipe), changed)


def about(config: TrainConfig, head: GazeLleConfig) -> dict[str, Any]:
    """What figures depend on besides the training."""
    weights = config.weights.encoder if config.weights else "trained here"
    facts = {"name": "gaze-lle", "head": dataclasses.asdict(head), "weights": weights}
    return facts | {"encoder": dataclasses.asdict(config.model.encoder)}


def made(told: Arguments, config: TrainConfig, head: GazeLleConfig) -> GazeLle:
    """Gaze-LLE with a fresh head on a tower in float32."""
    tower = encoder(config, told.shared / "pretraining")
    torch.manual_seed(config.seed)
    return GazeLle(tower.float(), config.model.encoder, head)


def encoder(config: TrainConfig, folder: Path) -> nn.Module:
    """A preset's frozen encoder: its published weights, or the ones that are trained in `folder`."""
    if config.weights is None:
        return start.frozen(config, folder)[0].encoder
    return load_weights(build_encoder(config.model.encoder), config.weights.encoder)


def score_published(
    told: Arguments, config: TrainConfig, head: GazeLleConfig, checkpoint: Path, folder: Path
) -> dict[str, Any]:
    """What evaluation says of a published checkpoint."""
    model = made(told, config, head)
    model.head.load_published(checkpoint)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return {"scores": candidates.scores(model, told, (TASK,))}


def table(figures: report.Figures, pairs: Sequence[towers.Pair], data: str) -> str:
    """The paper's table 2 with differences and signs, the paper's below."""
    rows = towers.comparison({name: v for name, v in figures.items() if name != fused.CHANCE}, pairs, FIGURES)
    for pair in pairs:
        before, after = (figures.get(preset, {}) for preset in (pair.before, pair.after))
        rows.append([pair.name, *gains.sign_row("sign", before, after, FIGURES)])
    rows.append(["", *report.spread_row(fused.CHANCE, figures.get(fused.CHANCE, {}), FIGURES)])
    for name, published in published_results.GAZE_LLE.items():
        before, after = (published_results.by_name(row) for row in published)
        rows += [
            [f"paper, {name}", *report.spread_row("before", before, FIGURES)],
            [f"paper, {name}", *report.spread_row("after", after, FIGURES)],
            [f"paper, {name}", *gains.sign_row("sign", before, after, FIGURES)],
        ]
    rows.append(["Gaze-LLE's authors", *report.spread_row("DINOv2", PUBLISHED, FIGURES)])
    remarks = (gains.NOTE, *([published_results.OTHER_DATA] if data == "scenes" else []))
    return f"{report.markdown(('pair', 'encoder', *FIGURES), rows)}\n\n{towers.notes(pairs, *remarks)}"
