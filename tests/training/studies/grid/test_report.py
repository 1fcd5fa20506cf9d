"""A study leaves facts for machines, a table and a picture for people."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from PIL import Image

from training.studies.grid import report
from training.studies.grid.grid import StudyArguments
from training.studies.grid.records import Record


def test_a_table_is_aligned_markdown() -> None:
    assert report.markdown(("", "mAP"), [("joint", "0.5"), ("x", "0.25 ± 0.1")]) == (
        "|       | mAP        |\n| ----- | ---------- |\n| joint | 0.5        |\n| x     | 0.25 ± 0.1 |"
    )


def test_several_runs_are_told_by_mean_and_spread_one_by_its_value_none_by_a_dash() -> None:
    values = {"a": [1.0, 2.0, 3.0], "b": [0.25], "c": []}
    assert report.spread_row("joint", values, ("a", "b", "c", "d")) == ["joint", "2.000 ± 1.000", "0.250", "–", "–"]


def test_results_hold_every_cell_with_its_seed_commit_and_configuration(tmp_path: Path) -> None:
    records = [
        Record("a", {"seed": 3, "config": {"lora_alpha": 8}}, "abc", 1.5, {"training": {"samples": {"gaze": 8}}}),
        Record("b", {"seed": 4}, "abc", error="out of memory"),
    ]
    arguments = StudyArguments("smoke", "scenes", tmp_path)
    told = report.write(tmp_path, "transfer", arguments, records, "| |", {"joint": {"gaze AUC": [0.5]}, "single": {}})
    assert told == {"study": "transfer", "out": str(tmp_path), "cells": 2, "failed": {"b": "out of memory"}}
    results = json.loads((tmp_path / "results.json").read_text())
    first, second = results["cells"]
    assert (first["settings"]["seed"], first["commit"], first["settings"]["config"]) == (3, "abc", {"lora_alpha": 8})
    assert first["facts"]["training"]["samples"] == {"gaze": 8} and second["error"] == "out of memory"
    assert results["arguments"]["preset"] == "smoke" and results["figures"] == {
        "joint": {"gaze AUC": [0.5]},
        "single": {},
    }
    assert (tmp_path / "table.md").read_text() == f"# transfer\n\n{report.TOY}\n\n| |\n"
    report.write(tmp_path, "transfer", dataclasses.replace(arguments, preset="tiny"), records, "| |", {})
    assert (tmp_path / "table.md").read_text() == "# transfer\n\n| |\n"


def test_a_picture_has_a_panel_for_every_figure(tmp_path: Path) -> None:
    sizes = []
    for count in (1, 2, 5):
        figures = {group: {f"figure {n}": [0.1 * n, 0.2] for n in range(count)} for group in ("one", "two")}
        report.picture(figures, tmp_path / f"{count}.png")
        with Image.open(tmp_path / f"{count}.png") as picture:
            sizes.append(picture.size)
    assert sizes[1][0] == 2 * sizes[0][0] and sizes[2] == (4 * sizes[0][0], 2 * sizes[0][1])


def test_a_picture_of_nothing_is_drawn_all_the_same(tmp_path: Path) -> None:
    report.picture({"joint": {}}, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 0
