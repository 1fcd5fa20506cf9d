"""Scores from cached features equal those of training.evaluate; figures are named by task and metric."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sf_ros.core.cues import TASKS
from tests.training import published
from training.data import columns
from training.evaluation.run import evaluate
from training.studies.grid import figures, fused_cells
from training.studies.grid.arguments import TrainingArguments
from training.studies.grid.cells import Record
from training.studies.grid.fused_cells import fused_cell

SCORES: dict[str, Any] = {
    "gaze": {
        "metrics": {"AUC": 0.9, "min_L2": 0.1},
        "chance": {"AUC": 0.5},
        "target_before_head": {"samples": 3, "AUC": 0.6, "min_L2": 0.3},
    },
    "domain": {"metrics": {"mAP": 0.7, "accuracy": 0.8}, "chance": {"mAP": 0.3, "accuracy": 0.4}},
}


def same(value: Any, expected: Any) -> bool:
    """Equal up to rounding in float32."""
    if isinstance(expected, dict):
        return value.keys() == expected.keys() and all(same(value[key], expected[key]) for key in expected)
    return value == pytest.approx(expected, abs=1e-6)


def test_scores_from_features_equal_evaluation(
    smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = smoke_run / "checkpoint"
    arguments = TrainingArguments("smoke", "scenes", tmp_path, split="test", samples=6)
    expected = evaluate(trained, "scenes", "test", 6)
    assert same(fused_cells.scores_from_features(trained, arguments, list(TASKS)), expected)
    monkeypatch.setattr(columns, "model_inputs", None)  # for the next model nothing is drawn or encoded again
    assert same(fused_cells.scores_from_features(trained, arguments, list(TASKS)), expected)
    assert fused_cells.scores_from_images(trained, arguments, ["domain"]) == {"domain": expected["domain"]}


def test_scores_count_unreadable_samples(smoke_run: Path, tmp_path: Path) -> None:
    root = published.everything(tmp_path / "data")
    published.truncated(root / "pisc" / "image" / "00001.jpg")
    trained, arguments = smoke_run / "checkpoint", TrainingArguments("smoke", str(root), tmp_path)
    expected = fused_cells.scores_from_images(trained, arguments, ["relation", "gaze"])
    scores = fused_cells.scores_from_features(trained, arguments, ["relation", "gaze"])
    assert scores["relation"].pop("skipped") == {"samples": 2} and expected["relation"].pop("skipped")
    assert same(scores, expected)


def test_figures_are_named_by_task_and_metric() -> None:
    assert figures.figures_of(SCORES) == {
        "gaze AUC": 0.9,
        "gaze min_L2": 0.1,
        "gaze before head AUC": 0.6,
        "gaze before head min_L2": 0.3,
        "domain mAP": 0.7,
        "domain accuracy": 0.8,
    }


def test_runs_of_a_group_are_gathered_per_figure() -> None:
    records = [
        Record("a0", {}, "", facts={"scores": {"domain": SCORES["domain"]}}),
        Record("a1", {}, "", facts={"scores": {"domain": SCORES["domain"]}}),
        Record("b0", {}, "", error="failed"),
    ]
    groups = figures.by_group({"a0": "a", "a1": "a", "b0": "b"}, records)
    assert groups == {
        "a": {"domain mAP": [0.7, 0.7], "domain accuracy": [0.8, 0.8]},
        "b": {},
        "chance": {"domain mAP": [0.3], "domain accuracy": [0.4]},
    }
    assert list(groups) == ["a", "b", "chance"]


def test_five_tasks_cover_all_tasks_with_pisc_as_one() -> None:
    assert sorted(task for tasks in figures.FIVE_TASKS.values() for task in tasks) == sorted(TASKS)
    assert [qs for qs in figures.FIVE_TASKS.values() if len(qs) > 1] == [("domain", "relation")]


def test_paper_figures_exist_in_the_evaluation() -> None:
    metrics = {
        name: ("mAP", "accuracy") if spec.kind == "label" else ("AUC", "min_L2", "avg_L2")
        for name, spec in TASKS.items()
    }
    known = {f"{task} {metric}" for task, names in metrics.items() for metric in names}
    assert set(figures.PAPER_FIGURES) < known and len(figures.PAPER_FIGURES) == 11


def test_settings_hold_all_that_scores_depend_on() -> None:
    arguments = TrainingArguments(
        "smoke", "scenes", Path("out"), steps=3, split="test", samples=5, set=("lora_rank=2",)
    )
    cell = fused_cell("name", arguments, ("gaze",), 7, ["lora_alpha=8"])
    config = cell.settings["config"]
    assert (config["seed"], config["lora_rank"], config["lora_alpha"], config["joint"]["steps"]) == (7, 2, 8, 3)
    assert {key: cell.settings[key] for key in ("tasks", "seed", "data", "split", "samples")} == {
        "tasks": ["gaze"], "seed": 7, "data": "scenes", "split": "test", "samples": 5,
    }  # fmt: skip
    assert config["validate_every"] == 0  # no validation during a run


def test_keep_decides_whether_checkpoints_stay() -> None:
    for keep, scratch in ((False, ("joint", "checkpoint")), (True, ())):
        arguments = TrainingArguments("smoke", "scenes", Path("out"), keep=keep)
        assert fused_cell("name", arguments, ("gaze",), 0).scratch == scratch
