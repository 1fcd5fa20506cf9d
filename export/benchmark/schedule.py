"""Simulate the scheduler:  python -m export.benchmark.schedule [--people 1,4,20] [--devices 0.1,1,20] [--budget-ms 60]

No model and no clock: people walk in front of a camera, and each leaves after a while and is replaced by a newcomer. A
device has a price per call and per task: the scheduler's first estimates times a factor from 0.1 (a fast device) to 20
(a slow one), with some noise. Reported are the ages of cues, the frame rate, the used share of the budget, and whether
some people are served worse than others. The last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUE_OF, CUES, TASKS
from sf_ros.core.text import command_line
from sf_ros.core.types import Box, Person
from sf_ros.perception.scheduler import INITIAL_CALL_MS, Scheduler, nearest_pairs, query_groups

WIDTH, HEIGHT = 1280, 720  # px
SEED = 5


@dataclass(frozen=True)
class Device:
    """A device whose calls cost the scheduler's first estimates times `factor`."""

    factor: float
    noise: float = 0.1  # standard deviation of the logarithm of the price

    def __post_init__(self) -> None:
        if not 0 < self.factor < math.inf:
            raise ValueError(f"a device with factor {self.factor}; expected more than 0.")

    def price_ms(self, tasks: Sequence[str]) -> float:
        """Milliseconds of a call with these tasks, without noise; 0 without tasks."""
        return self.factor * (INITIAL_CALL_MS + sum(TASKS[task].cost_ms for task in tasks)) if tasks else 0.0


@dataclass(frozen=True)
class Scene:
    """A camera and the people in front of it."""

    people: int  # at any time
    stay_s: float = 120.0  # mean of a person's stay, which varies by half
    seconds: float = 360.0
    fps: float = 15.0  # of the camera; a slower device gets the newest frame

    def __post_init__(self) -> None:
        if self.people < 1 or min(self.stay_s, self.seconds, self.fps) <= 0:
            raise ValueError(f"{self}: expected people and times of more than 0.")


@dataclass
class Run:
    """A simulated run: of every frame milliseconds and queries; by cue and person or pair, the age in every frame."""

    frames: list[tuple[float, int]] = field(default_factory=list)
    ages: dict[tuple[str, tuple[int, ...]], list[float]] = field(default_factory=dict)
    seconds: float = 0.0


class Walkers:
    """People who come, walk to and fro at their own depth and pace, and leave."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self._scene, self._rng, self._last_id = scene, rng, 0
        self._walkers = [self._newcomer(0.0) for _ in range(scene.people)]

    def at(self, stamp: float) -> list[Person]:
        """The people present at a time, in pixels of a WIDTH x HEIGHT image."""
        self._walkers = [one if stamp < one["leaves"] else self._newcomer(stamp) for one in self._walkers]
        return [_person(walker, stamp) for walker in self._walkers]

    def _newcomer(self, stamp: float) -> dict[str, float]:
        self._last_id += 1
        return {
            "id": self._last_id,
            "leaves": stamp + self._scene.stay_s * self._rng.uniform(0.5, 1.5),
            "period": self._rng.uniform(15, 60),  # s, to and fro
            "phase": self._rng.uniform(0, 2 * math.pi),
            "height": self._rng.uniform(200, 500),  # px
        }


def simulate(device: Device, scene: Scene, config: RuntimeConfig) -> Run:
    """Pick and report frame by frame. Ages count from the last query, or from when the person or pair appeared."""
    rng = np.random.default_rng(SEED)
    walkers, scheduler, run = Walkers(scene, rng), Scheduler(config), Run()
    since: dict[tuple[str, tuple[int, ...]], float] = {}
    cues = [cue for cue in CUES.values() if config.cue(cue.name).enabled]
    while run.seconds < scene.seconds:
        stamp = run.seconds
        people = walkers.at(stamp)
        queries = scheduler.pick(people, stamp, (WIDTH, HEIGHT))
        spent_ms = device.price_ms([task for query in queries for task in query.tasks])
        spent_ms *= float(np.exp(device.noise * rng.standard_normal()))
        scheduler.report(queries, spent_ms)
        run.frames.append((spent_ms, len(queries)))
        queried = {(task, query.ids) for query in queries for task in query.tasks}
        subjects: dict[str, list[tuple[int, ...]]] = {
            "person": [(person.track_id,) for person in people],
            "pair": [(a.track_id, b.track_id) for a, b in nearest_pairs(people, config.max_pairs)],
        }
        since = {
            (cue.name, ids): stamp if (cue.main_task, ids) in queried else since.get((cue.name, ids), stamp)
            for cue in cues
            for ids in subjects[cue.subject]
        }
        for key, start in since.items():
            run.ages.setdefault(key, []).append(stamp - start)
        run.seconds += max(1 / scene.fps, spent_ms / 1e3)
    return run


def turns_s(device: Device, scene: Scene, config: RuntimeConfig) -> dict[str, float]:
    """By cue, the seconds between two queries that prices and budget allow: its period, or longer.

    All queries at their own rates, times weight, each in a call of its own, are a load in seconds of device time per
    second. The scheduler keeps weighted lateness equal, so a turn takes load * period / weight seconds.
    """
    load = 0.0
    rates: dict[str, float] = {}
    enabled = [name for name in CUES if config.cue(name).enabled]
    counts = {"person": scene.people, "pair": min(math.comb(scene.people, 2), config.max_pairs)}
    for subject, count in counts.items():
        for group in query_groups(subject, enabled):
            names = {CUE_OF[task] for task in group.tasks}
            cues = [config.cue(name) for name in names]
            rate = max(cue.weight / max(cue.period_s, 1 / scene.fps) for cue in cues)
            load += count * rate * device.price_ms(group.tasks) / 1e3
            rates |= dict.fromkeys(names, rate)
    load /= min(1.0, config.budget_ms * scene.fps / 1e3)
    return {name: max(config.cue(name).period_s, load / rate) for name, rate in rates.items()}


def summary(run: Run, device: Device, scene: Scene, config: RuntimeConfig) -> dict[str, Any]:
    """Ages by cue, frame rate, used share of the budget, and how equally people were served."""
    by_cue: dict[str, list[float]] = {}
    for (cue, _), ages in run.ages.items():
        by_cue.setdefault(cue, []).extend(ages)
    turns = turns_s(device, scene, config)
    spent_ms = [ms for ms, _ in run.frames]
    shared = [ms for ms, queries in run.frames if queries > 1]  # a single query may exceed the budget
    return {
        "device": device.factor,
        "people": scene.people,
        "fps": round(len(spent_ms) / run.seconds, 2),
        "budget_used": round(float(np.mean(spent_ms)) / config.budget_ms, 3),
        "shared_call_ms": _percentiles(shared),
        "age_s": {cue: {**_percentiles(ages), "turn": round(turns[cue], 3)} for cue, ages in by_cue.items()},
        "worst_over_best": fairness(run, scene),
    }


def fairness(run: Run, scene: Scene) -> float | None:
    """Mean age of a cue of the worst served person over that of the best served one; the largest of all cues.

    Counts people who were present for at least half of a stay. None without any.
    """
    enough = 0.5 * min(1.0, scene.stay_s / run.seconds) * len(run.frames)
    means: dict[str, list[float]] = {}
    for (cue, ids), ages in run.ages.items():
        if len(ids) == 1 and len(ages) >= enough and any(ages):
            means.setdefault(cue, []).append(float(np.mean(ages)))
    return round(max(max(values) / min(values) for values in means.values()), 2) if means else None


def table(results: Sequence[dict[str, Any]]) -> Table:
    """p95 of ages behind the turn of a person's first cue; 80 columns wide."""
    shown = Table(
        "device", "people", "fps", "used", "turn", *(name.replace("_", "\n") for name in CUES), "worst\n/best",
        box=box.SIMPLE, padding=0,
    )  # fmt: skip
    for index, result in enumerate(results):
        ages = result["age_s"]
        shown.add_row(
            f"{result['device']:g}x",
            str(result["people"]),
            f"{result['fps']:.1f}",
            f"{result['budget_used']:.0%}",
            f"{next(iter(ages.values()))['turn']:.2f}",
            *(f"{ages[cue]['p95']:.2f}" if cue in ages else "" for cue in CUES),
            "" if result["worst_over_best"] is None else f"{result['worst_over_best']:.2f}",
            end_section=index + 1 == len(results) or results[index + 1]["device"] != result["device"],
        )
    return shown


@command_line
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m export.benchmark.schedule", description=__doc__.partition("\n\n")[2]
    )
    parser.add_argument("--people", default="1,2,4,8,20", help="numbers of people (default: %(default)s)")
    parser.add_argument(
        "--devices", default="0.1,1,20", help="prices as factors of the first estimates (default: %(default)s)"
    )
    parser.add_argument("--budget-ms", type=float, default=RuntimeConfig.budget_ms, help="(default: %(default)s)")
    parser.add_argument("--max-pairs", type=int, default=RuntimeConfig.max_pairs, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=Scene.seconds, help="simulated time (default: %(default)s)")
    parser.add_argument("--stay", type=float, default=Scene.stay_s, help="a person's stay in s (default: %(default)s)")
    options = parser.parse_args(argv)
    try:
        config = RuntimeConfig(budget_ms=options.budget_ms, max_pairs=options.max_pairs)
        devices = [Device(float(factor)) for factor in options.devices.split(",")]
        scenes = [Scene(int(n), options.stay, options.seconds) for n in options.people.split(",")]
    except ValueError as error:
        print(f"export.benchmark.schedule: error: {error}", file=sys.stderr)
        return 2
    runs = [(device, scene) for device in devices for scene in scenes]
    results = []
    for device, scene in track(runs, "simulating", console=Console(stderr=True), transient=True):
        results.append(summary(simulate(device, scene, config), device, scene, config))
    console = Console()
    console.print(table(results))
    console.print("used: share of the budget; turn: s between a person's queries; cues: p95 of age in s")
    settings = {"budget_ms": config.budget_ms, "max_pairs": config.max_pairs}
    print(json.dumps({**settings, "seconds": options.seconds, "stay_s": options.stay, "runs": results}))
    return 0


def _person(walker: dict[str, float], stamp: float) -> Person:
    x = WIDTH * (0.5 + 0.4 * math.sin(walker["phase"] + 2 * math.pi * stamp / walker["period"]))
    head, top = walker["height"] / 7, HEIGHT - 50 - walker["height"]
    body, face = Box(x - head, top, x + head, HEIGHT - 50), Box(x - head / 2, top, x + head / 2, top + head)
    return Person(int(walker["id"]), body, 0.9, face, 0.9)


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    percents = {"p50": 50, "p95": 95, "max": 100}
    return {name: round(float(np.percentile(values, percent)), 3) for name, percent in percents.items()}


if __name__ == "__main__":
    sys.exit(main())
