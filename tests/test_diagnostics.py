"""Diagnostics count what happened, and their level rises at once and falls only after calm."""

from __future__ import annotations

import pytest

from sf_ros.core.types import Box, FrameCues, Label, Person, PersonCues
from sf_ros.diagnostics import CALM_S, ERROR, OK, WARN, WINDOW_S, Health


def frame(index: int = 0, age_s: float = 0.1) -> FrameCues:
    person = PersonCues(Person(1, Box(0, 0, 9, 9), 0.9), expression=Label("neutral", 0.8, (), age_s))
    return FrameCues(0.1 * index, index, 64, 48, (person,), (), {"detect": 10.0 + index, "total": 50.0})


def running(seconds: float, latency_s: float = 0.1, fps: int = 10) -> Health:
    health = Health()
    health.start(0.0)
    for i in range(round(seconds * fps)):
        health.image(i / fps)
        health.frame(i / fps, frame(i), latency_s)
    return health


def test_rate_latency_stages_and_ages_are_reported() -> None:
    health = running(5.0)
    level, why, values = health.report(5.0)
    assert (level, why) == (OK, "running")
    assert float(values["fps"]) == pytest.approx(10, abs=0.3) and values["frames"] == "50"
    assert values["latency ms p50"] == values["latency ms p95"] == "100.0"
    assert float(values["detect ms p95"]) > 50 and values["age s expression"] == "0.10"
    assert float(values["memory MB resident"]) > 10


def test_only_the_last_seconds_count() -> None:
    health = running(5.0, latency_s=0.9)
    for i in range(100):
        health.image(5 + i / 10)
        health.frame(5 + i / 10, frame(), 0.1)
    assert health.report(5 + WINDOW_S + 0.5)[2]["latency ms p95"] == "100.0"


def test_a_camera_that_stops_is_a_warning_and_its_return_ends_it() -> None:
    health = running(1.0)
    assert health.silent_for(2.5) is None
    assert health.silent_for(4.0) == pytest.approx(3.1)
    assert health.report(4.0)[:2] == (WARN, "no image for 3 s")
    health.image(4.1)
    assert health.report(4.2)[0] == WARN  # not yet: it may stop again
    for i in range(40):
        health.image(4.2 + i / 10)
        level = health.report(4.2 + i / 10)[0]
    assert level == OK


def test_a_camera_that_never_came_is_a_warning_too() -> None:
    health = Health(no_image_after_s=1.0)
    assert health.silent_for(99.0) is None and health.report(99.0)[1] == "not active"
    health.start(100.0)
    assert health.silent_for(100.5) is None and health.silent_for(101.5) == pytest.approx(1.5)


def test_a_fault_is_an_error_with_its_text_and_fades() -> None:
    health = running(1.0)
    health.fault(1.0, "rgb8 image of 0x0: it is empty.", image=True)
    health.fault(1.0, "out of luck")
    level, why, values = health.report(1.1)
    assert (level, why) == (ERROR, "out of luck")
    assert (values["bad images"], values["errors"], values["last error"]) == ("1", "1", "out of luck")
    health.image(1 + 3 * CALM_S)
    assert health.report(1 + 3 * CALM_S)[0] == OK
    assert health.report(1 + 3 * CALM_S)[2]["last error"] == "out of luck"


def test_slow_answers_are_a_warning_and_clocks_that_disagree_are_not() -> None:
    assert running(2.0, latency_s=2.0).report(2.0)[0] == WARN
    unknown = Health()
    unknown.start(0.0)
    unknown.image(0.0)
    unknown.frame(0.0, frame(), None)
    level, _, values = unknown.report(0.1)
    assert level == OK and values["latency ms p95"] == "-"


def test_starting_again_forgets_the_last_run() -> None:
    health = running(2.0)
    health.fault(2.0, "old")
    health.stop()
    assert health.silent_for(50.0) is None
    health.start(50.0)
    assert health.report(50.1)[2]["frames"] == "0" and health.report(50.1)[0] == OK
