"""Gaze-LLE is trained on every encoder by its published recipe, and its published checkpoints are scored."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from tests.model import published
from tests.training import miniature
from training.baselines.gaze_lle import GazeLleConfig, GazeLleHead
from training.config import PRESETS
from training.studies import gaze_lle


def test_recipe_is_the_published_one_unless_changed() -> None:
    arguments = gaze_lle.Arguments("smoke", "scenes", Path("out"), set=("samples=130",))
    stage = gaze_lle.recipe_config(arguments, 4, GazeLleConfig()).joint
    # 130 samples are two batches of 60 an epoch, 15 epochs.
    assert (stage.steps, stage.batch_size, stage.learning_rate) == (30, 60, 1e-3)
    assert (stage.weight_decay, stage.warmup) == (0, 0)
    changed = dataclasses.replace(arguments, steps=7, set=("joint.batch_size=4",))
    stage = gaze_lle.recipe_config(changed, 4, GazeLleConfig()).joint
    assert (stage.steps, stage.batch_size, stage.learning_rate) == (7, 4, 1e-3)


def test_every_encoder_of_a_pair_is_trained_on_gaze() -> None:
    cells, groups = gaze_lle.grid(gaze_lle.Arguments("smoke", "scenes", Path("out"), seeds="0,1"))
    assert list(groups.items())[:2] == [("smoke-seed0", "smoke"), ("smoke-captioned-seed0", "smoke-captioned")]
    assert len(cells) == 4 and all(cell.settings["tasks"] == ["gaze"] for cell in cells)


def test_encoders_are_compared_on_published_data_once(tmp_path: Path) -> None:
    miniature.write_all(tmp_path / "world")
    clip, data = (str(tmp_path / "world" / name) for name in ("clip", "data"))
    molmo = published.molmoe(tmp_path / "world" / "molmoe").source
    arguments = gaze_lle.Arguments(
        "paper-mini", data, tmp_path / "out", seeds="0", steps=2,
        weights=(f"paper-mini={clip}", f"paper-mini-molmoe={molmo}"),
    )  # fmt: skip
    assert gaze_lle.run(arguments) == {"study": "gaze_lle", "out": str(arguments.out), "cells": 2, "failed": {}}
    written = {path: path.stat().st_mtime_ns for path in arguments.out.glob("*/record.json")}
    gaze_lle.run(arguments)
    assert (
        written == {path: path.stat().st_mtime_ns for path in arguments.out.glob("*/record.json")} and len(written) == 2
    )
    results = json.loads((arguments.out / "results.json").read_text())
    assert results["figures"]["paper-mini"]["gaze AUC"] != results["figures"]["paper-mini-molmoe"]["gaze AUC"]
    assert results["cells"][0]["facts"]["training"]["samples"] == {"gaze": 4}
    text = (arguments.out / "table.md").read_text()
    assert "| paper, MolmoE " in text and "0.072" in text


@pytest.mark.parametrize("inout", [False, True])
def test_a_published_checkpoint_is_scored(inout: bool, shared: Path, tmp_path: Path) -> None:
    encoder = PRESETS["smoke"].model.encoder
    torch.manual_seed(5)
    weights = GazeLleHead(encoder.dim, encoder.grid, GazeLleConfig(inout=inout)).state_dict()
    torch.save(weights, tmp_path / "gazelle.pt")
    arguments = gaze_lle.Arguments(
        "smoke", "scenes", tmp_path / "out", start=shared, samples=4, checkpoint=tmp_path / "gazelle.pt"
    )
    assert gaze_lle.run(arguments) == {"study": "gaze_lle", "out": str(arguments.out), "cells": 1, "failed": {}}
    results = json.loads((arguments.out / "results.json").read_text())
    assert set(results["figures"]) == {"smoke, gazelle.pt", "chance"}
    assert results["cells"][0]["settings"]["model"]["head"]["inout"] is inout
    assert 0 <= results["figures"]["smoke, gazelle.pt"]["gaze AUC"][0] <= 1


def test_other_files_are_refused_or_reported(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("nothing")
    arguments = gaze_lle.Arguments("smoke", "scenes", tmp_path / "out", start=shared, checkpoint=tmp_path / "text.pt")
    with pytest.raises(ValueError, match=r"text\.pt"):
        gaze_lle.grid(arguments)
    torch.save({"linear.weight": torch.zeros(3)}, tmp_path / "other.pt")
    summary = gaze_lle.run(dataclasses.replace(arguments, checkpoint=tmp_path / "other.pt", samples=2))
    assert "not the weights of this Gaze-LLE" in summary["failed"]["other"]
