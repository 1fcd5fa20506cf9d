"""A study leaves results as JSON, a table and a plot."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from PIL import Image

from training.studies.grid import report
from training.studies.grid.arguments import StudyArguments
from training.studies.grid.cells import Record


def test_a_table_is_aligned_markdown() -> None:
    assert report.markdown(("", "mAP"), [("joint", "0.5"), ("x", "0.25 ± 0.1")]) == (
        "|       | mAP        |\n| ----- | ---------- |\n| joint | 0.5        |\n| x     | 0.25 ± 0.1 |"
    )


def test_runs_are_mean_and_spread_one_value_or_a_dash() -> None:
    values = {"a": [1.0, 2.0, 3.0], "b": [0.25], "c": []}
    assert report.spread_row("joint", values, ("a", "b", "c", "d")) == ["joint", "2.000 ± 1.000", "0.250", "–", "–"]


def test_results_hold_settings_and_facts_of_every_cell(tmp_path: Path) -> None:
    records = [
        Record("a", {"seed": 3, "config": {"lora_alpha": 8}}, "abc", 1.5, {"training": {"samples": {"gaze": 8}}}),
        Record("b", {"seed": 4}, "abc", error="out of memory"),
    ]
    arguments = StudyArguments("smoke", "scenes", tmp_path)
    figures = {"joint": {"gaze AUC": [0.5]}, "single": {}}
    summary = report.write(tmp_path, "transfer", arguments, records, "| |", figures)
    assert summary == {"study": "transfer", "out": str(tmp_path), "cells": 2, "failed": {"b": "out of memory"}}
    results = json.loads((tmp_path / "results.json").read_text())
    first, second = results["cells"]
    assert (first["settings"]["seed"], first["commit"], first["settings"]["config"]) == (3, "abc", {"lora_alpha": 8})
    assert first["facts"]["training"]["samples"] == {"gaze": 8} and second["error"] == "out of memory"
    assert results["arguments"]["preset"] == "smoke" and results["figures"] == figures
    assert (tmp_path / "table.md").read_text() == f"# transfer\n\n{report.TOY}\n\n| |\n"
    report.write(tmp_path, "transfer", dataclasses.replace(arguments, preset="tiny"), records, "| |", {})
    assert (tmp_path / "table.md").read_text() == "# transfer\n\n| |\n"


def test_plot_has_a_panel_per_figure(tmp_path: Path) -> None:
    sizes = []
    for count in (1, 2, 5):
        figures = {group: {f"figure {n}": [0.1 * n, 0.2] for n in range(count)} for group in ("one", "two")}
        report.plot(figures, tmp_path / f"{count}.png")
        with Image.open(tmp_path / f"{count}.png") as image:
            sizes.append(image.size)
    assert sizes[1][0] == 2 * sizes[0][0] and sizes[2] == (4 * sizes[0][0], 2 * sizes[0][1])


def test_plot_without_values_is_written(tmp_path: Path) -> None:
    report.plot({"joint": {}}, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 0
