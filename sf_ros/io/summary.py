"""Counts, percentiles and tables of a run."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from sf_ros.core.cues import CUE_OF, CUES
from sf_ros.core.types import FrameCues, PairCues, PersonCues
from sf_ros.io.source import Source

KEPT = 100_000  # newest values in the percentiles; a live run may last for days


class Summary:
    """Counts and percentiles of a run."""

    def __init__(self, keep_cues: bool = False) -> None:
        self.frames = 0
        self.cues: list[FrameCues] = []
        self._keep_cues = keep_cues
        self._ids: set[int] = set()
        self._stages: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._ages: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._start = self._elapsed_s = 0.0

    def start(self) -> None:
        self._start = time.perf_counter()

    def stop(self) -> None:
        self._elapsed_s = time.perf_counter() - self._start

    def add(self, cues: FrameCues) -> None:
        """Count one frame."""
        self.frames += 1
        self._ids.update(person.person.track_id for person in cues.people)
        for stage, duration_ms in cues.timings_ms.items():
            self._stages[stage].append(duration_ms)
        subjects: tuple[PersonCues | PairCues, ...] = (*cues.people, *cues.pairs)
        for subject in subjects:
            for cue in CUES.values():
                if (value := subject.values.get(cue.main_task)) is not None:
                    self._ages[cue.name].append(value.age_s * 1e3)
        if self._keep_cues:
            self.cues.append(cues)

    def result(self, source: Source) -> dict[str, Any]:
        """The JSON object of the last line."""
        stages = {name: _percentiles(values, 50, 95, 99) for name, values in self._stages.items()}
        return {
            "source": source.name,
            "frames": self.frames,
            "fps": round(self.frames / self._elapsed_s, 2) if self._elapsed_s else 0.0,
            "latency_ms": stages.pop("total", _percentiles((), 50, 95, 99)),
            "persons": len(self._ids),
            "dropped": source.dropped,
            "reconnects": source.reconnects,
            "skipped": sum(source.skipped.values()),
            "skipped_reasons": dict(source.skipped),
            "age_ms": {name: _percentiles(values, 50, 95) for name, values in self._ages.items()},
            "stages_ms": {name: {key: values[key] for key in ("p50", "p95")} for name, values in stages.items()},
        }


def print_summary(result: dict[str, Any], source: Source) -> None:
    """The human-readable tables, on stdout."""
    console = Console()
    console.print(
        f"{result['source']}: {result['frames']} frames at {result['fps']} per second, {result['persons']} persons, "
        f"{result['dropped']} dropped, {result['skipped']} skipped"
        + (f", {result['reconnects']} times reconnected" if result["reconnects"] else ""),
        markup=False,
        soft_wrap=True,  # names stay whole where the output is piped
    )
    for reason, count in source.skipped.items():
        console.print(f"  skipped {count} x {reason}", markup=False, soft_wrap=True)
    for cue, reason in result["off"].items():
        console.print(f"  {cue} is off: {reason}", markup=False, soft_wrap=True)
    table = Table("stage", "p50 ms", "p95 ms")
    for name, values in {**result["stages_ms"], "total": result["latency_ms"]}.items():
        table.add_row(name, str(values["p50"]), str(values["p95"]))
    console.print(table)
    table = Table("cue", "age p50 ms", "age p95 ms")
    for name, values in result["age_ms"].items():
        table.add_row(name, str(values["p50"]), str(values["p95"]))
    console.print(table)
    if "truth" in result:
        truth = result["truth"]
        names = ("tracked", "tracked_least", "false_persons", "id_switches")
        console.print(", ".join(f"{name.replace('_', ' ')} {truth[name]}" for name in names))
        shares = {name: share for name, share in truth.items() if name in CUE_OF and CUE_OF[name] not in result["off"]}
        table = Table("task", "frames", "given", "right", "right, settled")
        for name, share in shares.items():
            table.add_row(name, *(str(share[key]) for key in ("frames", "given", "right", "right_settled")))
        if shares:
            console.print(table)


def _percentiles(values: Sequence[float] | deque[float], *which: int) -> dict[str, float | None]:
    percentiles = np.percentile(np.asarray(values, float), which) if len(values) else [None] * len(which)
    return {f"p{p}": None if v is None else round(float(v), 2) for p, v in zip(which, percentiles, strict=True)}
