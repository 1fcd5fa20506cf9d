"""The benchmarks' metrics as pure functions on arrays, each with the protocol it follows."""

from __future__ import annotations

import cv2
import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from sf_ros.core.cues import TASKS


def accuracy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Share of samples (N, L) whose most probable class is the true class (N,)."""
    return float((probabilities.argmax(1) == labels).mean())


def macro_average_precision(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of one-vs-rest average precision (PISC, HaGRIDv2, AffectNet); absent classes are left out."""
    present = [c for c in range(probabilities.shape[1]) if (labels == c).any()]
    return float(np.mean([average_precision_score(labels == c, probabilities[:, c]) for c in present]))


def voc_average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Average precision by VOC's all-points interpolation with monotone precision, as in Ego4D's looking-at-me code.

    Equal scores are one threshold, as in scikit-learn; in Ego4D's code their order in the file changes the result.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of each group of equal scores
    hits = np.cumsum(truth[order])[last]
    if hits[-1] == 0:
        return 0.0
    precision = hits / (last + 1)
    recall = hits / hits[-1]
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def yes_no_map(yes: np.ndarray, truth: np.ndarray) -> float:
    """Ego4D's mAP: the mean of AP(yes) by the score and AP(no) by one minus the score."""
    return (voc_average_precision(truth, yes) + voc_average_precision(~truth, 1 - yes.astype(float))) / 2


def gaze_auc(heatmap: np.ndarray, points_norm: np.ndarray, width: int, height: int) -> float:
    """Area under the ROC curve at the image's own size: annotated pixels against the resized heatmap (Chong 2020)."""
    truth = np.zeros((height, width), bool)
    columns = np.clip((points_norm[:, 0] * width).astype(int), 0, width - 1)
    rows = np.clip((points_norm[:, 1] * height).astype(int), 0, height - 1)
    truth[rows, columns] = True
    scores = cv2.resize(heatmap.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    return float(roc_auc_score(truth.ravel(), scores.ravel()))


def gaze_point(heatmap: np.ndarray) -> np.ndarray:
    """The predicted point (x, y) in 0..1: the corner of the highest cell, as in the benchmark, not its centre."""
    row, column = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    return np.array([column / heatmap.shape[1], row / heatmap.shape[0]])


def gaze_distances(heatmap: np.ndarray, points_norm: np.ndarray) -> dict[str, float]:
    """L2 distances from the predicted point to the annotations (A, 2), as point_distances."""
    return point_distances(gaze_point(heatmap), points_norm)


def point_distances(point: np.ndarray, points_norm: np.ndarray) -> dict[str, float]:
    """L2 distances from a point (2,) to the annotations (A, 2), all in 0..1.

    min_L2 is to the nearest annotation; avg_L2 to their mean point, as in the benchmark's reference code; avg_L2_each
    the mean over the annotations, as in the paper's text (section 4.1), never smaller than avg_L2.
    """
    distances = np.linalg.norm(points_norm - point, axis=1)
    return {
        "min_L2": float(distances.min()),
        "avg_L2": float(np.linalg.norm(points_norm.mean(0) - point)),
        "avg_L2_each": float(distances.mean()),
    }


def label_metrics(task: str, probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """mAP and accuracy of a label task; yes/no tasks use Ego4D's mAP. ValueError, with its row, for a NaN answer."""
    names, bad = TASKS[task].labels, np.flatnonzero(~np.isfinite(probabilities).all(1))
    if len(bad):
        raise not_finite(task, f"{len(bad)} of {len(labels)} answers, the first of sample {bad[0]},")
    if set(names) == {"yes", "no"}:
        yes = names.index("yes")
        average = yes_no_map(probabilities[:, yes], labels == yes)
        return {"mAP": average, "accuracy": accuracy(probabilities, labels)}
    return {"mAP": macro_average_precision(probabilities, labels), "accuracy": accuracy(probabilities, labels)}


def not_finite(task: str, answers: str) -> ValueError:
    """The error for answers that are NaN or infinite; `answers` names them."""
    return ValueError(
        f"'{task}': {answers} are not finite. The training diverged or the weights are damaged: look at the losses, "
        "or take an earlier checkpoint."
    )


def label_chance(labels: np.ndarray, classes: int) -> dict[str, float]:
    """Chance: mAP of random scores (the mean share of a class), accuracy of the most frequent class."""
    shares = np.bincount(labels, minlength=classes) / len(labels)
    return {"mAP": float(shares[shares > 0].mean()), "accuracy": float(shares.max())}
