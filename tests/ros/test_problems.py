"""A problem is in diagnostics while it lasts and in the log once."""

from __future__ import annotations

import pytest

from sf_ros.ros.diagnostics import OK, WARN, Health
from sf_ros.ros.problems import LOG_PERIOD_S, Problems


class Times:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def parts() -> tuple[Problems, Health, list[str], Times]:
    times, lines = Times(), []
    health = Health(1e9, clock=times)
    return Problems(health, lines.append, times), health, lines, times


Parts = tuple[Problems, Health, list[str], Times]


def test_numbers_alone_make_no_second_log_line(parts: Parts) -> None:
    problems, health, lines, times = parts
    for second in range(60):
        times.now += 1
        problems.set("depth", f"no depth image for {second} s", detail=" on '/depth'")
    assert lines == ["No depth image for 0 s on '/depth'."]
    level, message, values = health.report()
    assert (level, message, values["depth"]) == (WARN, "no depth image for 59 s", "no depth image for 59 s")


def test_a_problem_that_comes_and_goes_is_logged_seldom(parts: Parts) -> None:
    problems, _, lines, times = parts
    for tenth in range(int(30 * LOG_PERIOD_S)):
        times.now += 0.1
        problems.set("depth", "late" if tenth % 2 else "")
    assert len(lines) == 3


def test_another_problem_is_another_line_and_repeated_ones_may_be(parts: Parts) -> None:
    problems, health, lines, times = parts
    problems.set("camera_info", "camera_info is of another size", warn=False)
    assert health.report()[:2] == (OK, "camera_info is of another size")
    times.now += LOG_PERIOD_S
    problems.set("camera_info", "of another frame")
    for _ in range(2):
        times.now += LOG_PERIOD_S
        problems.set("image", "no image", repeat=True)
    assert lines == ["camera_info is of another size.", "Of another frame.", "No image.", "No image."]
    assert health.report()[1] == "of another frame; no image"
    problems.set("camera_info", "", state="640x480")
    assert health.report()[2]["camera_info"] == "640x480"
