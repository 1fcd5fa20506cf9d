"""The fused model on every encoder, all else equal, beside the paper's tables 3 and 8."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sf_ros.core.cues import TASKS
from tests.model import published
from tests.training import miniature
from training.studies import encoders
from training.studies.grid.encoder_pairs import PAIRS, UNPUBLISHED
from training.studies.grid.figures import PAPER_FIGURES


def study_arguments(preset: str = "paper", **changed) -> encoders.Arguments:
    return encoders.Arguments(preset, "data", Path("out"), **changed)


def test_every_seed_trains_all_encoders_and_dinov2() -> None:
    cells, groups = encoders.grid(study_arguments(seeds="0,1"))
    presets = list(dict.fromkeys(preset for pair in PAIRS for preset in (pair.before, pair.after))) + ["paper-dinov2"]
    assert [cell.name for cell in cells] == [f"{name}-joint-seed{seed}" for seed in (0, 1) for name in presets]
    assert list(dict.fromkeys(groups.values())) == [f"{name}, joint" for name in presets]
    assert all(cell.settings["tasks"] == list(TASKS) for cell in cells)


def test_cells_differ_only_in_the_encoder() -> None:
    cells, _ = encoders.grid(study_arguments(seeds="0", pairs="MolmoE", unpaired=False))
    before, after = (dict(cell.settings["config"]) for cell in cells)
    assert {key for key in before if before[key] != after[key]} == {"name", "model", "weights"}
    assert {key for key in before["model"] if before["model"][key] != after["model"][key]} == {"encoder"}


def test_training_both_adds_single_tasks() -> None:
    cells, groups = encoders.grid(study_arguments("smoke", seeds="0", training="both"))
    assert [len(cell.settings["tasks"]) for cell in cells] == 2 * [6, 1, 2, 1, 1, 1]
    assert groups["smoke-captioned-gaze-seed0"] == "smoke-captioned, single"
    with pytest.raises(ValueError, match="Did you mean 'single'"):
        encoders.grid(study_arguments(training="singel"))


def test_section_has_differences_signs_and_paper_tables() -> None:
    figures = {
        "tiny, joint": {"gaze min_L2": [0.1], "gaze AUC": [0.9]},
        "tiny-captioned, joint": {"gaze min_L2": [0.2], "gaze AUC": [0.95]},
        "tiny, single": {"gaze min_L2": [0.9]},
        "chance": {"gaze AUC": [0.5]},
    }
    lines = encoders.section(figures, (UNPUBLISHED["tiny"],), "joint").splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rows = {(row[0], row[1]): dict(zip(PAPER_FIGURES, row[2:], strict=True)) for row in cells}
    assert rows["tiny", "before"]["gaze min_L2"] == "0.100" and rows["tiny", "after"]["gaze AUC"] == "0.950"
    assert rows["tiny", "after - before"]["gaze min_L2"] == "+0.100"
    assert [rows["tiny", "sign"][name] for name in ("gaze min_L2", "gaze AUC", "domain mAP")] == ["-", "+", "–"]
    assert rows["paper, table 8", "DINOv2"]["relation mAP"] == "0.641"
    assert rows["paper, table 3, MolmoE", "after"]["relation mAP"] == "0.758"
    assert set(rows["paper, table 3, MolmoE", "sign"].values()) == {"-"}
    # Section 4.2: Qwen2-VL is mixed on relationships, better before on all others.
    qwen = rows["paper, table 3, Qwen2-VL", "sign"]
    assert [name for name, sign in qwen.items() if sign != "-"] == ["relation mAP"]


def test_scene_pair_and_published_pair_run_once(shared: Path, tmp_path: Path) -> None:
    drawn = encoders.Arguments(
        "smoke", "scenes", tmp_path / "drawn", start=shared, seeds="0", samples=4, steps=1
    )  # fmt: skip
    miniature.write_all(tmp_path / "world")
    clip, llama, data = (str(tmp_path / "world" / name) for name in ("clip", "llama", "data"))
    molmo = published.molmoe(tmp_path / "world" / "molmoe").source
    real = encoders.Arguments(
        "paper-mini", data, tmp_path / "real", seeds="0", steps=2,
        weights=(f"paper-mini={clip}", f"paper-mini-molmoe={molmo}"), llm=llama,
    )  # fmt: skip
    for arguments, names in ((drawn, ("smoke", "smoke-captioned")), (real, ("paper-mini", "paper-mini-molmoe"))):
        assert encoders.run(arguments) == {"study": "encoders", "out": str(arguments.out), "cells": 2, "failed": {}}
        results = json.loads((arguments.out / "results.json").read_text())
        before, after = (results["figures"][f"{name}, joint"] for name in names)
        assert all(len(values[name]) == 1 for values in (before, after) for name in PAPER_FIGURES)
        assert before["gaze AUC"] != after["gaze AUC"]
        written = {path: path.stat().st_mtime_ns for path in arguments.out.glob("*/record.json")}
        encoders.run(arguments)
        assert written == {path: path.stat().st_mtime_ns for path in arguments.out.glob("*/record.json")}
