"""Flicker against reaction delay as a picture: every setting tried, the best of them, today's and the chosen one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calibration.smoothing.steadiness import Steadiness
from sf_ros.core.config import CueConfig


@dataclass(frozen=True)
class Tried:
    """One setting of a cue and how steady it was."""

    cue: CueConfig
    found: Steadiness


@dataclass(frozen=True)
class Choice:
    """All settings of a cue that were tried, and two of them."""

    tried: Sequence[Tried]
    today: Tried
    chosen: Tried


def front(tried: Sequence[Tried]) -> list[Tried]:
    """The settings that no other one beats in both flicker and delay, by ascending delay (Pareto)."""
    best: list[Tried] = []
    for one in sorted(tried, key=lambda one: (one.found.delay_s, one.found.flicker_per_min)):
        if not best or one.found.flicker_per_min < best[-1].found.flicker_per_min:
            best.append(one)
    return best


def draw(choices: Mapping[str, Choice], limit_per_min: float, path: Path, title: str) -> None:
    """Write the picture (PNG), a panel for each cue; gaze gets a second one, jitter over half-life."""
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
    points = [(one.found.delay_s, one.found.flicker_per_min) for one in choice.tried]
    colors = panel.scatter(
        *zip(*points, strict=True), c=[one.cue.half_life_s for one in choice.tried], s=8, cmap="viridis", alpha=0.6
    )
    panel.figure.colorbar(colors, ax=panel, shrink=0.7, label="half-life, s")
    best = [(one.found.delay_s, one.found.flicker_per_min) for one in front(choice.tried)]
    panel.plot(*zip(*best, strict=True), color="black", linewidth=0.8, drawstyle="steps-post", label="best")
    panel.axhline(limit_per_min, color="tab:red", linewidth=0.8, linestyle="--", label="limit")
    _marked(panel, [(one.found.delay_s, one.found.flicker_per_min) for one in (choice.today, choice.chosen)])
    panel.set(title=name, xlabel="delay, s (a miss: as long as the truth held)", ylabel="flicker per minute")
    panel.set_ylim(0, 1.1 * panel.get_ylim()[1])
    panel.legend(fontsize=7)


def _jitter(panel, choice: Choice) -> None:
    ordered = sorted(choice.tried, key=lambda one: one.cue.half_life_s)
    points = [(one.cue.half_life_s, one.found.jitter_norm) for one in ordered]
    panel.plot(*zip(*points, strict=True), "o-", markersize=3)
    _marked(panel, [(one.cue.half_life_s, one.found.jitter_norm) for one in (choice.today, choice.chosen)])
    panel.set(title="gaze, jitter", xlabel="half-life, s", ylabel="way from look to look, of the picture")
    panel.set_ylim(0, 1.1 * panel.get_ylim()[1])
    panel.legend(fontsize=7)


def _marked(panel, points: Sequence[tuple[float, float]]) -> None:
    """Today's setting and the chosen one."""
    for point, label, marker, color in zip(points, ("today", "chosen"), "s*", ("tab:orange", "tab:red"), strict=True):
        panel.plot(*point, marker, color=color, markersize=10, markeredgecolor="black", linestyle="none", label=label)
    panel.grid(alpha=0.3)
