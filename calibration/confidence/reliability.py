"""Calibration as a picture: reliability before and after, and what abstaining buys, a row for each question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration.confidence import scores

MAX_STEPS = 500  # points of a risk-coverage curve


@dataclass(frozen=True)
class Judged:
    """A question's answers on held-out samples: confidences (N,) of the winning labels, and whether they are right."""

    confidences: np.ndarray
    right: np.ndarray


def draw(questions: Mapping[str, tuple[Judged, Judged]], path: Path, title: str) -> None:
    """Write the picture (PNG) of each question's answers before and after calibration."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(questions), 3, figsize=(11, 3.1 * len(questions)), layout="constrained", squeeze=False
    )
    figure.suptitle(title)
    for row, (name, both) in zip(axes, questions.items(), strict=True):
        for panel, judged, when in zip(row[:2], both, ("before", "after"), strict=True):
            _reliability(panel, judged, f"{name}, {when}")
        _abstention(row[2], both, f"{name}, abstaining")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _reliability(panel, judged: Judged, title: str) -> None:
    """Accuracy over confidence, bin by bin, with two standard errors of each bin's accuracy."""
    found = scores.bins(judged.confidences, judged.right)
    margin = 2 * np.sqrt(np.maximum(found.accuracy * (1 - found.accuracy), 0) / found.count)
    panel.plot((0, 1), (0, 1), color="black", linewidth=0.8)
    panel.errorbar(found.confidence, found.accuracy, margin, fmt="o-", markersize=3, linewidth=1, capsize=2)
    panel.set(title=f"{title}: ECE {found.error:.3f}", xlabel="confidence", ylabel="accuracy")
    panel.set(xlim=(0, 1.02), ylim=(0, 1.02))
    panel.grid(alpha=0.3)


def _abstention(panel, both: Sequence[Judged], title: str) -> None:
    """Accuracy of the answers that are kept, over their share."""
    for judged, when in zip(both, ("before", "after"), strict=True):
        curve = scores.risk_coverage(judged.confidences, judged.right)
        shown = np.unique(np.linspace(0, len(curve) - 1, min(MAX_STEPS, len(curve))).astype(int))
        panel.plot((shown + 1) / len(curve), curve[shown], label=when, linewidth=1)
    panel.set(title=title, xlabel="coverage", ylabel="accuracy", xlim=(0, 1.02))
    panel.legend(loc="lower left")
    panel.grid(alpha=0.3)
