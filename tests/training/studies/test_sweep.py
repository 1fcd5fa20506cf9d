"""A sweep runs every combination of its fields, resumes inside a cell, and refuses other fields."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sf_ros.core.text import INTERRUPTED
from training.studies import __main__ as studies
from training.studies.sweep import combinations
from training.trainer import state

ALPHAS = ["--grid", "lora_alpha=8,16"]


def command(out: Path, start: Path, *more: str) -> list[str]:
    shared = ["--data", "scenes", "--out", str(out), "--start", str(start)]
    return ["sweep", "smoke", *shared, "--tasks", "expression", "--samples", "6", *more]


def test_a_grid_is_the_product_of_its_values() -> None:
    assert combinations(["a=1,2", "b.c=x"]) == [("a=1", "b.c=x"), ("a=2", "b.c=x")]
    assert combinations(["model.encoder.layers=[-1],[-1,-2]"]) == [
        ("model.encoder.layers=[-1]",),
        ("model.encoder.layers=[-1,-2]",),
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["lora_alfa=1,2"], "Unknown field of TrainConfig 'lora_alfa'. Did you mean 'lora_alpha'"),
        (["joint.rate=1"], "Unknown field of StageConfig 'rate'"),
        (["encoder.steps=1,2"], "'encoder.steps' changes the pre-trained parts"),
        (["seed=1,2"], "'seed' cannot be swept; use --seeds"),
        (["lora_alpha=x"], "lora_alpha is 'x'; expected a value like 64 (int)"),
        ([], "--grid is missing"),
    ],
    ids=str,
)
def test_fields_that_cannot_be_swept_are_refused(
    fields: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = [part for field in fields for part in ("--grid", field)]
    assert studies.main(["sweep", "smoke", "--data", "scenes", "--out", str(tmp_path / "out"), *grid]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_interrupted_sweep_gives_the_same_results(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert studies.main(command(whole, shared, *ALPHAS)) == 0
    write, written = state.write, []

    def killed(*arguments) -> None:
        write(*arguments)
        written.append(arguments)
        if len(written) == 3:  # the second cell's first state, at half its steps
            raise KeyboardInterrupt

    monkeypatch.setattr(state, "write", killed)
    assert studies.main(command(broken, shared, *ALPHAS)) == INTERRUPTED
    assert not (broken / "results.json").exists() and len(list(broken.glob("*/record.json"))) == 1
    capsys.readouterr()
    assert studies.main(command(broken, shared, *ALPHAS)) == 0
    assert len(written) == 4  # the rest of the second cell, and nothing of the first
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {
        "study": "sweep", "out": str(broken), "cells": 2, "failed": {},
    }  # fmt: skip
    one, two = (json.loads((folder / "results.json").read_text()) for folder in (whole, broken))
    assert one["figures"] == two["figures"] and list(one["figures"]) == ["lora_alpha=8", "lora_alpha=16", "chance"]
    assert one["figures"]["lora_alpha=8"].keys() == {"expression mAP", "expression accuracy"}
    assert [cell["settings"]["config"]["lora_alpha"] for cell in one["cells"]] == [8, 16]
    assert (broken / "plot.png").exists() and "| lora_alpha=16 |" in (broken / "table.md").read_text()
    assert not list(broken.glob("*/checkpoint")) and list(broken.glob("*/curves.png"))


def test_values_can_be_added_but_settings_not_changed(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert studies.main(command(tmp_path, shared, "--grid", "lora_alpha=8", "--steps", "1")) == 0
    first = (tmp_path / "lora_alpha=8 seed0" / "record.json").read_bytes()
    assert studies.main(command(tmp_path, shared, "--grid", "lora_alpha=8,4", "--steps", "1")) == 0
    assert (tmp_path / "lora_alpha=8 seed0" / "record.json").read_bytes() == first
    capsys.readouterr()
    assert studies.main(command(tmp_path, shared, "--grid", "lora_alpha=8", "--steps", "2")) == 2
    assert "config.joint.steps is 1, expected 2" in capsys.readouterr().err
