"""What the scheduler makes of devices and crowds, in simulated time: bounds that follow from prices and budget."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from export.benchmark.schedule import CUES, Device, Run, Scene, fairness, main, simulate, summary, turns_s
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CueConfig

CONFIG = RuntimeConfig()
EXACT = {times: Device(times, noise=0.0) for times in (0.1, 1.0, 20.0)}


def test_turns_are_what_arithmetic_says() -> None:
    one = Scene(people=1)
    # (5 + 15) / 0.3 for gaze, (5 + 8 + 8) / 0.3 for the face, (5 + 15) / 0.3 for the gesture: 203 ms a second
    assert turns_s(Device(1), one, CONFIG) == pytest.approx(
        {"gaze": 0.3, "looking_at_me": 0.3, "expression": 0.4, "gesture": 0.3, "relation": 1.2}
    )
    load = 20 * (20 + 21 + 20) / 0.3 + 6 * 25 / 1.2  # ms a second, of which the budget leaves 60 * 15
    crowded = turns_s(Device(1), Scene(people=20), CONFIG)
    assert crowded["gaze"] == pytest.approx(0.3 * load / 900)
    assert crowded["relation"] == pytest.approx(1.2 * load / 900)
    assert "gaze" not in turns_s(Device(1), one, dataclasses.replace(CONFIG, gaze=CueConfig(enabled=False)))


@pytest.mark.parametrize("times", EXACT)
@pytest.mark.parametrize("people", [1, 2, 4, 8, 20])
def test_ages_stay_within_the_turns_that_prices_and_budget_leave(people: int, times: float) -> None:
    turn = turns_s(EXACT[times], Scene(people), CONFIG)["gaze"]
    scene = Scene(people, stay_s=max(8.0, 4 * turn), seconds=max(8.0, 4 * turn))
    run = simulate(EXACT[times], scene, CONFIG)
    found = summary(run, EXACT[times], scene, CONFIG)["age_s"]
    frame = max(1 / scene.fps, max(spent for spent, _ in run.frames) / 1e3)
    assert set(found) == set(CUES) - ({"relation"} if people == 1 else set())
    for cue, ages in found.items():
        assert ages["p95"] <= 1.1 * ages["turn"] + frame, cue
        assert ages["max"] <= 2 * ages["turn"] + 2 * frame, cue  # nobody starves, newcomers' rush at the start included
        assert ages["p95"] > 0.2 * CONFIG.cue(cue).period_s, cue  # nor is asked about all the time


@pytest.mark.parametrize("people", [2, 8, 20])
def test_a_call_with_more_than_one_look_keeps_the_budget(people: int) -> None:
    run = simulate(EXACT[1.0], Scene(people, stay_s=10, seconds=20), CONFIG)
    shared = [spent for spent, looks in run.frames if looks > 1]
    assert len(shared) > 20 and max(shared) <= CONFIG.budget_ms + 1e-6  # its prices are the first guess


@pytest.mark.parametrize("times", [0.2, 3.0])
def test_other_prices_than_guessed_are_learned_and_the_budget_kept(times: float) -> None:
    config = dataclasses.replace(CONFIG, budget_ms=70.0 * times)
    run = simulate(Device(times, noise=0.0), Scene(20, stay_s=20, seconds=25), config)
    shared = [spent for spent, looks in run.frames if looks > 1][30:]
    over = sum(spent > 1.05 * config.budget_ms for spent in shared)
    assert len(shared) > 50 and over <= 0.03 * len(shared)  # once a kind of look comes that was not yet priced


def test_a_look_that_is_too_dear_is_taken_alone() -> None:
    run = simulate(EXACT[20.0], Scene(8, stay_s=1e3, seconds=60), CONFIG)
    assert {looks for _, looks in run.frames[5:]} == {1}


@pytest.mark.parametrize(("people", "times"), [(4, 1.0), (10, 1.0), (4, 20.0)])
def test_people_are_served_alike(people: int, times: float) -> None:
    scene = Scene(people, stay_s=20 * times**0.7, seconds=30 * times**0.7)
    worst_over_best = fairness(simulate(EXACT[times], scene, CONFIG), scene)
    assert worst_over_best is not None and 1 <= worst_over_best < 1.3


def test_pairs_that_come_and_go_take_no_more_than_their_cap_allows_and_the_people_in_them_wait_little_longer() -> None:
    scene = Scene(8, stay_s=1e4, seconds=120)
    alone = dataclasses.replace(CONFIG, max_pairs=0)
    ages = [
        summary(simulate(EXACT[20.0], scene, config), EXACT[20.0], scene, config)["age_s"]["gaze"]["p95"]
        for config in (alone, CONFIG)
    ]
    assert ages[0] < ages[1] < 1.4 * ages[0]


def test_fairness_is_the_worst_of_all_cues_among_those_who_stayed() -> None:
    run = Run([(1.0, 1)] * 10, {}, seconds=10.0)
    run.ages |= {("gaze", (1,)): [1.0] * 10, ("gaze", (2,)): [1.5] * 10, ("gaze", (3,)): [9.0] * 2}
    run.ages |= {("gesture", (1,)): [1.0] * 10, ("gesture", (2,)): [2.5] * 10, ("relation", (1, 2)): [7.0] * 10}
    assert fairness(run, Scene(2, stay_s=10.0)) == 2.5
    assert fairness(Run([(1.0, 1)], {}, 1.0), Scene(2)) is None


def test_the_last_line_is_one_json_object_with_every_run(capsys: pytest.CaptureFixture[str]) -> None:
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
        (["--devices", "-1"], "a device of -1.0 first guesses; expected more than 0"),
        (["--seconds", "0"], "expected people and times of more than 0"),
        (["--budget-ms", "0"], "budget_ms is 0.0; it must lie in"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
