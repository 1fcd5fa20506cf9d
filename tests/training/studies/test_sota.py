"""A model's scores are in the paper's units beside published ones; tasks with hidden labels are left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.training import published
from training.evaluation import published_results
from training.evaluation.run import evaluate
from training.studies import sota


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} ")]
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


@pytest.mark.parametrize("published_row", published_results.PUBLISHED, ids=lambda row: row.name)
def test_published_rows_fit_the_columns(published_row: published_results.Row) -> None:
    assert len(published_row.figures) == len(published_results.COLUMNS) and any(published_row.figures)
    assert all(
        0 < value < (1 if column.scale == 1 else 100)
        for column, value in zip(published_results.COLUMNS, published_row.figures, strict=True)
        if value is not None
    )


def test_a_checkpoint_is_scored_once_per_task(smoke_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = smoke_run / "checkpoint"
    arguments = sota.Arguments(trained, "scenes", tmp_path, samples=6, tasks="expression,gaze")
    assert sota.run(arguments) == {"study": "sota", "out": str(tmp_path), "cells": 2, "failed": {}}
    expected = evaluate(trained, "scenes", "test", 6, tasks=["expression", "gaze"])
    text = (tmp_path / "table.md").read_text()
    scores = expected["expression"]["metrics"]["mAP"], expected["gaze"]["metrics"]["min_L2"]  # type: ignore[index]
    this = row(text, "this run")
    assert this[:6] == ["–"] * 6 and this[6] == f"{scores[1]:.3f}" and this[9] == f"{100 * scores[0]:.1f}"
    assert "drawn scenes" in text and "PaGE" in text and "PISC: the paper's own" not in text
    monkeypatch.setattr(sota, "measure", pytest.fail)
    assert sota.run(arguments)["failed"] == {}


def test_tasks_with_hidden_labels_are_left_out(smoke_run: Path, tmp_path: Path) -> None:
    root = published.everything(tmp_path / "data")
    arguments = sota.Arguments(smoke_run / "checkpoint", str(root), tmp_path / "out", tasks="domain,looking_at_me")
    assert sota.run(arguments)["failed"] == {}
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    cells = {cell["cell"]: cell["facts"] for cell in results["cells"]}
    assert cells["looking_at_me"] == {
        "scores": {}, "left_out": "labels are hidden: see --submission of training.evaluate",
    }  # fmt: skip
    assert cells["domain"]["scores"]["domain"]["samples"] == 6
    assert "drawn scenes" not in (tmp_path / "out" / "table.md").read_text()


def test_identity_depends_on_the_weights(smoke_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a bundle"):
        sota.run(sota.Arguments(tmp_path, "scenes", tmp_path / "out"))
    demo = Path(sota.__file__).parents[2] / "sf_ros" / "demo" / "bundle"
    assert sota.identity(demo) != sota.identity(smoke_run / "checkpoint") == sota.identity(smoke_run / "checkpoint")
