"""Tables of published figures beside this model's, with caveats."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sf_ros.core.cues import TASKS
from training.evaluation import published_results

RESULTS = {
    "gesture": {"metrics": {"mAP": 0.9876, "accuracy": 0.5}},
    "gaze": {"metrics": {"AUC": 0.9, "min_L2": 0.0651, "avg_L2": 0.2}},
}


def columns(split: str) -> dict[str, list[str]]:
    """Heading -> figures of the table."""
    _, *columns_ = published_results.table(RESULTS, split).columns
    return {str(column.header).replace("\n", ", "): [str(cell) for cell in column.cells] for column in columns_}


def test_figures_are_in_the_papers_units() -> None:
    blank = ["–"] * 4
    assert columns("val")["this run"] == ["98.8", "50.0", *blank, "0.065", "0.200", "90.0", "–", "–"]


def test_each_split_has_its_own_tables() -> None:
    assert set(columns("val")) == {"this run", "Table 1, joint", "Table 1, single tasks", "Table 8, DINOv2, joint"}
    assert set(columns("test")) == {"this run", "Table 7, joint", "Table 7, others' best"}
    assert columns("val")["Table 1, joint"][6:9] == ["0.065", "0.128", "94.0"]


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_table_fits_80_columns(split: str) -> None:
    console = Console(width=80, file=io.StringIO())
    console.print(published_results.table(RESULTS, split))
    text = console.file.getvalue()
    assert "…" not in text and all(column.title in text for column in published_results.COLUMNS)


@pytest.mark.parametrize("row", published_results.ROWS, ids=lambda row: row.name)
def test_every_row_covers_every_column(row: published_results.Row) -> None:
    assert len(row.figures) == len(published_results.COLUMNS)


def test_every_task_of_the_paper_has_a_column() -> None:
    assert {column.task for column in published_results.COLUMNS} == set(TASKS)


def test_caveats_are_of_the_tasks_and_the_split() -> None:
    text = "\n".join(published_results.caveats(RESULTS, "val"))
    assert "Avg L2" in text and "PISC" not in text and "hidden" not in text and "Inferred" in text
    assert "hidden" in "\n".join(published_results.caveats({"looking_at_me": {}}, "test"))


def test_every_table_covers_every_column() -> None:
    rows = [
        row
        for table in (published_results.TRANSFER, published_results.GAZE_LLE, published_results.ENCODERS)
        for pair in table.values()
        for row in pair
    ]
    assert all(
        len(row) == len(published_results.COLUMNS)
        for row in (*rows, *published_results.PAIRS.values(), published_results.DINOV2)
    )
    assert len(published_results.PAIRS) == 10 and all(len(pair) == 2 for pair in published_results.PAIRS)


def test_figures_by_name_are_in_our_units() -> None:
    # Table 2, Qwen2-VL before; Table 6, GazeFollow with PISC.
    assert published_results.by_name(published_results.GAZE_LLE["Qwen2-VL"][0]) == {
        "gaze min_L2": [0.076], "gaze avg_L2": [0.14], "gaze AUC": [0.938],
    }  # fmt: skip
    assert published_results.by_name(published_results.PAIRS[frozenset(("social_relation", "gaze"))]) == {
        "domain mAP": [0.928], "relation mAP": [0.839], "gaze min_L2": [0.067], "gaze avg_L2": [0.129],
        "gaze AUC": [0.936],
    }  # fmt: skip
