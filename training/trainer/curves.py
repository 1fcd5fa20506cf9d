"""Learning curves of a run as an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

VALIDATION = "val/"  # prefix of validation scores in a history


def plot(histories: Mapping[str, Sequence[Mapping[str, float]]], path: Path, window: int = 50) -> None:
    """One panel of losses per stage, as running means over `window` steps, and one of its validation scores."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = []
    for name, history in histories.items():
        curves = _curves(history)
        losses = {key: _smoothed(points, window) for key, points in curves.items() if not key.startswith(VALIDATION)}
        scores = {key.removeprefix(VALIDATION): p for key, p in curves.items() if key.startswith(VALIDATION)}
        panels += [(name, "loss", losses), *([(f"{name}, validation", "score", scores)] if scores else [])]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5 * len(panels), 4), squeeze=False)
    for axis, (name, quantity, curves) in zip(axes[0], panels, strict=True):
        for key, points in sorted(curves.items()):
            axis.plot(*zip(*points, strict=True), label=key, marker="." if quantity == "score" else None)
        axis.set(title=name, xlabel="step", ylabel=quantity)
        axis.legend(fontsize="small")
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _curves(history: Sequence[Mapping[str, float]]) -> dict[str, list[tuple[int, float]]]:
    """Name -> (step, value) of the steps that have it."""
    keys = dict.fromkeys(key for entry in history for key in entry)
    return {key: [(step, entry[key]) for step, entry in enumerate(history) if key in entry] for key in keys}


def _smoothed(points: Sequence[tuple[int, float]], window: int) -> list[tuple[int, float]]:
    """Running means over the last `window` values."""
    values = [value for _, value in points]
    means = [sum(values[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(values))]
    return [(step, mean) for (step, _), mean in zip(points, means, strict=True)]
