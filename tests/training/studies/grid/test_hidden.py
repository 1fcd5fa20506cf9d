"""Tasks whose labels are hidden are known before any cell runs; cells of several tasks are scored on the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.model import published as encoder_files
from tests.training import miniature, published
from training import train
from training.data.files import DatasetError
from training.studies import encoders, probes, sweep, synergy, transfer
from training.studies.grid.arguments import TrainingArguments
from training.studies.grid.fused_cells import fused_cell
from training.studies.grid.hidden import visible, with_scores

TASKS_OF_PAIR = ("looking_at_me", "expression")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(published.everything(tmp_path_factory.mktemp("data")))


def arguments(data: str, **changed) -> TrainingArguments:
    return TrainingArguments("smoke", data, Path("out"), seeds="0", **{"split": "test", **changed})


def test_a_joint_cell_is_kept_and_a_specialist_without_labels_is_not(
    data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = transfer.Arguments("smoke", data, Path("out"), seeds="0", split="test")
    cells, remarks = with_scores(chosen, transfer.grid(chosen))
    names = ["joint", "gesture", "social_relation", "gaze", "expression"]
    assert [cell.name for cell in cells] == [f"{name}-seed0" for name in names]
    assert remarks == ["'looking_at_me' has no scores: its labels of 'test' are hidden; --split val has them."]
    assert capsys.readouterr().err.splitlines() == remarks


def test_all_is_scored_where_labels_are_public(data: str) -> None:
    for changed in ({"split": "val"}, {"data": "scenes"}):
        chosen = arguments(**{"data": data, **changed})
        assert len(with_scores(chosen, synergy.grid(chosen))[0]) == 15
        assert with_scores(chosen, synergy.grid(chosen))[1] == []


def test_a_study_of_hidden_labels_alone_is_refused(data: str) -> None:
    chosen = arguments(data)
    cells = [fused_cell("looking_at_me-seed0", chosen, ("looking_at_me",), 0)]
    with pytest.raises(ValueError, match="labels of 'test' are hidden; --split val has them"):
        with_scores(chosen, cells)


@pytest.mark.parametrize(
    "study",
    [
        lambda data, out: transfer.run(transfer.Arguments("smoke", data, out)),
        lambda data, out: synergy.run(synergy.Arguments("smoke", data, out)),
        lambda data, out: encoders.run(encoders.Arguments("smoke", data, out)),
        lambda data, out: sweep.run(sweep.Arguments("smoke", data, out, grid=("lora_alpha=8",))),
        lambda data, out: probes.run(probes.Arguments("smoke", data, out)),
    ],
    ids=["transfer", "synergy", "encoders", "sweep", "probes"],
)
def test_a_missing_dataset_is_reported_before_any_cell(study: Callable[[str, Path], dict], tmp_path: Path) -> None:
    published.ego4d(tmp_path / "data")
    with pytest.raises(DatasetError, match="no such folder"):
        study(str(tmp_path / "data"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_joint_cell_is_scored_on_the_tasks_with_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder_files.clip(tmp_path / "clip")
    miniature.write_llm(tmp_path / "llama")
    published.ego4d(tmp_path / "data")
    published.affectnet(tmp_path / "data", "release", 1)
    weights = json.dumps([str(tmp_path / "clip")]), json.dumps(str(tmp_path / "llama"))
    chosen = TrainingArguments(
        "paper-mini", str(tmp_path / "data"), tmp_path / "out", split="test", steps=1, cache="views",
        set=(f"weights.encoder={weights[0]}", f"weights.llm={weights[1]}"),
    )  # fmt: skip
    assert visible(chosen, TASKS_OF_PAIR) == ("expression",)
    cell = fused_cell("pair", chosen, TASKS_OF_PAIR, 0)
    facts = cell.run(tmp_path / "out" / "pair")
    assert facts["training"]["tasks"] == list(TASKS_OF_PAIR)
    assert list(facts["scores"]) == ["expression"] and facts["scores"]["expression"]["samples"] == 8
    monkeypatch.setattr(train, "train", lambda command: pytest.fail("trained"))
    (tmp_path / "data" / "affectnet").rename(tmp_path / "data" / "away")
    with pytest.raises(DatasetError, match="affectnet: no such folder"):
        cell.run(tmp_path / "out" / "again")
