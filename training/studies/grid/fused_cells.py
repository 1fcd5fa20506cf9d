"""Cells that train the fused model and score it on held-out samples.

The pre-trained parts and the cached views and features of every task are in one shared folder: the first cell that
needs them makes them, the others reuse them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from sf_ros.engines.base import Answer
from sf_ros.model.fusion import FusedModel
from training import train
from training.config import TrainConfig
from training.data import cache
from training.data.columns import CachedData
from training.data.inputs import collate
from training.data.sample import Sample
from training.data.source import open_source
from training.evaluation.run import evaluate
from training.evaluation.score import score
from training.evaluation.teacher import teacher_key
from training.model.answers import answer_of
from training.studies.grid.arguments import TrainingArguments
from training.studies.grid.cells import Cell
from training.studies.grid.hidden import visible
from training.trainer import checkpoint
from training.trainer.objective import query_features

Scores = Callable[[Path, TrainingArguments, Sequence[str]], dict[str, dict[str, Any]]]


def fused_cell(
    name: str,
    arguments: TrainingArguments,
    tasks: Sequence[str],
    seed: int,
    fields: Sequence[str] = (),
    teacher: Path | None = None,
) -> Cell:
    """A cell that trains the fused model on some tasks and scores it on the same tasks.

    `fields` are further FIELD=VALUE changes of the preset; `teacher` is a bundle or checkpoint whose answers are
    learned beside the labels. ValueError for fields that the configuration refuses.
    """
    command = train.Arguments(
        arguments.preset, arguments.data, arguments.out, steps=arguments.steps, tasks=",".join(tasks), seed=seed,
        cache=arguments.cache, set=("validate_every=0", *arguments.set, *fields), start=arguments.shared, resume=True,
        teacher=teacher,
    )  # fmt: skip
    config = train.configured(command).to_dict()
    settings = {"tasks": list(tasks), "seed": seed, **arguments.held_out, "config": config}
    if teacher is not None:
        settings["teacher"] = teacher_key(teacher)
    scores = scores_from_features if train.cache_mode(command) == "features" else scores_from_images
    run = functools.partial(train_and_score, command, arguments, scores)
    scratch = () if arguments.keep else ("joint", "checkpoint")
    return Cell(name, settings, run, scratch, arguments.read_by(tasks, "train"))


def train_and_score(
    command: train.Arguments, arguments: TrainingArguments, scores: Scores, folder: Path
) -> dict[str, Any]:
    """Results of training and of evaluation of one run, on the tasks whose labels the scored split shows."""
    scored = visible(arguments, train.chosen(command.tasks))
    facts = train.train(dataclasses.replace(command, out=folder))
    return {"training": facts, "scores": scores(folder / "checkpoint", arguments, scored) if scored else {}}


def scores_from_images(path: Path, arguments: TrainingArguments, tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Results of training.evaluate, for runs without cached features."""
    return evaluate(path, arguments.data, arguments.split, arguments.samples, tasks=list(tasks))


def scores_from_features(path: Path, arguments: TrainingArguments, tasks: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Results as of training.evaluate, from features that the shared folder caches for models with this encoder."""
    model, _, config = checkpoint.load(path)
    results = {}
    for task in tasks:
        dataset = open_source(arguments.data).samples(task, arguments.split, count=arguments.samples)
        folder = arguments.shared / "cache" / f"{task}-{cache.views_key(dataset, config.model)}"
        views = cache.load_or_build(dataset, config.model, folder)
        data = cache.load_or_encode(views, model.encoder, config.model, folder, exact=True)
        held_out = CachedSamples(model, config, data)
        results[task] = score(task, held_out.answer, held_out.samples())
        if skipped := len(dataset) - len(views):
            results[task]["skipped"] = {"samples": skipped}
    return results


@dataclass(frozen=True)
class CachedSamples:
    """Samples without pixels, and a model's answers to them from cached features."""

    model: FusedModel
    config: TrainConfig
    data: CachedData

    def samples(self) -> Iterator[Sample]:
        """All samples in order, with labels or points, a blank image of the right size, and their row in `tags`."""
        data = self.data
        for row, (label, points, size, tags) in enumerate(
            zip(data.labels, data.points, data.sizes, data.tags, strict=True)
        ):
            blank = np.broadcast_to(np.uint8(0), (size[1], size[0], 3))
            annotated = points[~np.isnan(points[:, 0])].astype(float)
            yield Sample(
                data.task,
                blank,
                label=None if label < 0 else int(label),
                points_norm=tuple((x, y) for x, y in annotated.tolist()),
                key=tags["key"],
                tags={**tags, "row": row},
            )

    @torch.inference_mode()
    def answer(self, sample: Sample) -> Answer:
        """Equal to the reference answer of training.evaluate up to rounding."""
        inputs = self.data.inputs(cast(int, sample.tags["row"]))
        batch = collate([inputs], [sample.task], self.config.model)
        return answer_of(self.model, query_features(self.model, batch), sample.task)
