"""Plots flicker against delay: all settings, their Pareto front, today's setting and the chosen one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.smoothing.steadiness import Steadiness
from sf_ros.core.cues import CueConfig


@dataclass(frozen=True)
class Tried:
    """One setting of a cue with its measurement."""

    cue: CueConfig
    measured: Steadiness


@dataclass(frozen=True)
class Choice:
    """All settings tried for a cue, today's and the chosen one."""

    tried: Sequence[Tried]
    today: Tried
    chosen: Tried


def _point(trial: Tried) -> tuple[float, float]:
    """Delay and flicker."""
    return trial.measured.delay_s, trial.measured.flicker_per_min


def front(tried: Sequence[Tried]) -> list[Tried]:
    """The Pareto front in flicker and delay, by ascending delay."""
    best: list[Tried] = []
    for trial in sorted(tried, key=_point):
        if not best or trial.measured.flicker_per_min < best[-1].measured.flicker_per_min:
            best.append(trial)
    return best


def draw(choices: Mapping[str, Choice], limit_per_min: float, path: Path, title: str) -> None:
    """Write the plot (PNG), a panel per cue; gaze gets a second one with jitter over half-life."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [*choices, *(("jitter",) if "gaze" in choices else ())]
    columns = min(3, len(panels))
    figure, axes = pyplot.subplots(
        -(-len(panels) // columns), columns, figsize=(4.2 * columns, 3.6 * -(-len(panels) // columns)),
        layout="constrained", squeeze=False,
    )  # fmt: skip
    figure.suptitle(title)
    for panel, name in zip(axes.flat, panels, strict=False):
        if name == "jitter":
            _jitter(panel, choices["gaze"])
        else:
            _flicker(panel, choices[name], limit_per_min, name)
    for panel in axes.flat[len(panels) :]:
        panel.axis("off")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _flicker(panel, choice: Choice, limit_per_min: float, name: str) -> None:
    points = [_point(trial) for trial in choice.tried]
    colors = panel.scatter(
        *zip(*points, strict=True), c=[trial.cue.half_life_s for trial in choice.tried], s=8, cmap="viridis", alpha=0.6
    )
    panel.figure.colorbar(colors, ax=panel, shrink=0.7, label="half-life, s")
    best = [_point(trial) for trial in front(choice.tried)]
    panel.plot(*zip(*best, strict=True), color="black", linewidth=0.8, drawstyle="steps-post", label="best")
    panel.axhline(limit_per_min, color="tab:red", linewidth=0.8, linestyle="--", label="limit")
    _mark(panel, [_point(choice.today), _point(choice.chosen)])
    panel.set(title=name, xlabel="delay, s (a missed change: how long it lasted)", ylabel="flicker per minute")
    panel.set_ylim(0, 1.1 * panel.get_ylim()[1])
    panel.legend(fontsize=7)


def _jitter(panel, choice: Choice) -> None:
    ordered = sorted(choice.tried, key=lambda trial: trial.cue.half_life_s)
    points = [(trial.cue.half_life_s, trial.measured.jitter_norm) for trial in ordered]
    panel.plot(*zip(*points, strict=True), "o-", markersize=3)
    _mark(panel, [(trial.cue.half_life_s, trial.measured.jitter_norm) for trial in (choice.today, choice.chosen)])
    panel.set(title="gaze, jitter", xlabel="half-life, s", ylabel="movement between queries, of the image")
    panel.set_ylim(0, 1.1 * panel.get_ylim()[1])
    panel.legend(fontsize=7)


def _mark(panel, points: Sequence[tuple[float, float]]) -> None:
    """Mark today's setting and the chosen one."""
    for point, label, marker, color in zip(points, ("today", "chosen"), "s*", ("tab:orange", "tab:red"), strict=True):
        panel.plot(*point, marker, color=color, markersize=10, markeredgecolor="black", linestyle="none", label=label)
    panel.grid(alpha=0.3)
