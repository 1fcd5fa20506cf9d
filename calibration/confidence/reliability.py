"""Plots reliability before and after calibration, and accuracy by coverage; a row for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.confidence import scores

MAX_STEPS = 500  # points of a risk-coverage curve


@dataclass(frozen=True)
class Judged:
    """A task's answers on held-out samples: confidences (N,) of the winning labels, and whether they are right."""

    confidences: np.ndarray
    right: np.ndarray


def draw(tasks: Mapping[str, tuple[Judged, Judged]], path: Path, title: str) -> None:
    """Write the plot (PNG) of each task's answers before and after calibration."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(tasks), 3, figsize=(11, 3.1 * len(tasks)), layout="constrained", squeeze=False)
    figure.suptitle(title)
    for row, (name, both) in zip(axes, tasks.items(), strict=True):
        for panel, judged, when in zip(row[:2], both, ("before", "after"), strict=True):
            _reliability(panel, judged, f"{name}, {when}")
        _abstention(row[2], both, f"{name}, abstaining")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _reliability(panel, judged: Judged, title: str) -> None:
    """Accuracy over confidence by bin, with two standard errors of each bin's accuracy."""
    bins = scores.bins(judged.confidences, judged.right)
    margin = 2 * np.sqrt(np.maximum(bins.accuracy * (1 - bins.accuracy), 0) / bins.count)
    panel.plot((0, 1), (0, 1), color="black", linewidth=0.8)
    panel.errorbar(bins.confidence, bins.accuracy, margin, fmt="o-", markersize=3, linewidth=1, capsize=2)
    panel.set(title=f"{title}: ECE {bins.error:.3f}", xlabel="confidence", ylabel="accuracy")
    panel.set(xlim=(0, 1.02), ylim=(0, 1.02))
    panel.grid(alpha=0.3)


def _abstention(panel, both: Sequence[Judged], title: str) -> None:
    """Accuracy of the most confident answers over their share."""
    for judged, when in zip(both, ("before", "after"), strict=True):
        curve = scores.risk_coverage(judged.confidences, judged.right)
        shown = np.unique(np.linspace(0, len(curve) - 1, min(MAX_STEPS, len(curve))).astype(int))
        panel.plot((shown + 1) / len(curve), curve[shown], label=when, linewidth=1)
    panel.set(title=title, xlabel="coverage", ylabel="accuracy", xlim=(0, 1.02))
    panel.legend(loc="lower left")
    panel.grid(alpha=0.3)
