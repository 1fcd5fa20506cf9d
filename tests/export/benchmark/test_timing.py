"""Variants are timed in turns, and every one of them is reported."""

from __future__ import annotations

import json
import time

import pytest

from export.benchmark.timing import main, take_turns


def test_variants_take_turns_and_the_first_run_does_not_count() -> None:
    order: list[str] = []

    def call(name: str) -> None:
        order.append(name)
        end = time.process_time() + (0.2 if order.count(name) == 1 else 0.01)
        while time.process_time() < end:
            pass

    found = take_turns({"a": lambda: call("a"), "b": lambda: call("b")}, repeats=3)
    assert order == ["a", "b"] * 4
    assert all(10 <= value < 100 for value in found.values())


def test_the_last_line_has_every_precision_and_every_choice_of_reuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--people", "1", "--repeats", "1"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = result["milliseconds"]["1"]
    assert set(found) == {f"{p} {r}" for p in ("float32", "bfloat16") for r in ("off", "on", "auto")}
    assert all(value > 0 for value in found.values())


def test_a_crowd_that_is_not_there_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--people", "9"]) == 2
    assert "9 people; expected 1 to 8" in capsys.readouterr().err
