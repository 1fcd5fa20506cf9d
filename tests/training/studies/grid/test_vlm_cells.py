"""Cells of the paper's VLMs have published weights or miniatures, and missing weights fail only their cell."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tests.training import published
from training.data.source import SceneSource
from training.studies import transfer
from training.studies.grid import baseline_cells, vlm_cells
from training.studies.grid.arguments import TrainingArguments
from training.studies.grid.cells import run_grid

TASKS = ("gaze", "looking_at_me")


def study_arguments(out: Path, **changed) -> TrainingArguments:
    return TrainingArguments("smoke", "scenes", out, samples=4, steps=1, **changed)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR", "accelerate")  # it logs every tied weight


@pytest.mark.parametrize("model", vlm_cells.VLMS)
def test_every_miniature_trains_and_is_scored(model: str, tmp_path: Path) -> None:
    cell = vlm_cells.vlm_cell("name", model, study_arguments(tmp_path), TASKS, 0, {})
    (record,) = run_grid("study", [cell], tmp_path, Console(file=io.StringIO()))
    assert record.error is None
    assert set(record.facts["scores"]["gaze"]["metrics"]) == {"min_L2", "avg_L2", "avg_L2_each"}
    assert record.facts["scores"]["looking_at_me"]["samples"] == 4
    assert 0 <= record.facts["scores"]["gaze"]["unreadable"] <= 4
    assert (tmp_path / "start" / "vlms" / model / "config.json").exists()


def test_missing_weights_fail_only_their_cell(tmp_path: Path) -> None:
    arguments = study_arguments(tmp_path)
    cells = [
        vlm_cells.vlm_cell(name, "qwen2-vl-2b", arguments, ("looking_at_me",), 0, sources)
        for name, sources in (("gone", {"qwen2-vl-2b": "nobody/nothing"}), ("here", {}))
    ]
    gone, here = run_grid("study", cells, tmp_path, Console(file=io.StringIO()))
    assert gone.error is not None and "hf download nobody/nothing" in gone.error and here.error is None


def test_an_interrupted_study_repeats_no_finished_cell(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = transfer.Arguments(
        "smoke", "scenes", tmp_path, start=shared, seeds="0", samples=4, steps=1, models="internvl3-2b"
    )
    fit, started = baseline_cells.fit, []

    def killed(*args, **kwargs):
        started.append(args[3].name)
        if len(started) == 3:
            raise KeyboardInterrupt
        return fit(*args, **kwargs)

    monkeypatch.setattr(baseline_cells, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        transfer.run(arguments)
    assert transfer.run(arguments) == {"study": "transfer", "out": str(tmp_path), "cells": 6, "failed": {}}
    names = ["joint", "gesture", "social_relation", "looking_at_me", "gaze", "expression"]
    assert started == [f"internvl3-2b-{name}-seed0" for name in (*names[:3], *names[2:])]
    text = (tmp_path / "table.md").read_text()
    assert vlm_cells.NOT_EVIDENCE in text and "## internvl3-2b" in text and (tmp_path / "plot.png").exists()
    results = json.loads((tmp_path / "results.json").read_text())
    single, joint = (results["figures"][f"internvl3-2b {kind}"] for kind in ("single-task", "joint"))
    assert len(single["relation mAP"]) == len(joint["gaze min_L2"]) == 1 and joint["gaze AUC"] == []
    assert results["cells"][0]["facts"]["training"]["samples"]["domain"] == 8


def test_published_data_trains_fused_model_and_vlm(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "FIVE_TASKS", {name: (name,) for name in ("looking_at_me", "gaze")})
    data, out = published.everything(tmp_path / "data"), tmp_path / "out"
    arguments = transfer.Arguments(
        "smoke", str(data), out, start=shared, seeds="0", steps=2, models="fused,qwen2-vl-2b"
    )  # fmt: skip
    assert transfer.run(arguments) == {"study": "transfer", "out": str(out), "cells": 6, "failed": {}}
    results = json.loads((out / "results.json").read_text())
    for model in ("", "qwen2-vl-2b "):  # groups of the fused model have no prefix
        single, joint = (results["figures"][f"{model}{kind}"] for kind in ("single-task", "joint"))
        assert len(single["gaze min_L2"]) == 1 and len(joint["relation mAP"]) == 1 and not single["relation mAP"]
    assert SceneSource.remarks[0] not in (out / "table.md").read_text()
