"""Health of the node for /diagnostics: counts, percentiles over the last seconds, and a level with hysteresis."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from sf_ros.core.cues import CUES
from sf_ros.core.types import FrameCues

OK, WARN, ERROR = 0, 1, 2  # of diagnostic_msgs/DiagnosticStatus
WINDOW_S = 10.0  # of the percentiles
CALM_S = 3.0  # without a fault before the level falls
SLOW_S = 1.0  # p95 latency from the sensor's stamp that is a warning
FEW, FEW_FPS, FEW_AFTER_S = 0.1, 1.0, 3.0  # answered share and rate of the images that are a warning, after this time


class _Input(NamedTuple):
    """What is wrong with an input, whether that is a warning, and what is shown where nothing is."""

    problem: str
    warn: bool
    state: str


class Health:
    """Counts and times of the node since activation; thread-safe. Times are of `clock`, in seconds.

    Without `active`, missing images are no fault. `off` maps cues and tasks to the reason why they are off.
    """

    def __init__(
        self,
        no_image_after_s: float = 2.0,
        *,
        active: bool = True,
        off: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Of the images received, each is counted once among these, when it is done: at most two are not yet.
        self.received = 0
        self.frames = 0  # answered
        self.dropped = 0  # replaced by a newer one before they were processed
        self.repeated = 0  # with a stamp that is not newer than the last one's
        self.bad_images = 0
        self.failed = 0  # lost by an error of the node
        self.lost = 0  # by the middleware before they were received, as far as it tells
        self.errors = 0  # of the node, those of `failed` included
        self.last_error = ""
        self.note = ""  # shown as the message while nothing is wrong, e.g. a missing calibration
        self._off = dict(off or {})
        self._no_image_after_s, self._clock = no_image_after_s, clock
        self._started = clock() if active else None
        self._last_image: float | None = None
        self._last_fault = -np.inf
        self._inputs: dict[str, _Input] = {}
        self._arrivals: deque[float] = deque()
        self._steps: deque[tuple[float, dict[str, float], float | None]] = deque()
        self._ages: dict[str, float] = {}
        self._level, self._raised, self._message = OK, -np.inf, ""
        self._lock = threading.Lock()

    def image(self) -> None:
        """Count an incoming image."""
        with self._lock:
            self.received += 1
            self._last_image = self._clock()
            self._arrivals.append(self._last_image)

    def lose(self, images: int) -> None:
        """Count images that the middleware lost."""
        self.lost += images

    def drop(self) -> None:
        """Count an image that was replaced by a newer one before it was processed."""
        self.dropped += 1

    def repeat(self) -> None:
        """Count an image that was not newer than the last one."""
        self.repeated += 1

    def input(self, name: str, problem: str, *, warn: bool = True, state: str = "ok") -> None:
        """Show what is wrong with an input, or its state where nothing is (''); `warn` raises the level."""
        with self._lock:
            self._inputs[name] = _Input(problem, warn, state)

    def fault(self, text: str, *, image: bool = False, failed: bool = False) -> None:
        """Count a broken image, or an error of the node; `failed`: an image was lost by it."""
        if image:
            self.bad_images += 1
        else:
            self.errors += 1
            self.failed += failed
        self.last_error, self._last_fault = text, self._clock()

    def frame(self, cues: FrameCues, timings_ms: Mapping[str, float], latency_s: float | None) -> None:
        """Count a processed frame; `latency_s` from its stamp until now, None where the clocks differ."""
        with self._lock:
            self.frames += 1
            self._steps.append((self._clock(), dict(timings_ms), latency_s))
            self._ages = _ages(cues)

    def silent_s(self) -> float | None:
        """Seconds since the last image or the start, above `no_image_after_s`; None below it and while not active."""
        if self._started is None:
            return None
        waited = self._clock() - (self._started if self._last_image is None else self._last_image)
        return waited if waited > self._no_image_after_s else None

    def report(self) -> tuple[int, str, dict[str, str]]:
        """Level, message, and all values as text."""
        with self._lock:
            return self._report(self._clock())

    def _report(self, now: float) -> tuple[int, str, dict[str, str]]:
        while self._steps and now - self._steps[0][0] > WINDOW_S:
            self._steps.popleft()
        while self._arrivals and now - self._arrivals[0] > WINDOW_S:
            self._arrivals.popleft()
        latencies = [step[2] for step in self._steps if step[2] is not None]
        level, message = self._assess(now, latencies)
        if level >= self._level or now - self._raised > CALM_S:
            self._level, self._message = level, message
        if level >= self._level:
            self._raised = now
        values = {
            "fps": f"{self._fps(now):.1f}",
            "received": str(self.received),
            "frames": str(self.frames),
            "dropped": str(self.dropped),
            "repeated stamps": str(self.repeated),
            "bad images": str(self.bad_images),
            "failed": str(self.failed),
            "lost before arrival": str(self.lost),
            "errors": str(self.errors),
            "last error": self.last_error,
            "latency ms p50": _percentile(latencies, 50, 1e3),
            "latency ms p95": _percentile(latencies, 95, 1e3),
        }
        for stage in dict.fromkeys(name for step in self._steps for name in step[1]):
            values[f"{stage} ms p95"] = _percentile([s[1][stage] for s in self._steps if stage in s[1]], 95)
        values |= {f"age s {name}": f"{age:.2f}" for name, age in self._ages.items()}
        values |= {f"memory MB {name}": f"{size:.0f}" for name, size in memory_mb().items()}
        values |= {name: each.problem or each.state for name, each in self._inputs.items()}
        values |= {f"off {name}": reason for name, reason in self._off.items()}
        if self.note:
            values["note"] = self.note
        return self._level, self._message, values

    def _fps(self, now: float) -> float:
        if self._started is None:
            return 0.0
        return len(self._steps) / max(min(now - self._started, WINDOW_S), 1e-3)

    def _assess(self, now: float, latencies: list[float]) -> tuple[int, str]:
        if self._started is None:
            return OK, self.note or "not active"
        if now - self._last_fault < CALM_S:
            return ERROR, self.last_error
        inputs = [each for each in self._inputs.values() if each.problem]
        warnings = [each.problem for each in inputs if each.warn]
        if (silent := self.silent_s()) is not None and not any("no image for" in warning for warning in warnings):
            warnings.insert(0, f"no image for {silent:.0f} s")
        if latencies and float(np.percentile(latencies, 95)) > SLOW_S:
            warnings.append(f"slow: latency p95 is {np.percentile(latencies, 95):.1f} s")
        if few := self._few_answers(now):
            warnings.append(few)
        if warnings:
            return WARN, "; ".join(warnings)
        notes = [self.note] * bool(self.note) + [each.problem for each in inputs]
        return OK, "; ".join(notes) or "running"

    def _few_answers(self, now: float) -> str:
        """That hardly any of the images that arrive are answered, whatever the reason; '' otherwise."""
        assert self._started is not None
        seconds, answered = min(now - self._started, WINDOW_S), len(self._steps)
        if seconds < FEW_AFTER_S or answered > FEW_FPS * seconds or answered > FEW * len(self._arrivals):
            return ""
        return f"{answered} of {len(self._arrivals)} images were answered in {seconds:.0f} s" if self._arrivals else ""


def memory_mb() -> dict[str, float]:
    """Megabytes of this process: 'resident' and, where torch is loaded and uses a GPU, 'gpu'."""
    sizes = {}
    # Only Linux has this file.
    with contextlib.suppress(FileNotFoundError), open("/proc/self/statm", encoding="ascii") as file:
        sizes["resident"] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    torch = sys.modules.get("torch")
    # Another thread may be importing it.
    importing = torch is not None and getattr(torch.__spec__, "_initializing", False)
    if torch is not None and not importing and torch.cuda.is_available():
        sizes["gpu"] = torch.cuda.memory_allocated() / 1e6
    return sizes


def _ages(cues: FrameCues) -> dict[str, float]:
    """Age in seconds of the oldest value of each cue that somebody in the frame has."""
    ages = {}
    for cue in CUES.values():
        holders = cues.people if cue.subject == "person" else cues.pairs
        values = [holder.values[cue.main_task] for holder in holders if cue.main_task in holder.values]
        if values:
            ages[cue.name] = max(value.age_s for value in values)
    return ages


def _percentile(values: list[float], percent: int, scale: float = 1.0) -> str:
    return f"{float(np.percentile(values, percent)) * scale:.1f}" if values else "-"
