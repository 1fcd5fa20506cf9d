"""The benchmarks' own metrics, as pure functions on arrays; each names the protocol it follows."""

from __future__ import annotations

import cv2
import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from sf_ros.core.tasks import TASKS


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of samples (N, L) whose most probable class is the true one (N,)."""
    return float((probabilities.argmax(1) == labels).mean())


def macro_average_precision(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of one-vs-rest average precision (PISC, HaGRIDv2, AffectNet); absent classes are left out."""
    present = [c for c in range(probabilities.shape[1]) if (labels == c).any()]
    return float(np.mean([average_precision_score(labels == c, probabilities[:, c]) for c in present]))


def voc_average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Average precision by VOC's all-points interpolation with monotone precision, as in Ego4D's looking-at-me code."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    if hits[-1] == 0:
        return 0.0
    precision = hits / np.arange(1, len(hits) + 1)
    recall = hits / hits[-1]
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def looking_at_me_map(yes: np.ndarray, truth: np.ndarray) -> float:
    """Ego4D's mAP: the mean of AP(looking) with its score and AP(not looking) with one minus it."""
    return (voc_average_precision(truth, yes) + voc_average_precision(~truth, 1 - yes)) / 2


def gaze_auc(heatmap: np.ndarray, points_norm: np.ndarray, width: int, height: int) -> float:
    """Area under the ROC curve at the image's own size: annotated pixels against the resized heatmap (Chong 2020)."""
    truth = np.zeros((height, width), bool)
    columns = np.clip((points_norm[:, 0] * width).astype(int), 0, width - 1)
    rows = np.clip((points_norm[:, 1] * height).astype(int), 0, height - 1)
    truth[rows, columns] = True
    scores = cv2.resize(heatmap.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return float(roc_auc_score(truth.ravel(), scores.ravel()))


def gaze_point(heatmap: np.ndarray) -> np.ndarray:
    """The predicted point (x, y) in 0..1: the highest cell's corner, as the benchmark has it, not its middle."""
    row, column = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    return np.array([column / heatmap.shape[1], row / heatmap.shape[0]])


def gaze_distances(heatmap: np.ndarray, points_norm: np.ndarray) -> dict[str, float]:
    """L2 distances from the predicted point to the annotations (A, 2), all in 0..1.

    min_L2 is to the nearest annotation, avg_L2 to their mean point, as the benchmark's reference code has it, and
    avg_L2_each the mean over the annotations, as the paper's text has it (section 4.1); it is never the smaller one.
    """
    point = gaze_point(heatmap)
    distances = np.linalg.norm(points_norm - point, axis=1)
    return {
        "min_L2": float(distances.min()),
        "avg_L2": float(np.linalg.norm(points_norm.mean(0) - point)),
        "avg_L2_each": float(distances.mean()),
    }


def label_metrics(task: str, probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The two figures the paper reports for a question with labels."""
    if task == "looking_at_me":
        yes = TASKS[task].labels.index("yes")
        truth = labels == yes
        return {"mAP": looking_at_me_map(probabilities[:, yes], truth), "accuracy": accuracy(probabilities, labels)}
    return {"mAP": macro_average_precision(probabilities, labels), "accuracy": accuracy(probabilities, labels)}


def label_chance(labels: np.ndarray, classes: int) -> dict[str, float]:
    """What guessing reaches: mAP of random scores (the mean share of a class), accuracy of the commonest class."""
    shares = np.bincount(labels, minlength=classes) / len(labels)
    return {"mAP": float(shares[shares > 0].mean()), "accuracy": float(shares.max())}
