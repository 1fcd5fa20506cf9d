"""Metrics of one task's samples, beside chance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from rich.progress import track

from sf_ros.core.cues import TASKS
from training.data.sample import Dataset, Sample
from training.data.workers import worker_pool
from training.evaluation import metrics
from training.evaluation.answers import Answerer

CHUNK = 8  # samples per job of a worker process
ORDERS = ("after", "before")  # of gaze target and head in raster order


def read(dataset: Dataset, broken: list[str] | None = None, workers: int = 2) -> Iterator[Sample]:
    """All samples of a dataset, read by worker processes.

    Errors of unreadable samples are appended to `broken`; without such a list the first one is an OSError.
    """
    jobs = [(dataset, range(start, min(start + CHUNK, len(dataset)))) for start in range(0, len(dataset), CHUNK)]
    with worker_pool(workers) as pool:
        for samples, faults in track(
            pool.map(_read_chunk, jobs), total=len(jobs), description=f"evaluate {dataset.task}"
        ):
            if broken is None and faults:
                raise OSError(faults[0])
            if broken is not None:
                broken += faults
            yield from samples


def _read_chunk(job: tuple[Dataset, range]) -> tuple[list[Sample], list[str]]:
    dataset, indices = job
    samples, faults = [], []
    for index in indices:
        try:
            samples.append(dataset[index])
        except (OSError, ValueError) as error:
            faults.append(str(error))
    return samples, faults


def score(task: str, answer: Answerer, samples: Iterable[Sample]) -> dict[str, object]:
    """Number of samples, metrics and chance of one task, by its kind."""
    return (score_heatmaps if TASKS[task].kind == "heatmap" else score_labels)(task, answer, samples)


def score_labels(task: str, answer: Answerer, samples: Iterable[Sample]) -> dict[str, object]:
    """Metrics of a label task."""
    rows = [(finite(task, sample, answer(sample).probabilities), sample.label) for sample in samples]
    if not rows:
        raise ValueError(f"'{task}': no sample could be read.")
    probabilities, labels = np.array([p for p, _ in rows]), np.array([label for _, label in rows])
    return {
        "samples": len(rows),
        "metrics": metrics.label_metrics(task, probabilities, labels),
        "chance": metrics.label_chance(labels, len(TASKS[task].labels)),
    }


def score_heatmaps(task: str, answer: Answerer, samples: Iterable[Sample]) -> dict[str, object]:
    """AUC and L2 distances of a heatmap task, also by the raster order of target and head.

    Chance is a flat map and a uniformly random point, by each of the distances.
    """
    generator = np.random.default_rng(0)
    rows: list[dict[str, float]] = []
    chance: list[dict[str, float]] = []
    orders: list[str] = []
    for sample in samples:
        heatmap, points = finite(task, sample, answer(sample).heatmap), np.array(sample.points_norm)
        height, width = sample.image.shape[:2]
        auc = metrics.gaze_auc(heatmap, points, width, height)
        rows.append({"AUC": auc, **metrics.gaze_distances(heatmap, points)})
        chance.append({"AUC": 0.5, **metrics.point_distances(generator.random(2), points)})
        orders.append(str(sample.tags.get("target", "")))
    if not rows:
        raise ValueError(f"'{task}': no sample could be read.")
    result: dict[str, object] = {"samples": len(rows), "metrics": _means(rows), "chance": _means(chance)}
    for order in ORDERS:
        if members := [row for row, target in zip(rows, orders, strict=True) if target == order]:
            result[f"target_{order}_head"] = {"samples": len(members), **_means(members)}
    return result


def finite(task: str, sample: Sample, values: np.ndarray | None) -> np.ndarray:
    """The values of an answer. ValueError, with the sample's key, where one is NaN or infinite."""
    assert values is not None
    if not np.isfinite(values).all():
        raise metrics.not_finite(task, f"values of the answer to {sample.key}")
    return values


def _means(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
