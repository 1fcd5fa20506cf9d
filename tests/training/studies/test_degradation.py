"""Both encoders have the same cells; gains are positive when better; a second start repeats nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from training.data.scenes.text import descriptions
from training.studies import degradation
from training.studies.degradation import GAIN, PARTS
from training.studies.grid import fused_cells


def study_arguments(**changed) -> degradation.Arguments:
    return degradation.Arguments("smoke", "scenes", Path("out"), **changed)


def test_both_encoders_have_the_same_cells() -> None:
    _, runs = degradation.grid(study_arguments(seeds="0,3"))
    assert len({run.cell.name for run in runs}) == len(runs) == 1 + 2 * 2 * (5 + 1 + 6)
    assert [run.part for run in runs if run.part != "captioning"][:10] == ["probes"] * 10
    befores, afters = (
        [run for run in runs if run.preset == name and run.part != "captioning"]
        for name in ("smoke", "smoke-captioned")
    )
    for before, after in zip(befores, afters, strict=True):
        settings = [dict(run.cell.settings) for run in (before, after)]
        configs = [dict(s.pop("config")) for s in settings]
        assert settings[0] == settings[1] and before.kind == after.kind
        changed = {key for key in configs[0] if configs[0][key] != configs[1][key]}
        assert changed == {"name", "captioning", "described"}


def test_selected_parts_keep_their_order() -> None:
    _, runs = degradation.grid(study_arguments(parts="conflict,captioning"))
    assert list(dict.fromkeys(run.part for run in runs)) == ["captioning", "conflict"]
    with pytest.raises(ValueError, match="Unknown part 'probe'"):
        degradation.grid(study_arguments(parts="probe"))


def test_captioning_fields_change_only_the_encoder_after() -> None:
    _, runs = degradation.grid(study_arguments(set=("captioning.steps=7", "joint.batch_size=3")))
    configs = {run.preset: run.cell.settings["config"] for run in runs}
    assert configs["smoke"]["captioning"] is None and configs["smoke-captioned"]["captioning"]["steps"] == 7
    assert {config["joint"]["batch_size"] for config in configs.values()} == {3}


@pytest.mark.parametrize("name", ["paper", "paper-mini"])
def test_published_encoders_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' has no captioned counterpart; 'tiny' has one"):
        degradation.grid(degradation.Arguments(name, "scenes", Path("out")))


def test_gains_are_by_seed_and_positive_when_better() -> None:
    joint, single = {"gaze min_L2": [0.1, 0.3], "gaze AUC": [0.9]}, {"gaze min_L2": [0.2, 0.2], "gaze AUC": [0.8, 0.7]}
    assert degradation.gains("gaze min_L2", joint, single) == pytest.approx([0.1, -0.1])
    assert degradation.gains("gaze AUC", joint, single) == []  # a seed is missing
    assert degradation.gains("domain mAP", joint, single) == []


def test_smoke_run_does_all_parts_once(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptions, "worker_pool", lambda workers: ThreadPoolExecutor(1))
    arguments = degradation.Arguments(
        "smoke", "scenes", tmp_path, start=shared, samples=4, seeds="0", steps=1, epochs=1, gradients=2
    )
    assert degradation.run(arguments) == {"study": "degradation", "out": str(tmp_path), "cells": 25, "failed": {}}
    text = (tmp_path / "table.md").read_text()
    transfer = [f"## transfer, {kind}" for kind in ("joint", "single", GAIN)]
    titles = [line for line in text.splitlines() if line.startswith("##")]
    assert titles == ["## captioning", "## probes", "## conflict", *transfer]
    assert "–" not in text and text.count("after - before") == 5
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["figures"]) == {"smoke", "smoke-captioned"}
    assert {name.split()[0] for name in results["figures"]["smoke"]} == set(PARTS) - {"captioning"}
    monkeypatch.setattr(degradation, "caption", pytest.fail)
    monkeypatch.setattr(fused_cells, "train_and_score", pytest.fail)
    assert degradation.run(arguments)["failed"] == {}
