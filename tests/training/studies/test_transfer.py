"""One joint run against five specialists per seed with equal steps; signs follow each metric's direction."""

from __future__ import annotations

from pathlib import Path

import pytest

from sf_ros.core.cues import TASKS
from training.studies import transfer
from training.studies.grid.figures import PAPER_FIGURES

MODEL_GROUPS = tuple(
    f"{model} {kind}" for model in ("qwen2-vl-2b", "sail-vl-1.5", "internvl3-2b") for kind in ("single-task", "joint")
)


def study_arguments(**changed) -> transfer.Arguments:
    return transfer.Arguments("smoke", "scenes", Path("out"), **changed)


def test_a_seed_has_a_joint_run_and_five_specialists() -> None:
    cells = transfer.grid(study_arguments(seeds="0,4"))
    names = ["joint", "gesture", "social_relation", "looking_at_me", "gaze", "expression"]
    assert [cell.name for cell in cells[:6]] == [f"{name}-seed0" for name in names]
    assert len(cells) == 12 and {cell.settings["seed"] for cell in cells[6:]} == {4}
    assert cells[0].settings["tasks"] == list(TASKS) and cells[2].settings["tasks"] == ["domain", "relation"]


def test_runs_of_a_seed_differ_only_in_tasks() -> None:
    first, *others = (dict(cell.settings) for cell in transfer.grid(study_arguments(seeds="1", steps=5)))
    assert first.pop("tasks") and all(other.pop("tasks") and other == first for other in others)
    assert first["config"]["joint"]["steps"] == 5


def test_joint_runs_can_have_other_steps() -> None:
    steps = [
        c.settings["config"]["joint"]["steps"]
        for c in transfer.grid(study_arguments(seeds="0", steps=5, joint_steps=25))
    ]
    assert steps == [25, 5, 5, 5, 5, 5]


def figures(**groups: dict[str, list[float]]) -> dict[str, dict[str, list[float]]]:
    return {group: {name: values.get(name, []) for name in PAPER_FIGURES} for group, values in groups.items()}


def rows_of(table: str) -> dict[str, list[str]]:
    return {cells[0]: cells[1:] for cells in map(cells_of, table.splitlines())}


def test_table_has_means_differences_signs_and_paper_rows() -> None:
    better, worse = [0.6, 0.62], [0.3, 0.32]
    groups = figures(
        **{
            transfer.SINGLE: {"gaze min_L2": better, "gaze AUC": worse, "domain mAP": [0.5, 0.7]},
            transfer.JOINT: {"gaze min_L2": worse, "gaze AUC": better, "domain mAP": [0.6, 0.62]},
            "chance": {"gaze AUC": [0.5]},
        }
    )
    rows = {
        name: dict(zip(PAPER_FIGURES, cells, strict=True)) for name, cells in rows_of(transfer.table(groups)).items()
    }
    assert rows["single-task"]["gaze min_L2"] == "0.610 ± 0.014"
    assert rows["joint - single"]["gaze min_L2"] == "-0.300" and rows["transfer"]["gaze min_L2"] == "+"
    assert rows["joint - single"]["gaze AUC"] == "+0.300" and rows["transfer"]["gaze AUC"] == "+"
    assert rows["transfer"]["domain mAP"] == "0" and rows["transfer"]["expression mAP"] == "–"
    assert rows["chance"]["gaze AUC"] == "0.500" and rows["chance"]["gaze min_L2"] == "–"
    assert (
        rows["the paper's single-task"]["gaze min_L2"] == "0.073" and rows["the paper's joint"]["domain mAP"] == "0.944"
    )
    assert set(rows["the paper's transfer"].values()) == {"+"}


def test_summary_counts_positive_signs_like_the_paper() -> None:
    groups = figures(
        **{"molmoe single-task": {"gaze min_L2": [0.2], "domain mAP": [0.5]}},
        **{"molmoe joint": {"gaze min_L2": [0.1], "domain mAP": [0.4]}},
        **{name: {} for name in (transfer.SINGLE, transfer.JOINT, *MODEL_GROUPS)},
    )
    rows = rows_of(transfer.summary(groups, transfer.MODELS))
    assert rows["molmoe"][-1] == "1 of 2" and rows["fused"][-1] == "0 of 0"
    # The paper's words: "seven of the ten tested metrics", "two of ten", "two of ten", "only one metric".
    assert {name: cells[-1] for name, cells in rows.items() if name.startswith("the paper's")} == {
        "the paper's fused": "11 of 11",
        "the paper's qwen2-vl-2b": "7 of 10",
        "the paper's molmoe": "2 of 10",
        "the paper's sail-vl-1.5": "2 of 10",
        "the paper's internvl3-2b": "1 of 10",
    }
    internvl = dict(zip(PAPER_FIGURES, rows["the paper's internvl3-2b"], strict=False))
    assert internvl["relation mAP"] == "+" and internvl["domain mAP"] == "0" and internvl["gaze AUC"] == "–"


def test_cells_of_vlms_have_their_name_and_settings() -> None:
    cells = transfer.grid(study_arguments(seeds="3", models="fused,molmoe,qwen2-vl-2b", weights=("molmoe=some/where",)))
    names = ["joint", "gesture", "social_relation", "looking_at_me", "gaze", "expression"]
    assert [cell.name for cell in cells] == [
        f"{model}{name}-seed3" for model in ("", "molmoe-", "qwen2-vl-2b-") for name in names
    ]
    molmoe, qwen = cells[6].settings["model"], cells[12].settings["model"]
    assert (molmoe["weights"], molmoe["vlm"]["image_size"], molmoe["vlm"]["lora_rank"]) == ("some/where", 336, 32)
    assert qwen["weights"] == "miniature"  # the smoke preset has no published weights
    assert {transfer.model_of(cell) for cell in cells} == {"fused", "molmoe", "qwen2-vl-2b"}


def test_published_presets_use_published_vlms() -> None:
    arguments = transfer.Arguments("paper", "data", Path("out"), seeds="0", models="sail-vl-1.5")
    assert transfer.grid(arguments)[0].settings["model"]["weights"] == "BytedanceDouyinContent/SAIL-VL-1d5-2B"
    assert not any("miniatures" in note for note in transfer.notes(arguments))
    assert any("miniatures" in note for note in transfer.notes(study_arguments(models="sail-vl-1.5")))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"models": "fused,qwen"}, "Unknown model 'qwen'"),
        ({"weights": ("qwen2-vl-2b",)}, "expected NAME=FOLDER"),
        ({"weights": ("molmo=x",)}, "Did you mean 'molmoe'"),
        ({"models": "molmoe", "set": ("pcgrad=true",)}, "pcgrad is for the fused model"),
    ],
    ids=str,
)
def test_invalid_models_and_weights_are_refused(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        transfer.grid(study_arguments(**changed))


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
