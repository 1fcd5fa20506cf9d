"""Every label task is probed on every selected encoder; pairs have differences beside the paper's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.model import published as encoders
from tests.training import miniature
from training.evaluation import published_results
from training.studies import probes


def rows_of(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_smoke_run_probes_every_label_task(shared: Path, tmp_path: Path) -> None:
    arguments = probes.Arguments("smoke", "scenes", tmp_path, start=shared, seeds="0", samples=6, epochs=2)
    assert probes.run(arguments) == {"study": "probes", "out": str(tmp_path), "cells": 5, "failed": {}}
    results = json.loads((tmp_path / "results.json").read_text())
    assert {cell["settings"]["task"] for cell in results["cells"]} == set(probes.LABEL_TASKS)
    assert results["cells"][0]["facts"]["samples"] == {"train": 8, "val": 6, "test": 6}
    assert all(0 <= value <= 1 for values in results["figures"]["smoke"].values() for value in values)
    assert [row[1] for row in rows_of((tmp_path / "table.md").read_text())[2:]] == ["smoke", "chance"]


def test_attentive_probes_compare_a_pair(shared: Path, tmp_path: Path) -> None:
    arguments = probes.Arguments(
        "smoke", "scenes", tmp_path, start=shared, seeds="0", samples=6, epochs=2, pooling="attentive",
        encoders="smoke,smoke-captioned",
    )  # fmt: skip
    assert probes.run(arguments) == {"study": "probes", "out": str(tmp_path), "cells": 10, "failed": {}}
    text = (tmp_path / "table.md").read_text()
    rows = rows_of(text)[2:]
    assert [row[:2] for row in rows[:4]] == [
        ["smoke", "before"], ["smoke", "after"], ["smoke", "after - before"], ["", "chance"],
    ]  # fmt: skip
    assert [row[0] for row in rows[4:]] == [f"paper, {name}" for name in published_results.PROBES for _ in range(3)]
    assert probes.PAPER_NOTE in text


def test_paper_differences_are_of_paper_figures() -> None:
    figures = {"paper": {"gesture mAP": [0.9]}, "paper-molmoe-1b": {"gesture mAP": [0.8]}}
    rows = {tuple(row[:2]): row[2:] for row in rows_of(probes.table(figures, tuple(figures)))}
    assert rows["paper, MolmoE", "before"][0] == "0.960" and rows["paper, MolmoE", "after"][0] == "0.853"
    assert rows["paper, MolmoE", "after - before"][0] == "-0.107"
    assert rows["MolmoE", "after - before"][:2] == ["-0.100", "–"]


def test_paper_table_has_a_figure_per_column() -> None:
    sides = [side for pair in published_results.PROBES.values() for side in pair]
    assert all(len(side) == len(published_results.PROBED) for side in sides)
    assert set(published_results.PROBES) == set(published_results.CONFLICT)


def test_encoders_are_pairs_or_named_presets() -> None:
    def presets(encoders: str) -> tuple[str, ...]:
        return probes.presets_of(probes.Arguments("tiny", "scenes", Path("out"), encoders=encoders))

    assert presets("") == ("tiny",) and presets("pairs") == ("tiny", "tiny-captioned")
    assert presets("paper-dinov2,tiny") == ("paper-dinov2", "tiny")
    with pytest.raises(ValueError, match="Unknown preset 'pear'"):
        presets("pear")


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'mean'"):
        probes.run(probes.Arguments("smoke", "scenes", Path("out"), pooling="meen"))


def test_published_encoders_are_probed_and_hidden_labels_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    miniature.write_all(tmp_path / "world")
    data, clip, llama = (tmp_path / "world" / name for name in ("data", "clip", "llama"))
    molmo = encoders.molmoe(tmp_path / "world" / "molmoe").source
    arguments = probes.Arguments(
        "paper-mini", str(data), tmp_path / "out", seeds="0", epochs=1, encoders="pairs",
        weights=(f"paper-mini={clip}", f"paper-mini-molmoe={molmo}"), llm=str(llama),
    )  # fmt: skip
    assert probes.run(arguments) == {"study": "probes", "out": str(tmp_path / "out"), "cells": 8, "failed": {}}
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert "looking_at_me" not in {cell["settings"]["task"] for cell in results["cells"]}
    remark = "'looking_at_me' has no scores: its labels of 'test' are hidden; --split val has them."
    assert remark in (tmp_path / "out" / "table.md").read_text()
    assert remark in capsys.readouterr().err
    assert set(results["figures"]["paper-mini"]) == set(results["figures"]["paper-mini-molmoe"]) > {"gesture mAP"}
