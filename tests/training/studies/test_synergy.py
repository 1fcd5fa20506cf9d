"""All pairs of tasks are compared with single tasks; a matrix shows the gains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training import published
from training.data.source import SceneSource
from training.evaluation import published_results
from training.studies import synergy, transfer
from training.studies.grid.figures import FIVE_TASKS


def study_arguments(**changed) -> synergy.Arguments:
    return synergy.Arguments("smoke", "scenes", Path("out"), **changed)


def test_a_seed_has_ten_pairs_and_five_single_tasks() -> None:
    cells = synergy.grid(study_arguments(seeds="0,2"))
    assert len(cells) == 2 * 15 and len({cell.name for cell in cells}) == 30
    assert [cell.name for cell in cells[5:7]] == ["gesture+social_relation-seed0", "gesture+looking_at_me-seed0"]
    assert cells[5].settings["tasks"] == ["gesture", "domain", "relation"]
    pairs = {frozenset(cell.name.rpartition("-seed")[0].split("+")) for cell in cells[5:15]}
    assert pairs == set(published_results.PAIRS)
    assert [synergy.group_of(cell) for cell in cells[4:6]] == ["single-task", "gesture+social_relation"]


def test_single_task_cells_are_those_of_transfer() -> None:
    paper = {cell.name: cell.settings for cell in transfer.grid(transfer.Arguments("smoke", "scenes", Path("out")))}
    for cell in synergy.grid(study_arguments()):
        if "+" not in cell.name:
            assert paper[cell.name] == cell.settings


def test_matrix_has_gains_in_percent_and_signs() -> None:
    single = {"gaze min_L2": [0.2], "gaze avg_L2": [0.4], "gaze AUC": [0.8], "expression mAP": [0.5]}
    pairs = {
        "gaze+expression": {"gaze min_L2": [0.1], "gaze avg_L2": [0.4], "gaze AUC": [0.6], "expression mAP": [0.6]}
    }
    matrix = synergy.matrix(pairs, single, "title")
    gaze, expression = (list(FIVE_TASKS).index(task) for task in ("gaze", "expression"))
    assert matrix.values[gaze, expression] == pytest.approx((50 + 0 - 25) / 3)
    assert matrix.values[expression, gaze] == pytest.approx(20)
    assert matrix.texts[gaze][expression] == "+8.3\n+ 0 -" and matrix.texts[expression][gaze] == "+20.0\n+"
    assert np.isnan(np.delete(matrix.values.ravel(), [5 * gaze + expression, 5 * expression + gaze])).all()


def test_the_papers_matrix_agrees_with_its_text() -> None:
    paper = {"+".join(sorted(pair)): published_results.by_name(row) for pair, row in published_results.PAIRS.items()}
    matrix = synergy.matrix(paper, published_results.by_name(published_results.TRANSFER["fused"][0]), "paper")
    row = {task: matrix.values[number] for number, task in enumerate(FIVE_TASKS)}
    # Section 4.5: gaze gains from looking-at-me, PISC from gestures; expressions and gestures from nobody.
    assert row["gaze"][list(FIVE_TASKS).index("looking_at_me")] == np.nanmax(row["gaze"]) > 0
    assert row["social_relation"][list(FIVE_TASKS).index("gesture")] == np.nanmax(row["social_relation"]) > 0
    assert np.nanmax(row["expression"]) < 0 and np.nanmax(row["gesture"]) < 0


def test_table_has_the_papers_row_below_each_row() -> None:
    figures = {
        "single-task": {"gaze min_L2": [0.2], "looking_at_me mAP": [0.5]},
        "looking_at_me+gaze": {"gaze min_L2": [0.1], "looking_at_me mAP": [0.4]},
        "chance": {},
    }
    lines = synergy.table(figures).splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("| looking_at_me+gaze - single"))
    ours, sign, paper = ([cell.strip() for cell in line.strip("|").split("|")][1:] for line in lines[place : place + 3])
    columns = [cell.strip() for cell in lines[0].strip("|").split("|")][1:]
    at = {name: columns.index(name) for name in ("gaze min_L2", "looking_at_me mAP", "gesture mAP")}
    assert [ours[at[n]] for n in at] == ["-0.100", "-0.100", "–"]
    assert [sign[at[n]] for n in at] == ["+", "-", "–"] and [paper[at[n]] for n in at] == ["+", "-", "–"]


@pytest.mark.parametrize("drawn", [True, False], ids=["scenes", "published layouts"])
def test_smoke_run_does_every_pair_once(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn: bool
) -> None:
    monkeypatch.setattr(synergy, "FIVE_TASKS", {task: FIVE_TASKS[task] for task in ("looking_at_me", "gaze")})
    monkeypatch.setattr(synergy, "PAIRS", (("looking_at_me", "gaze"),))
    data, out = "scenes" if drawn else str(published.everything(tmp_path / "data")), tmp_path / "out"
    arguments = synergy.Arguments("smoke", data, out, start=shared, seeds="0", samples=6, steps=2)
    assert synergy.run(arguments) == {"study": "synergy", "out": str(out), "cells": 3, "failed": {}}
    written = {path: path.stat().st_mtime_ns for path in out.glob("*/record.json")}
    synergy.run(arguments)
    assert written == {path: path.stat().st_mtime_ns for path in out.glob("*/record.json")} and len(written) == 3
    results = json.loads((out / "results.json").read_text())
    assert set(results["figures"]["looking_at_me+gaze"]) > {"looking_at_me mAP", "gaze min_L2"}
    assert (SceneSource.remarks[0] in (out / "table.md").read_text()) == drawn
    with Image.open(out / "plot.png") as image:
        assert image.width > image.height
