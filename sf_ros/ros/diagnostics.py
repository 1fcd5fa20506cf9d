"""How the node is doing: counts and percentiles of the last seconds, and a level that does not flicker."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from sf_ros.core.types import FrameCues, Gaze, Label

OK, WARN, ERROR = 0, 1, 2  # of diagnostic_msgs/DiagnosticStatus
WINDOW_S = 10.0  # that percentiles are taken over
CALM_S = 3.0  # a level goes down only after so long without a reason for it
SLOW_S = 1.0  # latency from the sensor's stamp that is worth a warning


class Health:
    """Everything that /diagnostics tells, for the node's threads to write and read. Times are `clock`'s, in seconds.

    A new one counts from here; with `active` off, silence is no fault.
    """

    def __init__(
        self, no_image_after_s: float = 2.0, *, active: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.frames = 0
        self.dropped = 0  # images that were replaced by a newer one before their turn
        self.repeated = 0  # images whose stamp was not newer than the last one's
        self.bad_images = 0
        self.errors = 0
        self.last_error = ""
        self.note = ""  # what the node wants said besides, e.g. a missing calibration
        self._no_image_after_s, self._clock = no_image_after_s, clock
        self._started = clock() if active else None
        self._last_image: float | None = None
        self._last_fault = -np.inf
        self._steps: deque[tuple[float, dict[str, float], float | None]] = deque()
        self._ages: dict[str, float] = {}
        self._level, self._raised, self._why = OK, -np.inf, ""
        self._lock = threading.Lock()

    def image(self) -> None:
        """An image came, whatever becomes of it."""
        self._last_image = self._clock()

    def drop(self) -> None:
        """An image was replaced by a newer one before its turn."""
        self.dropped += 1

    def repeat(self) -> None:
        """An image was not newer than the last one."""
        self.repeated += 1

    def fault(self, text: str, *, image: bool = False) -> None:
        """Something failed: a broken image, or else an error of ours."""
        if image:
            self.bad_images += 1
        else:
            self.errors += 1
        self.last_error, self._last_fault = text, self._clock()

    def frame(self, cues: FrameCues, timings_ms: Mapping[str, float], latency_s: float | None) -> None:
        """A frame was answered; `latency_s` from its stamp until now, None where clocks do not agree."""
        with self._lock:
            self.frames += 1
            self._steps.append((self._clock(), dict(timings_ms), latency_s))
            self._ages = {name: max(ages) for name, ages in _ages(cues).items()}

    def silent_s(self) -> float | None:
        """Seconds since the last image (or the start) once they are too many; None before, and while not active."""
        if self._started is None:
            return None
        waited = self._clock() - (self._started if self._last_image is None else self._last_image)
        return waited if waited > self._no_image_after_s else None

    def report(self) -> tuple[int, str, dict[str, str]]:
        """Level, one line, and all values as text."""
        with self._lock:
            return self._report(self._clock())

    def _report(self, now: float) -> tuple[int, str, dict[str, str]]:
        while self._steps and now - self._steps[0][0] > WINDOW_S:
            self._steps.popleft()
        latencies = [step[2] for step in self._steps if step[2] is not None]
        level, why = self._judge(now, latencies)
        if level >= self._level or now - self._raised > CALM_S:
            self._level, self._why = level, why
        if level >= self._level:
            self._raised = now
        values = {
            "fps": f"{self._fps(now):.1f}",
            "frames": str(self.frames),
            "dropped": str(self.dropped),
            "repeated stamps": str(self.repeated),
            "bad images": str(self.bad_images),
            "errors": str(self.errors),
            "last error": self.last_error,
            "latency ms p50": _percentile(latencies, 50, 1e3),
            "latency ms p95": _percentile(latencies, 95, 1e3),
        }
        for stage in dict.fromkeys(name for step in self._steps for name in step[1]):
            values[f"{stage} ms p95"] = _percentile([s[1][stage] for s in self._steps if stage in s[1]], 95)
        values |= {f"age s {name}": f"{age:.2f}" for name, age in self._ages.items()}
        values |= {f"memory MB {name}": f"{size:.0f}" for name, size in memory_mb().items()}
        if self.note:
            values["note"] = self.note
        return self._level, self._why, values

    def _fps(self, now: float) -> float:
        if self._started is None:
            return 0.0
        return len(self._steps) / max(min(now - self._started, WINDOW_S), 1e-3)

    def _judge(self, now: float, latencies: list[float]) -> tuple[int, str]:
        if self._started is None:
            return OK, "not active"
        if now - self._last_fault < CALM_S:
            return ERROR, self.last_error
        if (silent := self.silent_s()) is not None:
            return WARN, f"no image for {silent:.0f} s"
        if latencies and float(np.percentile(latencies, 95)) > SLOW_S:
            return WARN, f"slow: 95 % of frames within {np.percentile(latencies, 95):.1f} s"
        return OK, self.note or "running"


def memory_mb() -> dict[str, float]:
    """Megabytes of this process in memory ('resident'), and on a GPU where torch was loaded and uses one ('gpu')."""
    found = {}
    with (
        contextlib.suppress(FileNotFoundError),
        open("/proc/self/statm", encoding="ascii") as file,
    ):  # Linux alone has it
        found["resident"] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = torch.cuda.memory_allocated() / 1e6
    return found


def _ages(cues: FrameCues) -> dict[str, list[float]]:
    """Ages of all cues of a frame by kind, seconds."""
    found: dict[str, list[float]] = {}

    def note(name: str, items: Iterable[Label | Gaze | None]) -> None:
        if ages := [item.age_s for item in items if item is not None]:
            found[name] = ages

    for name in ("gaze", "looking_at_me", "expression", "gesture"):
        note(name, (getattr(person, name) for person in cues.people))
    note("relation", (pair.relation for pair in cues.relations))
    return found


def _percentile(values: list[float], which: int, scale: float = 1.0) -> str:
    return f"{float(np.percentile(values, which)) * scale:.1f}" if values else "-"
