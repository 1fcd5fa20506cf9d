"""Diagnostics: counts, percentiles, and a level that rises at once and falls after CALM_S."""

from __future__ import annotations

import importlib.machinery
import sys
import threading
import types

import pytest

from sf_ros.core.types import Box, FrameCues, Label, Person, PersonCues
from sf_ros.ros.diagnostics import CALM_S, ERROR, OK, WARN, WINDOW_S, Health, memory_mb


def frame(index: int = 0, age_s: float = 0.1) -> FrameCues:
    person = PersonCues(Person(1, Box(0, 0, 9, 9), 0.9), {"expression": Label("neutral", 0.8, (), age_s)})
    return FrameCues(0.1 * index, index, 64, 48, (person,), (), {"detect": 10.0 + index, "total": 50.0})


class Watch:
    """A clock that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


def run(health: Health, watch: Watch, seconds: float, latency_s: float | None = 0.1, fps: int = 10) -> Health:
    """Process images for some seconds, each at once; the clock then shows their end."""
    start = watch.now
    for i in range(round(seconds * fps)):
        watch.now = start + i / fps
        health.image()
        health.frame(frame(i), {"detect": 10.0 + i, "overhead": 4.0}, latency_s)
    watch.now = start + seconds
    return health


def test_rate_latency_stages_and_ages_are_reported(watch: Watch) -> None:
    level, message, values = run(Health(clock=watch), watch, 5.0).report()
    assert (level, message) == (OK, "running")
    assert float(values["fps"]) == pytest.approx(10, abs=0.3) and values["frames"] == "50"
    assert values["latency ms p50"] == values["latency ms p95"] == "100.0"
    assert float(values["detect ms p95"]) > 50 and values["age s expression"] == "0.10"
    assert values["overhead ms p95"] == "4.0"
    assert float(values["memory MB resident"]) > 10


def test_only_the_last_seconds_count(watch: Watch) -> None:
    health = run(Health(clock=watch), watch, 5.0, latency_s=0.9)
    run(health, watch, WINDOW_S + 0.1)
    assert health.report()[2]["latency ms p95"] == "100.0"


def test_stopped_camera_is_a_warning_until_it_returns(watch: Watch) -> None:
    health = run(Health(clock=watch), watch, 1.0)
    watch.now = 2.5
    assert health.silent_s() is None
    watch.now = 4.0
    assert health.silent_s() == pytest.approx(3.1)
    assert health.report()[:2] == (WARN, "no image for 3 s")
    run(health, watch, 0.1)
    assert health.report()[0] == WARN  # not yet: CALM_S has not passed
    for _ in range(40):
        run(health, watch, 0.1)
        level = health.report()[0]
    assert level == OK


def test_missing_camera_is_a_warning_only_while_active(watch: Watch) -> None:
    watch.now = 99.0
    idle = Health(1.0, active=False, clock=watch)
    health = Health(1.0, clock=watch)
    assert idle.silent_s() is None and idle.report()[:2] == (OK, "not active")
    watch.now = 99.5
    assert health.silent_s() is None
    watch.now = 100.5
    assert health.silent_s() == pytest.approx(1.5)
    assert idle.silent_s() is None


def test_fault_is_an_error_with_its_text_for_a_while(watch: Watch) -> None:
    health = run(Health(clock=watch), watch, 1.0)
    health.fault("rgb8 image of 0x0: the image is empty.", image=True)
    health.fault("out of luck")
    level, message, values = health.report()
    assert (level, message) == (ERROR, "out of luck")
    assert (values["bad images"], values["errors"], values["last error"]) == ("1", "1", "out of luck")
    watch.now += 3 * CALM_S
    health.image()
    assert health.report()[0] == OK
    assert health.report()[2]["last error"] == "out of luck"


def test_slow_frames_are_a_warning_and_other_clocks_are_not(watch: Watch) -> None:
    assert run(Health(clock=watch), watch, 2.0, latency_s=2.0).report()[0] == WARN
    level, _, values = run(Health(clock=watch), watch, 0.1, latency_s=None).report()
    assert level == OK and values["latency ms p95"] == "-"


def test_drops_and_repeats_are_counted(watch: Watch) -> None:
    health = Health(clock=watch)
    health.drop()
    health.drop()
    health.repeat()
    values = health.report()[2]
    assert (values["dropped"], values["repeated stamps"]) == ("2", "1")


def test_every_image_is_counted_once(watch: Watch) -> None:
    health = run(Health(clock=watch), watch, 2.0)
    for _ in range(5):
        health.image()
    health.drop()
    health.repeat()
    health.fault("broken", image=True)
    health.fault("out of luck", failed=True)
    health.fault("a message of somebody else")
    health.lose(7)
    values = health.report()[2]
    counted = ("frames", "dropped", "repeated stamps", "bad images", "failed")
    assert values["received"] == "25" and sum(int(values[name]) for name in counted) == 24  # one is being processed
    assert (values["lost before arrival"], values["errors"]) == ("7", "2")


def test_hardly_any_answers_are_a_warning(watch: Watch) -> None:
    health = Health(clock=watch)
    for i in range(120):
        watch.now = i / 20
        health.image()
        if i % 40 == 0:
            health.frame(frame(i), {}, 0.1)
        else:
            health.repeat()
    assert health.report()[:2] == (WARN, "3 of 120 images were answered in 6 s")
    slow = run(Health(clock=watch), watch, 20.0, fps=2)  # a slow camera is fine
    assert slow.report()[0] == OK


def test_cues_that_are_off_are_listed_with_the_reason() -> None:
    level, _, values = Health(off={"gesture": "no task"}).report()
    assert level == OK and values["off gesture"] == "no task"


def test_memory_is_reported_while_another_thread_imports_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    half = types.ModuleType("torch")  # without torch.cuda, as after the first half of its import
    half.__spec__ = importlib.machinery.ModuleSpec("torch", None)
    half.__spec__._initializing = True  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", half)
    assert set(memory_mb()) == {"resident"}


def test_threads_may_write_during_a_report() -> None:
    health, stop = Health(), threading.Event()

    def write() -> None:
        while not stop.is_set():
            health.frame(frame(), {"detect": 1.0}, 0.1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(40):
            health.report()
    finally:
        stop.set()
        thread.join()
