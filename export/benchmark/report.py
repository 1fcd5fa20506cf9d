"""What was measured, as tables, as JSON with the names that ros2_benchmark uses, and as pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from export.benchmark import growth
from export.benchmark.measure import STAGES, Crowd, overhead_ms

PARTS = ("all", "vision", "llm")
COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb", "#222255", "#ee8866", "#225555")


def methods_table(crowds: Sequence[Crowd]) -> Table:
    """Milliseconds of every question by method; how many times ours that is, measured and by counted operations."""
    shown = Table(box=box.SIMPLE, padding=0)
    for name in ("people", "method", "ms", "vision", "llm", "x ours", "counted", "differs"):
        shown.add_column(name, justify="left" if name == "method" else "right")
    for found in crowds:
        for name in found.times:
            shown.add_row(
                str(found.people),
                name,
                *(f"{found.median(name, s):,.1f}" if s in found.times[name][0] else "" for s in PARTS),
                f"{found.median(name) / found.median('ours'):.2f}",
                f"{total_flops(found, name) / total_flops(found, 'ours'):.2f}",
                f"{found.differences[name]:.0e}" if name in found.differences else "",
                end_section=name == list(found.times)[-1],
            )
    return shown


def stages_table(crowds: Sequence[Crowd]) -> Table:
    """Median milliseconds of whole frames by stage, ours; and what is left outside decoding and the models.

    A column per crowd of whom everything is asked, and one of whom a robot's scheduler asks in turn.
    """
    ways = [(f"{c.people}\n{way}", times) for c in crowds for way, times in (("all", c.frames), ("turn", c.stream))]
    shown = Table(box=box.SIMPLE, padding=0)
    shown.add_column("people\nstage, ms", no_wrap=True)
    for name, _ in ways:
        shown.add_column(name, justify="right")
    middle = [medians(times) for _, times in ways]
    for stage in STAGES:
        shown.add_row(stage, *(f"{stages[stage]:,.1f}" for stages in middle), end_section=stage == STAGES[-1])
    shown.add_row("a frame", *(f"{np.median([sum(one.values()) for one in times]):,.1f}" for _, times in ways))
    shown.add_row("overhead", *(f"{np.median([overhead_ms(one) for one in times]):,.1f}" for _, times in ways))
    return shown


def total_flops(found: Crowd, method: str) -> int:
    """Counted operations of all questions."""
    return sum(found.flops[method].values())


def medians(times: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each stage."""
    return {stage: float(np.median([one[stage] for one in times])) for stage in times[0]}


def summary(values: Iterable[float]) -> dict[str, float]:
    """Milliseconds: median, p95, p99 and how many values they rest on."""
    found = np.array(list(values))
    at = {f"p{which}": round(float(np.percentile(found, which)), 3) for which in (95, 99)}
    return {"median": round(float(np.median(found)), 3), **at, "repeats": len(found)}


def crowd_json(found: Crowd) -> dict[str, Any]:
    """One crowd's part of the JSON object."""
    whole = [sum(times.values()) for times in found.frames]
    return {
        "people": found.people,
        "questions": found.questions,
        "methods": {
            name: {
                "ms": {stage: summary(one[stage] for one in times) for stage in times[0]},
                "flops": {**found.flops[name], "all": total_flops(found, name)},
                "times_ours": round(found.median(name) / found.median("ours"), 3),
                "counted_times_ours": round(total_flops(found, name) / total_flops(found, "ours"), 3),
                **({"largest_difference": found.differences[name]} if name in found.differences else {}),
                **({"tokens": found.tokens[name]} if name in found.tokens else {}),
            }
            for name, times in found.times.items()
        },
        "stages_ms": {stage: summary(times[stage] for times in found.frames) for stage in STAGES},
        "overhead_ms": summary(overhead_ms(times) for times in found.frames),
        "in_turn": {
            "stages_ms": {stage: summary(times[stage] for times in found.stream) for stage in STAGES},
            "overhead_ms": summary(overhead_ms(times) for times in found.stream),
        },
        "roofline": {
            stage: {
                "achieved_flops_per_s": round(achieved(found, stage)),
                "products_flops_per_s": round(rate),
                "share": round(achieved(found, stage) / rate, 3),
            }
            for stage, rate in found.rates.items()
        },
        "Mean Frame Rate (fps)": round(1e3 / float(np.mean(whole)), 3),
        "Mean End-to-End Latency (ms)": round(float(np.mean(whole)), 3),
        "Max. End-to-End Latency (ms)": round(max(whole), 3),
        "Min. End-to-End Latency (ms)": round(min(whole), 3),
    }


def laws(crowds: Sequence[Crowd]) -> dict[str, dict[str, growth.Law]]:
    """By method, how milliseconds and counted operations grow with people and pairs. Empty below three crowds."""
    found = {}
    for name in crowds[0].times:
        milliseconds = growth.by_crowd({one.people: one.median(name) for one in crowds})
        flops = growth.by_crowd({one.people: total_flops(one, name) for one in crowds})
        if milliseconds is not None and flops is not None:
            found[name] = {"ms": milliseconds, "flops": flops}
    return found


def achieved(found: Crowd, stage: str) -> float:
    """Counted operations per second of a stage of ours."""
    return found.flops["ours"][stage] / (1e-3 * found.median("ours", stage))


def plot(crowds: Sequence[Crowd], title: str, out: Path) -> list[Path]:
    """latency.png, stages.png and roofline.png in a folder; none where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("agg")
    from matplotlib import pyplot

    people = [found.people for found in crowds]
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for name, colour in zip(crowds[0].times, COLOURS[: len(crowds[0].times)], strict=True):
        axes.plot(people, [found.median(name) for found in crowds], "o-", color=colour, label=name)
    axes.set(xlabel="people", ylabel="every question, ms", xticks=people, title=title, yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    written = [_saved(figure, out / "latency.png")]

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    below = np.zeros(len(crowds))
    for stage, colour in zip(STAGES, COLOURS, strict=True):
        heights = np.array([medians(found.frames)[stage] for found in crowds])
        axes.bar(range(len(crowds)), heights, bottom=below, color=colour, label=stage)
        below += heights
    axes.set(xlabel="people", ylabel="a whole frame, ms", title=title)
    axes.set_xticks(range(len(crowds)), people)
    axes.legend(fontsize="small")
    written.append(_saved(figure, out / "stages.png"))

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for stage, colour in (("vision", COLOURS[0]), ("llm", COLOURS[4])):
        axes.plot(people, [achieved(found, stage) / 1e9 for found in crowds], "o-", color=colour, label=stage)
        rates = [found.rates[stage] / 1e9 for found in crowds]
        axes.plot(people, rates, "--", color=colour, label=f"{stage}: its products of matrices alone")
    axes.set(xlabel="people", ylabel="GFLOP/s", xticks=people, title=title, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    written.append(_saved(figure, out / "roofline.png"))
    return written


def _saved(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path
