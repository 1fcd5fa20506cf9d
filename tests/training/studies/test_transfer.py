"""One joint run against five specialists per seed, under one budget; signs follow the direction of each metric."""

from __future__ import annotations

from pathlib import Path

from sf_ros.core.tasks import TASKS
from training.studies import transfer
from training.studies.fused import PAPER_FIGURES


def arguments(**changed) -> transfer.Arguments:
    return transfer.Arguments("smoke", "scenes", Path("out"), **changed)


def test_a_seed_has_a_joint_run_and_five_specialists() -> None:
    cells = transfer.grid(arguments(seeds="0,4"))
    names = ["joint", "gesture", "social_relation", "looking_at_me", "gaze", "expression"]
    assert [cell.name for cell in cells[:6]] == [f"{name}-seed0" for name in names]
    assert len(cells) == 12 and {cell.settings["seed"] for cell in cells[6:]} == {4}
    assert cells[0].settings["tasks"] == list(TASKS) and cells[2].settings["tasks"] == ["domain", "relation"]


def test_all_runs_of_a_seed_differ_in_nothing_but_their_tasks() -> None:
    first, *others = (dict(cell.settings) for cell in transfer.grid(arguments(seeds="1", steps=5)))
    assert first.pop("tasks") and all(other.pop("tasks") and other == first for other in others)
    assert first["config"]["joint"]["steps"] == 5


def test_joint_runs_may_be_given_steps_of_their_own() -> None:
    steps = [
        c.settings["config"]["joint"]["steps"] for c in transfer.grid(arguments(seeds="0", steps=5, joint_steps=25))
    ]
    assert steps == [25, 5, 5, 5, 5, 5]


def test_the_table_has_means_differences_and_signs() -> None:
    better, worse = [0.6, 0.62], [0.3, 0.32]
    figures = {
        transfer.SINGLE: {"gaze min_L2": better, "gaze AUC": worse, "domain mAP": [0.5, 0.7]},
        transfer.JOINT: {"gaze min_L2": worse, "gaze AUC": better, "domain mAP": [0.6, 0.62]},
        "chance": {"gaze AUC": [0.5]},
    }
    figures = {group: {name: values.get(name, []) for name in PAPER_FIGURES} for group, values in figures.items()}
    lines = transfer.table(figures).splitlines()
    rows = {cells[0]: dict(zip(PAPER_FIGURES, cells[1:], strict=True)) for cells in map(cells_of, lines[:7])}
    assert rows["single-task"]["gaze min_L2"] == "0.610 ± 0.014"
    assert rows["joint - single"]["gaze min_L2"] == "-0.300" and rows["transfer"]["gaze min_L2"] == "+"
    assert rows["joint - single"]["gaze AUC"] == "+0.300" and rows["transfer"]["gaze AUC"] == "+"
    assert rows["transfer"]["domain mAP"] == "0" and rows["transfer"]["expression mAP"] == "–"
    assert rows["chance"]["gaze AUC"] == "0.500" and rows["chance"]["gaze min_L2"] == "–"


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]
