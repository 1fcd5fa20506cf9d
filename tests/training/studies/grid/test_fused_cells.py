"""Scores from cached features are those of training.evaluate; figures keep the names of questions and metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sf_ros.core.tasks import TASKS
from tests.training import published
from training import evaluate
from training.data import cache
from training.studies.grid import fused
from training.studies.grid.records import Record

SCORES: dict[str, Any] = {
    "gaze": {
        "metrics": {"AUC": 0.9, "min_L2": 0.1},
        "chance": {"AUC": 0.5},
        "target_before_head": {"samples": 3, "AUC": 0.6, "min_L2": 0.3},
    },
    "domain": {"metrics": {"mAP": 0.7, "accuracy": 0.8}, "chance": {"mAP": 0.3, "accuracy": 0.4}},
}


def same(found: Any, expected: Any) -> bool:
    """Equal up to the last digits of float32."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    return found == pytest.approx(expected, abs=1e-6)


def test_scores_from_features_are_those_of_the_evaluation(
    smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = smoke_run / "checkpoint"
    told = fused.Arguments("smoke", "scenes", tmp_path, split="test", samples=6)
    expected = evaluate.evaluate(trained, "scenes", "test", 6)
    assert same(fused.scores_from_features(trained, told, list(TASKS)), expected)
    monkeypatch.setattr(cache, "model_inputs", None)  # the next model has no picture drawn or encoded again
    assert same(fused.scores_from_features(trained, told, list(TASKS)), expected)
    assert fused.scores_of_pictures(trained, told, ["domain"]) == {"domain": expected["domain"]}


def test_scores_on_published_data_count_what_cannot_be_read(smoke_run: Path, tmp_path: Path) -> None:
    root = published.everything(tmp_path / "data")
    published.truncated(root / "pisc" / "image" / "00001.jpg")
    trained, told = smoke_run / "checkpoint", fused.Arguments("smoke", str(root), tmp_path)
    expected = fused.scores_of_pictures(trained, told, ["relation", "gaze"])
    found = fused.scores_from_features(trained, told, ["relation", "gaze"])
    assert found["relation"].pop("skipped") == {"samples": 2} and expected["relation"].pop("skipped")
    assert same(found, expected)


def test_figures_are_named_by_question_and_metric_and_gaze_by_place_too() -> None:
    assert fused.figures_of(SCORES) == {
        "gaze AUC": 0.9,
        "gaze min_L2": 0.1,
        "gaze before head AUC": 0.6,
        "gaze before head min_L2": 0.3,
        "domain mAP": 0.7,
        "domain accuracy": 0.8,
    }


def test_runs_of_a_group_are_gathered_figure_by_figure() -> None:
    records = [
        Record("a0", {}, "", facts={"scores": {"domain": SCORES["domain"]}}),
        Record("a1", {}, "", facts={"scores": {"domain": SCORES["domain"]}}),
        Record("b0", {}, "", error="failed"),
    ]
    figures = fused.by_group({"a0": "a", "a1": "a", "b0": "b"}, records)
    assert figures == {
        "a": {"domain mAP": [0.7, 0.7], "domain accuracy": [0.8, 0.8]},
        "b": {},
        "chance": {"domain mAP": [0.3], "domain accuracy": [0.4]},
    }
    assert list(figures) == ["a", "b", "chance"]


def test_the_five_tasks_are_the_six_questions_with_both_of_pisc_as_one() -> None:
    assert sorted(q for questions in fused.FIVE_TASKS.values() for q in questions) == sorted(TASKS)
    assert [qs for qs in fused.FIVE_TASKS.values() if len(qs) > 1] == [("domain", "relation")]


def test_the_papers_figures_are_ones_that_the_evaluation_has() -> None:
    metrics = {
        name: ("mAP", "accuracy") if spec.kind == "label" else ("AUC", "min_L2", "avg_L2")
        for name, spec in TASKS.items()
    }
    known = {f"{task} {metric}" for task, names in metrics.items() for metric in names}
    assert set(fused.PAPER_FIGURES) < known and len(fused.PAPER_FIGURES) == 11


def test_a_cell_notes_all_that_its_scores_depend_on() -> None:
    told = fused.Arguments("smoke", "scenes", Path("out"), steps=3, split="test", samples=5, set=("lora_rank=2",))
    cell = fused.cell("name", told, ("gaze",), 7, ["lora_alpha=8"])
    config = cell.settings["config"]
    assert (config["seed"], config["lora_rank"], config["lora_alpha"], config["joint"]["steps"]) == (7, 2, 8, 3)
    assert {key: cell.settings[key] for key in ("tasks", "seed", "data", "split", "samples")} == {
        "tasks": ["gaze"], "seed": 7, "data": "scenes", "split": "test", "samples": 5,
    }  # fmt: skip
    assert config["validate_every"] == 0  # the time of a run is the optimiser's


def test_checkpoints_stay_only_where_they_are_wanted() -> None:
    for keep, scratch in ((False, ("joint", "checkpoint")), (True, ())):
        told = fused.Arguments("smoke", "scenes", Path("out"), keep=keep)
        assert fused.cell("name", told, ("gaze",), 0).scratch == scratch
