"""Evidence the answers rest on:  python -m training.studies shortcuts MODEL [--samples 1000] [--split test]

Hides the part that carries a task (hands, mouth, eyes), marks another person's head for gaze, and predicts relations
from boxes or colour histograms alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from training.data.sample import Sample
from training.data.source import SampleOptions, SceneSource
from training.evaluation import metrics
from training.evaluation.answers import Answerer, answerer
from training.evaluation.score import read, score_labels

HIDDEN = {"gesture": "hands", "expression": "mouth", "looking_at_me": "eyes"}  # task -> part that carries it
HEADLINE = {"gesture": "accuracy", "expression": "accuracy", "looking_at_me": "mAP"}
HISTOGRAM_BINS = 8  # per colour channel


@dataclass(frozen=True)
class Arguments:
    """Command line of the study."""

    model: Annotated[Path, tyro.conf.Positional]  # checkpoint folder or bundle folder
    split: str = "test"
    samples: int = 1_000  # per task


def run(arguments: Arguments) -> dict[str, dict[str, float]]:
    """Task -> figure -> value; also printed as a table."""
    answer, split, samples = answerer(arguments.model), arguments.split, arguments.samples
    results: dict[str, dict[str, float]] = {task: hidden_part(task, answer, split, samples) for task in HIDDEN}
    results["gaze"] = other_head(answer, split, samples)
    results["relation"] = boxes_and_colours(split, samples)
    table = Table("task", "figure", "value", title=escape(f"shortcuts of {arguments.model} on scenes/{split}"))
    for task, figures in results.items():
        for position, (name, value) in enumerate(figures.items()):
            table.add_row(task if position == 0 else "", name, f"{value:.3f}")
    Console().print(table)
    return results


def hidden_part(task: str, answer: Answerer, split: str, samples: int) -> dict[str, float]:
    """A task's main metric on scenes with and without the part that carries it, and chance."""
    source, part = SceneSource(), frozenset({HIDDEN[task]})
    visible = score_labels(task, answer, read(source.samples(task, split, count=samples)))
    hidden = score_labels(task, answer, read(source.samples(task, split, samples, SampleOptions(hide=part))))
    name = HEADLINE[task]
    return {
        name: visible["metrics"][name],  # type: ignore[index]
        f"{name} without {HIDDEN[task]}": hidden["metrics"][name],  # type: ignore[index]
        "chance": hidden["chance"][name],  # type: ignore[index]
    }


def other_head(answer: Answerer, split: str, samples: int) -> dict[str, float]:
    """Gaze error (min L2) with the right head marked and with another head of the same image marked."""
    right: list[float] = []
    wrong: list[float] = []
    for sample in read(SceneSource().samples("gaze", split, count=samples)):
        others: tuple = sample.tags["others"]  # type: ignore[assignment]
        if not others:
            continue
        points = np.array(sample.points_norm)
        moved = dataclasses.replace(sample, boxes=(Box(*others[0]),))
        for marked, distances in ((sample, right), (moved, wrong)):
            heatmap = answer(marked).heatmap
            assert heatmap is not None
            distances.append(metrics.gaze_distances(heatmap, points)["min_L2"])
    mean_right, mean_wrong = float(np.mean(right)), float(np.mean(wrong))
    return {"min_L2": mean_right, "min_L2 with another head": mean_wrong, "ratio": mean_wrong / mean_right}


def boxes_and_colours(split: str, samples: int) -> dict[str, float]:
    """Relation mAP of linear models on the two boxes alone, and on colour histograms alone."""
    train = list(describe(read(SceneSource().samples("relation", "train", count=2 * samples))))
    test = list(describe(read(SceneSource().samples("relation", split, count=samples))))
    labels_train, labels = (np.array([row[2] for row in rows]) for rows in (train, test))
    results = {"chance": metrics.label_chance(labels, len(TASKS["relation"].labels))["mAP"]}
    for column, name in enumerate(("mAP of boxes", "mAP of colour histograms")):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2_000, class_weight="balanced"))
        model.fit(np.stack([row[column] for row in train]), labels_train)
        scores = np.zeros((len(labels), len(TASKS["relation"].labels)))
        scores[:, model.classes_] = model.predict_proba(np.stack([row[column] for row in test]))
        results[name] = metrics.macro_average_precision(scores, labels)
    return results


def describe(samples: Iterator[Sample]) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """(geometry of the two boxes with squares and products, colour histogram of the image, label) per sample."""
    for sample in samples:
        height, width = sample.image.shape[:2]
        a, b = sorted((box.as_tuple() for box in sample.boxes), key=lambda box: box[0])
        boxes = np.array([*a, *b]) / np.array([width, height] * 4)
        sizes = np.array([a[2] - a[0], a[3] - a[1], b[2] - b[0], b[3] - b[1]]) / height
        gap = np.array([b[0] - a[2], abs(a[1] - b[1]), abs(a[3] - b[3])]) / height
        row = np.concatenate([boxes, sizes, gap])
        quadratic = np.outer(row, row)[np.triu_indices(len(row))]
        histograms = [np.histogram(sample.image[..., c], HISTOGRAM_BINS, (0, 256), density=True)[0] for c in range(3)]
        assert sample.label is not None
        yield np.concatenate([row, quadratic]), np.concatenate(histograms), sample.label
