"""Simulate the scheduler:  python -m export.benchmark.schedule [--people 1,4,20] [--devices 0.1,1,20] [--budget-ms 60]

No model and no clock: people walk about in front of a camera, each is replaced by a newcomer after a while, and a
device has a price per call and per question: the scheduler's first guess times 0.1 (a fast device) to 20 (a slow
one), with some noise. How old do cues get, how many frames a second are left, how much of the budget is used, and is
anybody served worse than others? The last line of stdout is one JSON object.
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
from sf_ros.core.cues import CUES
from sf_ros.core.types import Box, Person
from sf_ros.engines.base import Question
from sf_ros.perception.scheduler import INITIAL_CALL_MS, INITIAL_COST_MS, LOOKS, Scheduler, nearest_pairs

WIDTH, HEIGHT = 1280, 720  # px
ASKED_BY = {cue: "domain" if cue == "relation" else cue for cue in CUES}  # cue -> a question that tells its age
SEED = 5


@dataclass(frozen=True)
class Device:
    """What a call costs: the scheduler's first guess so many `times`, give or take a share of `noise`."""

    times: float
    noise: float = 0.1  # standard deviation of the logarithm

    def __post_init__(self) -> None:
        if not 0 < self.times < math.inf:
            raise ValueError(f"a device of {self.times} first guesses; expected more than 0.")

    def price_ms(self, tasks: Sequence[str]) -> float:
        """Milliseconds of a call with these questions, without noise; no questions, no call."""
        return self.times * (INITIAL_CALL_MS + sum(INITIAL_COST_MS[task] for task in tasks)) if tasks else 0.0


@dataclass(frozen=True)
class Scene:
    """Who is there: `people` at any time, each staying `stay_s` give or take a half."""

    people: int
    stay_s: float = 120.0
    seconds: float = 360.0
    fps: float = 15.0  # of the camera; a device that takes longer gets whichever frame is the latest

    def __post_init__(self) -> None:
        if self.people < 1 or min(self.stay_s, self.seconds, self.fps) <= 0:
            raise ValueError(f"{self}: expected people and times of more than 0.")


@dataclass
class Run:
    """What happened: (milliseconds, looks) of every frame; by cue and person or pair, the age in every frame."""

    frames: list[tuple[float, int]] = field(default_factory=list)
    ages: dict[tuple[str, tuple[int, ...]], list[float]] = field(default_factory=dict)
    seconds: float = 0.0


class Walkers:
    """People who come, walk to and fro at their own depth and pace, and go."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self._scene, self._rng, self._last_id = scene, rng, 0
        self._there = [self._newcomer(0.0) for _ in range(scene.people)]

    def at(self, stamp: float) -> list[Person]:
        """Whoever is there, in pixels of a WIDTH x HEIGHT picture."""
        self._there = [one if stamp < one["leaves"] else self._newcomer(stamp) for one in self._there]
        return [_person(one, stamp) for one in self._there]

    def _newcomer(self, stamp: float) -> dict[str, float]:
        self._last_id += 1
        return {
            "id": self._last_id,
            "leaves": stamp + self._scene.stay_s * self._rng.uniform(0.5, 1.5),
            "period": self._rng.uniform(15, 60),  # s, there and back
            "phase": self._rng.uniform(0, 2 * math.pi),
            "height": self._rng.uniform(200, 500),  # px
        }


def simulate(device: Device, scene: Scene, config: RuntimeConfig) -> Run:
    """Pick, answer, report, frame by frame. Ages count from the last look, or since there was somebody to look at."""
    rng = np.random.default_rng(SEED)
    walkers, scheduler, run = Walkers(scene, rng), Scheduler(config), Run()
    since: dict[tuple[str, tuple[int, ...]], float] = {}
    cues = [cue for cue in CUES if config.cue(cue).enabled]
    while run.seconds < scene.seconds:
        stamp = run.seconds
        people = walkers.at(stamp)
        questions = scheduler.pick(people, stamp, (WIDTH, HEIGHT))
        spent = device.price_ms([question.task for question in questions])
        spent *= float(np.exp(device.noise * rng.standard_normal()))
        scheduler.report(questions, spent)
        run.frames.append((spent, len({(_kind(question), question.track_ids) for question in questions})))
        asked = {(question.task, question.track_ids) for question in questions}
        singles = [(person.track_id,) for person in people]
        pairs = [(one.track_id, other.track_id) for one, other in nearest_pairs(people, config.max_pairs)]
        watched = [(cue, ids) for cue in cues for ids in (pairs if cue == "relation" else singles)]
        since = {
            (cue, ids): stamp if (ASKED_BY[cue], ids) in asked else since.get((cue, ids), stamp) for cue, ids in watched
        }
        for key, start in since.items():
            run.ages.setdefault(key, []).append(stamp - start)
        run.seconds += max(1 / scene.fps, spent / 1e3)
    return run


def turns_s(device: Device, scene: Scene, config: RuntimeConfig) -> dict[str, float]:
    """By cue, how often its turn comes: its period, or longer where the device or the budget does not suffice.

    All looks at their own rates, times weight, each a call of its own, are a load of so many seconds of device time per
    second. The scheduler keeps weighted lateness equal: a turn comes every load * period / weight seconds.
    """
    load = 0.0
    rates: dict[str, float] = {}
    for kind, tasks in LOOKS.items():
        names = [name for name in (("relation",) if kind == "pair" else tasks) if config.cue(name).enabled]
        cues = [config.cue(name) for name in names]
        rate = max((cue.weight / max(cue.period_s, 1 / scene.fps) for cue in cues), default=0.0)
        count = min(math.comb(scene.people, 2), config.max_pairs) if kind == "pair" else scene.people
        load += count * rate * device.price_ms(tasks) / 1e3
        rates |= dict.fromkeys(names, rate)
    load /= min(1.0, config.budget_ms * scene.fps / 1e3)
    return {name: max(config.cue(name).period_s, load / rate) for name, rate in rates.items()}


def summary(run: Run, device: Device, scene: Scene, config: RuntimeConfig) -> dict[str, Any]:
    """Ages by cue, frames a second, the share of the budget used, and how equally people were served."""
    by_cue: dict[str, list[float]] = {}
    for (cue, _), ages in run.ages.items():
        by_cue.setdefault(cue, []).extend(ages)
    turns = turns_s(device, scene, config)
    spent = [spent for spent, _ in run.frames]
    shared = [spent for spent, looks in run.frames if looks > 1]  # one alone may break the budget
    return {
        "device": device.times,
        "people": scene.people,
        "fps": round(len(spent) / run.seconds, 2),
        "budget_used": round(float(np.mean(spent)) / config.budget_ms, 3),
        "shared_call_ms": _percentiles(shared),
        "age_s": {cue: {**_percentiles(ages), "turn": round(turns[cue], 3)} for cue, ages in by_cue.items()},
        "worst_over_best": fairness(run, scene),
    }


def fairness(run: Run, scene: Scene) -> float | None:
    """The mean age of a cue of whoever was served worst, by that of whoever was served best; the largest of all cues.

    Of those who were there for at least half the time that people stay: a moment tells little. None without any.
    """
    enough = 0.5 * min(1.0, scene.stay_s / run.seconds) * len(run.frames)
    means: dict[str, list[float]] = {}
    for (cue, ids), ages in run.ages.items():
        if len(ids) == 1 and len(ages) >= enough and any(ages):
            means.setdefault(cue, []).append(float(np.mean(ages)))
    return round(max(max(values) / min(values) for values in means.values()), 2) if means else None


def table(found: Sequence[dict[str, Any]]) -> Table:
    """For people to read, 80 columns wide: p95 of ages, after the time in which a person's turn comes."""
    names = ("gaze", "at me", "expr.", "gest.", "rel.")
    shown = Table(
        "device", "people", "frames\n/s", "used", "turn", *names, "worst\n/best",
        box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for index, one in enumerate(found):
        ages = one["age_s"]
        shown.add_row(
            f"{one['device']:g}x",
            str(one["people"]),
            f"{one['fps']:.1f}",
            f"{one['budget_used']:.0%}",
            f"{ages['gaze']['turn']:.2f}",
            *(f"{ages[cue]['p95']:.2f}" if cue in ages else "" for cue in CUES),
            "" if one["worst_over_best"] is None else f"{one['worst_over_best']:.2f}",
            end_section=index + 1 == len(found) or found[index + 1]["device"] != one["device"],
        )
    return shown


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m export.benchmark.schedule", description=__doc__.partition("\n\n")[2]
    )
    parser.add_argument("--people", default="1,2,4,8,20", help="numbers of people (default: %(default)s)")
    parser.add_argument(
        "--devices", default="0.1,1,20", help="prices, in first guesses of the scheduler (default: %(default)s)"
    )
    parser.add_argument("--budget-ms", type=float, default=RuntimeConfig.budget_ms, help="(default: %(default)s)")
    parser.add_argument("--max-pairs", type=int, default=RuntimeConfig.max_pairs, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=Scene.seconds, help="of each run (default: %(default)s)")
    parser.add_argument("--stay", type=float, default=Scene.stay_s, help="seconds, of a person (default: %(default)s)")
    options = parser.parse_args(argv)
    try:
        config = RuntimeConfig(budget_ms=options.budget_ms, max_pairs=options.max_pairs)
        devices = [Device(float(times)) for times in options.devices.split(",")]
        scenes = [Scene(int(n), options.stay, options.seconds) for n in options.people.split(",")]
    except ValueError as error:
        print(f"export.benchmark.schedule: error: {error}", file=sys.stderr)
        return 2
    runs = [(device, scene) for device in devices for scene in scenes]
    found = []
    for device, scene in track(runs, "simulating", console=Console(stderr=True), transient=True):
        found.append(summary(simulate(device, scene, config), device, scene, config))
    console = Console()
    console.print(table(found))
    console.print(
        "Used: of the budget. Seconds: how often a person's turn comes, p95 of ages. Worst served, by the best."
    )
    settings = {"budget_ms": config.budget_ms, "max_pairs": config.max_pairs}
    print(json.dumps({**settings, "seconds": options.seconds, "stay_s": options.stay, "runs": found}))
    return 0


def _person(one: dict[str, float], stamp: float) -> Person:
    x = WIDTH * (0.5 + 0.4 * math.sin(one["phase"] + 2 * math.pi * stamp / one["period"]))
    head, top = one["height"] / 7, HEIGHT - 50 - one["height"]
    body, face = Box(x - head, top, x + head, HEIGHT - 50), Box(x - head / 2, top, x + head / 2, top + head)
    return Person(int(one["id"]), body, 0.9, face, 0.9)


def _kind(question: Question) -> str:
    return next(kind for kind, tasks in LOOKS.items() if question.task in tasks)


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    at = {"p50": 50, "p95": 95, "max": 100}
    return {name: round(float(np.percentile(values, which)), 3) for name, which in at.items()}


if __name__ == "__main__":
    sys.exit(main())
