"""Cells that train the fused model and score it on held-out samples; what they share lies in one folder.

That is the pre-trained parts, and views and features of every question, of training and of the held-out split: made by
whichever cell is first, used by all.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from sf_ros.engines.base import Answer
from sf_ros.model.fusion import FusedModel
from training import evaluate, train
from training.config import TrainConfig
from training.data import cache
from training.data.sample import Sample
from training.evaluation import published_results
from training.studies.grid.grid import Cell, StudyArguments
from training.studies.grid.records import Record
from training.trainer import checkpoint
from training.trainer.objective import CachedData, stacked, visual_tokens

# The paper's five tasks; PISC's two questions are one of them (paper section 4.1).
FIVE_TASKS: dict[str, tuple[str, ...]] = {
    "gesture": ("gesture",),
    "social_relation": ("domain", "relation"),
    "looking_at_me": ("looking_at_me",),
    "gaze": ("gaze",),
    "expression": ("expression",),
}
CHANCE = "chance"
PAPER_FIGURES = tuple(f"{column.task} {column.metric}" for column in published_results.COLUMNS)  # table 1, in its order


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """Command line of a study whose cells are trained."""

    steps: int | None = None  # of the optimiser in every run; None: the preset's
    cache: str = "auto"  # as in training.train
    keep: bool = False  # each cell's state and checkpoint; otherwise only its facts and curves


Score = Callable[[Path, Arguments, Sequence[str]], dict[str, dict[str, Any]]]


def cell(name: str, told: Arguments, tasks: Sequence[str], seed: int, fields: Sequence[str] = ()) -> Cell:
    """Train on some questions, score on the same. ValueError for fields that the configuration refuses."""
    command = train.Arguments(
        told.preset, told.data, told.out, steps=told.steps, tasks=",".join(tasks), seed=seed, cache=told.cache,
        set=("validate_every=0", *told.set, *fields), start=told.shared, resume=True,
    )  # fmt: skip
    config = train.configured(command).to_dict()
    settings = {"tasks": list(tasks), "seed": seed, **told.held_out, "config": config}
    score = scores_from_features if train.cache_mode(command) == "features" else scores_of_pictures
    run = functools.partial(train_and_score, command, told, score)
    return Cell(name, settings, run, scratch=() if told.keep else ("joint", "checkpoint"))


def train_and_score(command: train.Arguments, told: Arguments, score: Score, folder: Path) -> dict[str, Any]:
    """What training and evaluation say of one run."""
    facts = train.train(dataclasses.replace(command, out=folder))
    return {"training": facts, "scores": score(folder / "checkpoint", told, train.chosen(command.tasks))}


def scores_of_pictures(trained: Path, told: Arguments, tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What training.evaluate finds, where no features are kept on disk."""
    return evaluate.evaluate(trained, told.data, told.split, told.samples, tasks=list(tasks))


def scores_from_features(trained: Path, told: Arguments, tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The same from features, which the shared folder keeps for the next model with this encoder."""
    model, _, config = checkpoint.load(trained)
    results = {}
    for task in tasks:
        dataset = evaluate.held_out(told.data, told.split, task, told.samples)
        encoder = config.model.encoder
        place = told.shared / "cache" / f"{task}-{cache.views_key(dataset, encoder)}"
        views = cache.load_or_build(dataset, encoder, place)
        features = cache.load_or_encode(views, model.encoder, encoder, place, exact=True)
        held_out = HeldOut(model, config, CachedData(views, features))
        results[task] = evaluate.score(task, held_out.answer, held_out.samples())
        if skipped := len(dataset) - len(views):
            results[task]["skipped"] = {"samples": skipped}
    return results


@dataclass(frozen=True)
class HeldOut:
    """Samples without their pictures, and a model's answers to them from exact features."""

    model: FusedModel
    config: TrainConfig
    data: CachedData

    def samples(self) -> Iterator[Sample]:
        """All samples in order: truth, size of the picture, and in `tags` the row that they are answered from."""
        views = self.data.views
        for row, (label, points, size, tags) in enumerate(
            zip(views.labels, views.points, views.sizes, views.tags, strict=True)
        ):
            blank = np.broadcast_to(np.uint8(0), (size[1], size[0], 3))
            given = points[~np.isnan(points[:, 0])].astype(float)
            yield Sample(
                views.task,
                blank,
                label=None if label < 0 else int(label),
                points_norm=tuple((x, y) for x, y in given.tolist()),
                key=tags["key"],
                tags={**tags, "row": row},
            )

    @torch.inference_mode()
    def answer(self, sample: Sample) -> Answer:
        """The same as training.evaluate's reference, up to the last digits."""
        row = self.data.row(cast(int, sample.tags["row"]))
        return evaluate.answer_of(self.model, visual_tokens(self.model, stacked([row], self.config)), sample.task)


def figures_of(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Results of training.evaluate -> 'question metric' -> value; gaze by the target's place too, where it is known."""
    found: dict[str, float] = {}
    for task, result in scores.items():
        parts = {task: result["metrics"]}
        for order in ("after", "before"):
            part = result.get(f"target_{order}_head", {})
            parts[f"{task} {order} head"] = {name: part[name] for name in part if name != "samples"}
        found |= {f"{name} {metric}": value for name, metrics in parts.items() for metric, value in metrics.items()}
    return found


def by_group(groups: Mapping[str, str], records: Sequence[Record]) -> dict[str, dict[str, list[float]]]:
    """Cell -> group of cells, and their records -> group -> figure -> its value in every run that has it.

    CHANCE is the last group: what answering without looking reaches, which is the same in all cells.
    """
    figures: dict[str, dict[str, list[float]]] = {group: {} for group in (*groups.values(), CHANCE)}
    for record in records:
        scores = record.facts.get("scores", {})
        for name, value in figures_of(scores).items():
            figures[groups[record.cell]].setdefault(name, []).append(value)
        for task, result in scores.items():
            figures[CHANCE] |= {f"{task} {metric}": [value] for metric, value in result["chance"].items()}
    return figures
