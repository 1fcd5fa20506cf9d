"""The model card holds the measurements; a miniature demo is made from scratch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sf_ros.core import bundle as bundles
from training.tools import demo_bundle
from training.tools.model_card import NOT_MEASURED, model_card


def clip_scores(right: float) -> dict[str, Any]:
    people = {"tracked": 0.97, "tracked_least": 0.91, "false_persons": 0.02, "id_switches": 2}
    return {**people, "gaze": {"right": right, "given": 0.99, "distance_norm": 0.1234}}


FACTS: dict[str, Any] = {
    "training": {
        "preset": "tiny", "seed": 11, "stages": {"encoder": 1500, "joint": 3000}, "scenes": 10_000,
        "samples": {"gaze": 6000}, "seconds": 7200, "versions": {"torch": "2.15.0"},
        "shared_scenes": 0, "attention": "causal",
    },
    "detector": {"images": 1500, "epochs": 8, "size": 320, "map50": {"person": 0.9777, "face": 0.9666}},
    "bundle": {"commit": "abc1234", "parity": {"gaze": {"max_difference": 1.5e-4, "same_winner": 0.998}}},
    "scores": {
        "gesture": {"samples": 900, "metrics": {"accuracy": 0.812}, "chance": {"accuracy": 0.031}},
        "gaze": {
            "samples": 800, "metrics": {"AUC": 0.91}, "chance": {"AUC": 0.5},
            "target_before_head": {"samples": 300, "AUC": 0.654, "min_L2": 0.321},
        },
    },
    "calibration": {
        "tasks": {
            "gesture": {
                "temperature": 1.25, "before": {"ece": {"value": 0.04}},
                "after": {"ece": {"value": 0.02}, "ece_by_chance": 0.015},
                "operating_point": {"threshold": 0.4, "measured": {"precision": 0.91, "coverage": 0.95}},
            },
            "domain": {
                "temperature": None, "before": {"ece": {"value": 0.01}},
                "after": {"ece": {"value": 0.01}, "ece_by_chance": 0.005}, "operating_point": None,
            },
        }
    },
    "clip": {"seed": 7, **clip_scores(0.75)},
    "clips": {"clips": {"101": {}, "102": {}}, "total": clip_scores(0.7012)},
}  # fmt: skip


def test_the_model_card_has_origin_scores_limits_and_licences() -> None:
    card = model_card(FACTS, "On 20 photographs it detected nobody.", "It was stopped once.")
    for fact in ("abc1234", "seed 11", "encoder 1,500 steps, joint 3,000 steps", "0.978", "0.967", "120 minutes"):
        assert fact in card
    assert "| gesture | 900 | accuracy | 0.812 | 0.031 |" in card
    assert "| gaze, target before the head | 300 | AUC | 0.654 | |" in card
    assert "| gaze, target before the head | 300 | min_L2 | 0.321 | |" in card
    assert "| gaze | 0.701 of 0.990 | 0.750 of 0.990 |" in card
    assert "| gesture | 1.250 | 0.040 | 0.020 | 0.015 | 0.400 | 0.910 | 0.950 |" in card
    assert "| domain | - | 0.010 | 0.010 | 0.005 | - | - | - |" in card
    assert "On 20 photographs it detected nobody." in card and NOT_MEASURED not in card
    assert "drawn people only" in card and "Apache-2.0" in card and "AGPL-3.0" in card
    assert "(torch 2.15.0). It was stopped once.\n" in card
    assert "{" not in card


def test_the_model_card_states_missing_measurements() -> None:
    assert NOT_MEASURED in model_card(FACTS) and "(torch 2.15.0).\n" in model_card(FACTS)


def test_the_model_card_tells_how_visual_tokens_attend_and_which_scenes_tasks_share() -> None:
    shared = {**FACTS["training"], "shared_scenes": 16_000, "attention": "full"}
    causal, full = model_card(FACTS), model_card({**FACTS, "training": shared})
    assert "Under a causal mask" in causal and "jointly on scenes: gaze 6,000" in causal
    assert "in full" in full and "jointly on 16,000 scenes shared by all tasks: gaze 6,000" in full
    assert "Under a causal mask" not in full


def test_the_shipped_clip_is_not_among_the_scored_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        demo_bundle.main([str(tmp_path / "out"), "--clip-seed", "3", "--clips", "2,3"])
    assert end.value.code == 2
    assert "seed 3" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_miniature_demo_is_made_and_finished_steps_are_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "demo"
    command = [str(out), "--work", str(tmp_path / "work"), "--preset", "smoke-edge", "--images", "8", "--epochs", "1"]
    command += ["--size", "64", "--samples", "100", "--seconds", "0.4", "--clips", "2"]
    assert demo_bundle.main(command) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["megabytes"] < demo_bundle.MAX_MEGABYTES
    assert {path.name for path in out.iterdir()} == {"bundle", "clip.mp4", "truth.json", "MODEL_CARD.md"}
    bundles.load(out / "bundle")
    (tmp_path / "work" / "clips.json").unlink()
    assert demo_bundle.main(command) == 0
    assert capsys.readouterr().err.count("already done") == 6
