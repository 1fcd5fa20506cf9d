"""The scheduler on simulated devices and crowds: bounds that follow from prices and budget."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from export.benchmark.schedule import Device, Run, Scene, fairness, main, simulate, summary, turns_s
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUES, CueConfig

CONFIG = RuntimeConfig()
EXACT = {factor: Device(factor, noise=0.0) for factor in (0.1, 1.0, 20.0)}


def test_turns_are_what_arithmetic_says() -> None:
    alone = Scene(people=1)
    # (5 + 15) / 0.3 for gaze, (5 + 8 + 8) / 0.3 for the face, (5 + 15) / 0.3 for the gesture: 203 ms a second
    assert turns_s(Device(1), alone, CONFIG) == pytest.approx(
        {"gaze": 0.3, "looking_at_me": 0.3, "expression": 0.4, "gesture": 0.3, "relation": 1.2}
    )
    load = 20 * (20 + 21 + 20) / 0.3 + 6 * 25 / 1.2  # ms a second; the budget allows 60 * 15
    crowded = turns_s(Device(1), Scene(people=20), CONFIG)
    assert crowded["gaze"] == pytest.approx(0.3 * load / 900)
    assert crowded["relation"] == pytest.approx(1.2 * load / 900)
    assert "gaze" not in turns_s(Device(1), alone, CONFIG.with_cues(gaze=CueConfig(enabled=False)))


@pytest.mark.parametrize("factor", EXACT)
@pytest.mark.parametrize("people", [1, 2, 4, 8, 20])
def test_ages_stay_within_two_turns(people: int, factor: float) -> None:
    turn = turns_s(EXACT[factor], Scene(people), CONFIG)["gaze"]
    scene = Scene(people, stay_s=max(8.0, 4 * turn), seconds=max(8.0, 4 * turn))
    run = simulate(EXACT[factor], scene, CONFIG)
    by_cue = summary(run, EXACT[factor], scene, CONFIG)["age_s"]
    frame = max(1 / scene.fps, max(spent_ms for spent_ms, _ in run.frames) / 1e3)
    assert set(by_cue) == {name for name, cue in CUES.items() if cue.subject == "person" or people > 1}
    for cue, ages in by_cue.items():
        assert ages["p95"] <= 1.1 * ages["turn"] + frame, cue
        assert ages["max"] <= 2 * ages["turn"] + 2 * frame, cue  # includes the rush of newcomers at the start
        assert ages["p95"] > 0.2 * CONFIG.cue(cue).period_s, cue  # not queried all the time either


@pytest.mark.parametrize("people", [2, 8, 20])
def test_calls_with_several_queries_keep_the_budget(people: int) -> None:
    run = simulate(EXACT[1.0], Scene(people, stay_s=10, seconds=20), CONFIG)
    shared = [spent_ms for spent_ms, queries in run.frames if queries > 1]
    assert len(shared) > 20 and max(shared) <= CONFIG.budget_ms + 1e-6  # prices are the first estimates


@pytest.mark.parametrize("factor", [0.2, 3.0])
def test_unexpected_prices_are_learned(factor: float) -> None:
    config = dataclasses.replace(CONFIG, budget_ms=70.0 * factor)
    run = simulate(Device(factor, noise=0.0), Scene(20, stay_s=20, seconds=25), config)
    shared = [spent_ms for spent_ms, queries in run.frames if queries > 1][30:]
    over = sum(spent_ms > 1.05 * config.budget_ms for spent_ms in shared)
    assert len(shared) > 50 and over <= 0.03 * len(shared)  # the first time that a kind of query occurs


def test_a_query_above_the_budget_runs_alone() -> None:
    run = simulate(EXACT[20.0], Scene(8, stay_s=1e3, seconds=60), CONFIG)
    assert {queries for _, queries in run.frames[5:]} == {1}


@pytest.mark.parametrize(("people", "factor"), [(4, 1.0), (10, 1.0), (4, 20.0)])
def test_people_are_served_alike(people: int, factor: float) -> None:
    scene = Scene(people, stay_s=20 * factor**0.7, seconds=30 * factor**0.7)
    worst_over_best = fairness(simulate(EXACT[factor], scene, CONFIG), scene)
    assert worst_over_best is not None and 1 <= worst_over_best < 1.3


def test_changing_pairs_delay_gaze_by_less_than_40_percent() -> None:
    scene = Scene(8, stay_s=1e4, seconds=120)
    without_pairs = dataclasses.replace(CONFIG, max_pairs=0)
    ages = [
        summary(simulate(EXACT[20.0], scene, config), EXACT[20.0], scene, config)["age_s"]["gaze"]["p95"]
        for config in (without_pairs, CONFIG)
    ]
    assert ages[0] < ages[1] < 1.4 * ages[0]


def test_fairness_is_the_worst_cue_of_those_who_stayed() -> None:
    run = Run([(1.0, 1)] * 10, {}, seconds=10.0)
    run.ages |= {("gaze", (1,)): [1.0] * 10, ("gaze", (2,)): [1.5] * 10, ("gaze", (3,)): [9.0] * 2}
    run.ages |= {("gesture", (1,)): [1.0] * 10, ("gesture", (2,)): [2.5] * 10, ("relation", (1, 2)): [7.0] * 10}
    assert fairness(run, Scene(2, stay_s=10.0)) == 2.5
    assert fairness(Run([(1.0, 1)], {}, 1.0), Scene(2)) is None


def test_last_line_is_one_json_object_with_every_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--people", "1,2", "--devices", "0.5,20", "--seconds", "5", "--stay", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    result = json.loads(lines[-1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert [(run["device"], run["people"]) for run in result["runs"]] == [(0.5, 1), (0.5, 2), (20, 1), (20, 2)]
    for run in result["runs"]:
        assert 0 < run["fps"] <= 15.01 and run["budget_used"] > 0
        for ages in run["age_s"].values():
            assert 0 <= ages["p50"] <= ages["p95"] <= ages["max"] < math.inf
    assert max(len(line) for line in lines[:-1]) <= 80 and not any("…" in line for line in lines[:-1])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--people", "0"], "expected people and times of more than 0"),
        (["--devices", "-1"], "a device with factor -1.0; expected more than 0"),
        (["--seconds", "0"], "expected people and times of more than 0"),
        (["--budget-ms", "0"], "budget_ms is 0.0; it must lie in"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
