"""Measurements as tables, as JSON with ros2_benchmark's names, and as plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from export.benchmark.measure import STAGES, Measurement, overhead_ms

PARTS = ("all", "vision", "llm")
COLOURS = ("#4477aa", "#66ccee", "#228833", "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb", "#222255", "#ee8866", "#225555")


def methods_table(measurements: Sequence[Measurement]) -> Table:
    """Milliseconds of every task by method, and the ratio to ours, measured and by counted operations."""
    shown = Table(box=box.SIMPLE, padding=0)
    for name in ("people", "method", "ms", "vision", "llm", "x ours", "counted", "differs"):
        shown.add_column(name, justify="left" if name == "method" else "right")
    for result in measurements:
        for name, times in result.times.items():
            shown.add_row(
                str(result.people),
                name,
                *(f"{result.median(name, part):,.1f}" if part in times[0] else "" for part in PARTS),
                f"{result.median(name) / result.median('ours'):.2f}",
                f"{total_flops(result, name) / total_flops(result, 'ours'):.2f}",
                f"{result.differences[name]:.0e}" if name in result.differences else "",
                end_section=name == list(result.times)[-1],
            )
    return shown


def stages_table(measurements: Sequence[Measurement]) -> Table:
    """Median milliseconds of whole frames of ours by stage, and the overhead outside decoding, detector and models.

    Two columns per number of people: every task in every frame, and tasks as the robot schedules them.
    """
    columns = [
        (f"{result.people}\n{name}", times)
        for result in measurements
        for name, times in (("all", result.frames), ("sched.", result.stream))
    ]
    shown = Table(box=box.SIMPLE, padding=0)
    shown.add_column("people\nstage, ms", no_wrap=True)
    for name, _ in columns:
        shown.add_column(name, justify="right")
    median_ms = [medians(times) for _, times in columns]
    for stage in STAGES:
        shown.add_row(stage, *(f"{stages[stage]:,.1f}" for stages in median_ms), end_section=stage == STAGES[-1])
    shown.add_row("frame", *(f"{np.median([sum(frame.values()) for frame in times]):,.1f}" for _, times in columns))
    shown.add_row("overhead", *(f"{np.median([overhead_ms(frame) for frame in times]):,.1f}" for _, times in columns))
    return shown


def total_flops(result: Measurement, method: str) -> int:
    """Counted operations of all tasks."""
    return sum(result.flops[method].values())


def medians(times: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Median of each stage."""
    return {stage: float(np.median([frame[stage] for frame in times])) for stage in times[0]}


def summary(values: Iterable[float]) -> dict[str, float]:
    """Median, p95 and p99 of milliseconds, and the number of values."""
    array = np.array(list(values))
    percentiles = {f"p{percent}": round(float(np.percentile(array, percent)), 3) for percent in (95, 99)}
    return {"median": round(float(np.median(array)), 3), **percentiles, "repeats": len(array)}


def to_json(result: Measurement) -> dict[str, Any]:
    """One number of people in the JSON object."""
    whole = [sum(times.values()) for times in result.frames]
    return {
        "people": result.people,
        "tasks": result.tasks,
        "methods": {
            name: {
                "ms": {stage: summary(frame[stage] for frame in times) for stage in times[0]},
                "flops": {**result.flops[name], "all": total_flops(result, name)},
                "times_ours": round(result.median(name) / result.median("ours"), 3),
                "counted_times_ours": round(total_flops(result, name) / total_flops(result, "ours"), 3),
                **({"largest_difference": result.differences[name]} if name in result.differences else {}),
                **({"tokens": result.tokens[name]} if name in result.tokens else {}),
            }
            for name, times in result.times.items()
        },
        **_stages_json(result.frames),
        "scheduled": _stages_json(result.stream),
        "roofline": {
            stage: {
                "achieved_flops_per_s": round(achieved(result, stage)),
                "products_flops_per_s": round(rate),
                "share": round(achieved(result, stage) / rate, 3),
            }
            for stage, rate in result.rates.items()
        },
        "Mean Frame Rate (fps)": round(1e3 / float(np.mean(whole)), 3),
        "Mean End-to-End Latency (ms)": round(float(np.mean(whole)), 3),
        "Max. End-to-End Latency (ms)": round(max(whole), 3),
        "Min. End-to-End Latency (ms)": round(min(whole), 3),
    }


def achieved(result: Measurement, stage: str) -> float:
    """Counted operations per second of a stage of ours."""
    return result.flops["ours"][stage] / (1e-3 * result.median("ours", stage))


def plot(measurements: Sequence[Measurement], title: str, out: Path) -> list[Path]:
    """Write latency.png, stages.png and roofline.png to a folder; nothing without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("agg")
    from matplotlib import pyplot

    people = [result.people for result in measurements]
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for name, colour in zip(measurements[0].times, COLOURS[: len(measurements[0].times)], strict=True):
        axes.plot(people, [result.median(name) for result in measurements], "o-", color=colour, label=name)
    axes.set(xlabel="people", ylabel="every task, ms", xticks=people, title=title, yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    written = [_saved(figure, out / "latency.png")]

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    below = np.zeros(len(measurements))
    for stage, colour in zip(STAGES, COLOURS, strict=True):
        heights = np.array([medians(result.frames)[stage] for result in measurements])
        axes.bar(range(len(measurements)), heights, bottom=below, color=colour, label=stage)
        below += heights
    axes.set(xlabel="people", ylabel="whole frame, ms", title=title)
    axes.set_xticks(range(len(measurements)), people)
    axes.legend(fontsize="small")
    written.append(_saved(figure, out / "stages.png"))

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for stage, colour in (("vision", COLOURS[0]), ("llm", COLOURS[4])):
        rates = [achieved(result, stage) / 1e9 for result in measurements]
        axes.plot(people, rates, "o-", color=colour, label=stage)
        limits = [result.rates[stage] / 1e9 for result in measurements]
        axes.plot(people, limits, "--", color=colour, label=f"{stage}: its matrix products alone")
    axes.set(xlabel="people", ylabel="GFLOP/s", xticks=people, title=title, ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    written.append(_saved(figure, out / "roofline.png"))
    return written


def _stages_json(frames: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    return {
        "stages_ms": {stage: summary(frame[stage] for frame in frames) for stage in STAGES},
        "overhead_ms": summary(overhead_ms(dict(frame)) for frame in frames),
    }


def _saved(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return path
