"""Scores on a few validation samples during training, shown in the learning curves beside the loss."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from sf_ros.core.cues import TASKS
from sf_ros.model.fusion import FusedModel
from training.config import TrainConfig
from training.data.inputs import ModelInputs, collate
from training.data.sample import Dataset, Sample
from training.data.task_data import TaskData
from training.evaluation import metrics
from training.model.answers import answer_values
from training.trainer.objective import query_features

Figures = dict[str, float]


class Spread:
    """`count` samples evenly spaced over a dataset, whose files are often sorted by class; all if there are fewer."""

    def __init__(self, dataset: Dataset, count: int) -> None:
        self.task = dataset.task
        self._dataset, self._count = dataset, count
        self._indices = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int).tolist()

    @property
    def identity(self) -> str:
        return f"{self._dataset.identity}/{self._count} spread"

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._dataset[self._indices[index]]

    def image_name(self, index: int) -> str:
        return self._dataset.image_name(self._indices[index])


class Validation:
    """Call it for a model's scores: 'task metric' -> value, in the precision of training.

    Label tasks have mAP and accuracy, gaze has min_L2 (AUC needs images of the original size: training.evaluate).
    Samples are read once and stay in memory; unreadable ones are left out. Every process computes all scores, because
    FSDP needs all of them in each forward pass.
    """

    def __init__(self, model: FusedModel, data: Mapping[str, TaskData], config: TrainConfig) -> None:
        self._model, self._data, self._config = model, data, config

    @functools.cached_property
    def _inputs(self) -> dict[str, list[ModelInputs]]:
        inputs = {task: readable(data) for task, data in self._data.items()}
        return {task: samples for task, samples in inputs.items() if samples}

    def __call__(self) -> Figures:
        training = self._model.llm.training
        self._model.llm.eval()
        figures = {
            f"{task} {name}": value
            for task, inputs in self._inputs.items()
            for name, value in self._figures(task, inputs).items()
        }
        self._model.llm.train(training)
        return figures

    def _figures(self, task: str, inputs: Sequence[ModelInputs]) -> Figures:
        size = max(1, self._config.joint.batch_size // self._config.joint.accumulate)
        outputs = []
        for start in range(0, len(inputs), size):
            part = inputs[start : start + size]
            features = query_features(self._model, collate(part, [task] * len(part), self._config.model))
            outputs.append(answer_values(self._model, features, task).cpu())
        answers = torch.cat(outputs).numpy()
        if TASKS[task].kind == "label":
            return metrics.label_metrics(task, answers, np.array([sample.label for sample in inputs]))
        points = [sample.points[~np.isnan(sample.points[:, 0])] for sample in inputs]
        if not np.isfinite(answers).all():
            raise metrics.not_finite(task, "heatmaps of validation samples")
        distances = [metrics.gaze_distances(heatmap, p)["min_L2"] for heatmap, p in zip(answers, points, strict=True)]
        return {"min_L2": float(np.mean(distances))}


def readable(data: TaskData) -> list[ModelInputs]:
    """The readable samples of a task, without replacements for unreadable ones."""
    try:
        inputs = [data.inputs(index) for index in range(len(data))]
    except OSError:  # no readable sample
        return []
    return [sample for sample in inputs if not sample.broken]
