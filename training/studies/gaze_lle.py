"""Encoders before and after VLM pre-training in Gaze-LLE:  python -m training.studies gaze_lle PRESET --data ROOT ...

Gaze-LLE (Ryan et al. 2025) on each encoder before and after VLM pre-training (paper section 3.2, table 2), by its
published recipe: 15 epochs, batches of 60, Adam at 1e-3, its own augmentations. Deviations: the cosine decays per step,
not per epoch, arithmetic has the preset's precision, and images have the size of the preset's encoder.

    python -m training.studies gaze_lle paper-dinov2 --checkpoint gazelle_dinov2_vitl14.pt --data ROOT --out DIR

scores a published checkpoint on PRESET's encoder, without training.
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
from training.baselines.gaze_lle import GazeLle, GazeLleConfig
from training.config import StageConfig, TrainConfig
from training.data.source import open_source
from training.evaluation import published_results
from training.model import start
from training.overrides import with_fields
from training.studies.grid import comparison, encoder_pairs, report
from training.studies.grid.arguments import TrainingArguments
from training.studies.grid.baseline_cells import baseline_cell, baseline_config, baseline_scores
from training.studies.grid.cells import Cell, run_grid
from training.studies.grid.encoder_pairs import EncoderPairArguments, Pair
from training.studies.grid.figures import CHANCE, PAPER_FIGURES, Figures, by_group
from training.train import training_set

TASK = "gaze"
FIGURES = tuple(name for name in PAPER_FIGURES if name.split()[0] == TASK)
NO_CLIPPING = 1e9  # gradient norm; the published recipe does not clip
PUBLISHED = {"gaze min_L2": [0.041], "gaze avg_L2": [0.099], "gaze AUC": [0.958]}  # DINOv2-L; paper section 4.6


@dataclass(frozen=True)
class Arguments(TrainingArguments, EncoderPairArguments):
    """Command line of the comparison in Gaze-LLE."""

    checkpoint: Path | None = None  # published weights of the head, scored on PRESET's encoder


def run(arguments: Arguments) -> dict[str, Any]:
    """Run the missing cells and write results.json, table.md, plot.png."""
    cells, groups = grid(arguments)
    records = run_grid("gaze_lle", cells, arguments.out)
    figures = by_group(groups, records)
    pairs = () if arguments.checkpoint else encoder_pairs.pairs_of(arguments)
    text = table(figures, pairs, arguments.data)
    return report.write(arguments.out, "gaze_lle", arguments, records, text, figures)


def grid(arguments: Arguments) -> tuple[list[Cell], dict[str, str]]:
    """The cells, seed by seed and encoder by encoder, and cell -> group of figures."""
    if arguments.checkpoint is not None:
        cell = published_cell(encoder_pairs.for_encoder(arguments, arguments.preset), arguments.checkpoint)
        return [cell], {cell.name: f"{arguments.preset}, {arguments.checkpoint.name}"}
    cells, groups = [], {}
    for seed in arguments.seed_numbers:
        for preset in encoder_pairs.presets_of(arguments):
            cells.append(trained_cell(f"{preset}-seed{seed}", encoder_pairs.for_encoder(arguments, preset), seed))
            groups[cells[-1].name] = preset
    return cells, groups


def trained_cell(name: str, arguments: Arguments, seed: int) -> Cell:
    """A cell that trains Gaze-LLE on one encoder."""
    head = GazeLleConfig()
    config = recipe_config(arguments, seed, head)
    build = functools.partial(build_model, arguments, config, head)
    return baseline_cell(name, arguments, (TASK,), config, build, identity(config, head))


def published_cell(arguments: Arguments, checkpoint: Path) -> Cell:
    """A cell that scores a published checkpoint on one encoder. WeightsError for another kind of file."""
    head = GazeLleConfig(inout=any(name.startswith("inout_head.") for name in open_tensors(checkpoint)))
    config = baseline_config(arguments, (TASK,), 0)
    settings = {**arguments.held_out, "checkpoint": checkpoint.name, "model": identity(config, head)}
    run = functools.partial(score_published, arguments, config, head, checkpoint)
    return Cell(checkpoint.stem, settings, run, reads=arguments.read_by((TASK,)))


def recipe_config(arguments: Arguments, seed: int, head: GazeLleConfig) -> TrainConfig:
    """The preset with the published recipe as its joint stage, then the fields of --set."""
    config = baseline_config(arguments, (TASK,), seed)
    batches = max(1, len(training_set(arguments.data, config, TASK)) // head.batch_size)
    recipe = StageConfig(
        steps=arguments.steps or head.epochs * batches, batch_size=head.batch_size, learning_rate=head.learning_rate,
        warmup=0, weight_decay=0.0, beta2=0.999, clip_norm=NO_CLIPPING,
    )  # fmt: skip
    changed = [field for field in arguments.set if field.startswith("joint.")]
    return with_fields(dataclasses.replace(config, joint=recipe), changed)


def identity(config: TrainConfig, head: GazeLleConfig) -> dict[str, Any]:
    """What the results depend on besides the training configuration."""
    weights = config.weights.encoder if config.weights else "trained here"
    facts = {"name": "gaze-lle", "head": dataclasses.asdict(head), "weights": weights}
    return facts | {"encoder": dataclasses.asdict(config.model.encoder)}


def build_model(arguments: Arguments, config: TrainConfig, head: GazeLleConfig) -> GazeLle:
    """Gaze-LLE with a fresh head on a float32 encoder."""
    frozen = frozen_encoder(config, arguments.shared / "pretraining")
    torch.manual_seed(config.seed)
    return GazeLle(frozen.float(), config.model.encoder, head)


def frozen_encoder(config: TrainConfig, folder: Path) -> nn.Module:
    """A preset's frozen encoder, with its published weights or those trained in `folder`."""
    if config.weights is None:
        return start.frozen(config, folder)[0].encoder
    return load_weights(build_encoder(config.model.encoder), config.weights.encoder)


def score_published(
    arguments: Arguments, config: TrainConfig, head: GazeLleConfig, checkpoint: Path, folder: Path
) -> dict[str, Any]:
    """Evaluation results of a published checkpoint."""
    model = build_model(arguments, config, head)
    model.head.load_published(checkpoint)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    return {"scores": baseline_scores(model, arguments, (TASK,))}


def table(figures: Figures, pairs: Sequence[Pair], data: str) -> str:
    """The paper's table 2 with differences and signs, then the paper's own rows."""
    rows = encoder_pairs.pair_rows({name: v for name, v in figures.items() if name != CHANCE}, pairs, FIGURES)
    for pair in pairs:
        before, after = (figures.get(preset, {}) for preset in (pair.before, pair.after))
        rows.append([pair.name, *comparison.sign_row("sign", before, after, FIGURES)])
    rows.append(["", *report.spread_row(CHANCE, figures.get(CHANCE, {}), FIGURES)])
    for name, published in published_results.GAZE_LLE.items():
        before, after = (published_results.by_name(row) for row in published)
        rows += [
            [f"paper, {name}", *report.spread_row("before", before, FIGURES)],
            [f"paper, {name}", *report.spread_row("after", after, FIGURES)],
            [f"paper, {name}", *comparison.sign_row("sign", before, after, FIGURES)],
        ]
    rows.append(["Gaze-LLE's authors", *report.spread_row("DINOv2", PUBLISHED, FIGURES)])
    remarks = (comparison.NOTE, *open_source(data).remarks)
    return f"{report.markdown(('pair', 'encoder', *FIGURES), rows)}\n\n{encoder_pairs.notes(pairs, *remarks)}"
