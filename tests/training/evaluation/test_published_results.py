"""The paper's figures stand beside a run's, in the paper's units and with what must be known to compare them."""

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
    """Of the table: heading -> figures from the top down."""
    _, *found = published_results.table(RESULTS, split).columns
    return {str(column.header).replace("\n", ", "): [str(cell) for cell in column.cells] for column in found}


def test_a_runs_figures_are_in_the_papers_units_and_what_was_not_asked_is_left_blank() -> None:
    blank = ["–"] * 4
    assert columns("val")["this run"] == ["98.8", "50.0", *blank, "0.065", "0.200", "90.0", "–", "–"]


def test_each_split_is_beside_the_tables_that_are_of_it() -> None:
    assert set(columns("val")) == {"this run", "Table 1, joint", "Table 1, single tasks", "Table 8, DINOv2, joint"}
    assert set(columns("test")) == {"this run", "Table 7, joint", "Table 7, others' best"}
    assert columns("val")["Table 1, joint"][6:9] == ["0.065", "0.128", "94.0"]


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_terminal_of_80_columns_shows_every_figure(split: str) -> None:
    console = Console(width=80, file=io.StringIO())
    console.print(published_results.table(RESULTS, split))
    shown = console.file.getvalue()
    assert "…" not in shown and all(column.title in shown for column in published_results.COLUMNS)


@pytest.mark.parametrize("row", published_results.ROWS, ids=lambda row: row.name)
def test_every_row_has_a_figure_or_a_gap_for_every_column(row: published_results.Row) -> None:
    assert len(row.figures) == len(published_results.COLUMNS)


def test_every_question_has_a_column() -> None:
    assert {column.task for column in published_results.COLUMNS} == set(TASKS)


def test_caveats_are_those_of_the_questions_and_the_split() -> None:
    told = "\n".join(published_results.caveats(RESULTS, "val"))
    assert "Avg L2" in told and "PISC" not in told and "hidden" not in told and "inferred" in told
    assert "hidden" in "\n".join(published_results.caveats({"looking_at_me": {}}, "test"))


def test_the_studies_tables_have_a_figure_or_a_gap_for_every_column() -> None:
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


def test_a_row_by_name_is_in_our_units_without_what_the_paper_leaves_out() -> None:
    # Table 2, Qwen2-VL before; Table 6, GazeFollow with PISC.
    assert published_results.by_name(published_results.GAZE_LLE["Qwen2-VL"][0]) == {
        "gaze min_L2": [0.076], "gaze avg_L2": [0.14], "gaze AUC": [0.938],
    }  # fmt: skip
    assert published_results.by_name(published_results.PAIRS[frozenset(("social_relation", "gaze"))]) == {
        "domain mAP": [0.928], "relation mAP": [0.839], "gaze min_L2": [0.067], "gaze avg_L2": [0.129],
        "gaze AUC": [0.936],
    }  # fmt: skip
