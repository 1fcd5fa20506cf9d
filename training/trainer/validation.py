"""Scores on a few held-out samples while a run goes on: what learning curves show beside the loss."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from sf_ros.core.tasks import TASKS
from sf_ros.model.fusion import FusedModel
from training.config import TrainConfig
from training.data.cache import Dataset
from training.data.sample import Sample
from training.evaluation import metrics
from training.trainer.objective import Row, TaskData, stacked, visual_tokens

Figures = dict[str, float]


class Spread:
    """`count` samples evenly spaced over a dataset, whose files lie sorted by class; all where there are fewer."""

    def __init__(self, dataset: Dataset, count: int) -> None:
        self.task = dataset.task
        self.identity = f"{dataset.identity}/{count} spread"
        self._dataset = dataset
        self._indices = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int).tolist()

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._indices[index]]


class Validation:
    """Call it for the figures of a model: question and metric -> value, in the precision of training.

    A question with labels has its mAP and accuracy, gaze its min_L2 (AUC needs pictures of the original size: see
    training.evaluate). Samples are read once and kept; those that cannot be are left out. Several processes all compute
    all of them, because FSDP wants them to go together.
    """

    def __init__(self, model: FusedModel, data: Mapping[str, TaskData], config: TrainConfig) -> None:
        self._model, self._data, self._config = model, data, config

    @functools.cached_property
    def _rows(self) -> dict[str, list[Row]]:
        found = {task: readable(data) for task, data in self._data.items()}
        return {task: rows for task, rows in found.items() if rows}

    def __call__(self) -> Figures:
        training = self._model.llm.training
        self._model.llm.eval()
        found = {
            f"{task} {name}": value
            for task, rows in self._rows.items()
            for name, value in self._figures(task, rows).items()
        }
        self._model.llm.train(training)
        return found

    def _figures(self, task: str, rows: Sequence[Row]) -> Figures:
        size = max(1, self._config.joint.batch_size // self._config.joint.accumulate)
        outputs = []
        for start in range(0, len(rows), size):
            visual = visual_tokens(self._model, stacked(rows[start : start + size], self._config))
            if TASKS[task].kind == "heatmap":
                outputs.append(self._model.heatmap_logits(visual).float().sigmoid().cpu())
            else:
                outputs.append(self._model.label_logits(visual, task).float().softmax(-1).cpu())
        answers = torch.cat(outputs).numpy()
        if TASKS[task].kind == "label":
            return metrics.label_metrics(task, answers, np.array([row.label for row in rows]))
        points = [row.points[~np.isnan(row.points[:, 0])] for row in rows]
        distances = [metrics.gaze_distances(heatmap, p)["min_L2"] for heatmap, p in zip(answers, points, strict=True)]
        return {"min_L2": float(np.mean(distances))}


def readable(data: TaskData) -> list[Row]:
    """The rows of a set that stand for themselves, not for another that cannot be read."""
    try:
        rows = [data.row(index) for index in range(len(data))]
    except OSError:  # nothing of it can be read
        return []
    return [row for row in rows if not row.broken]
