"""Tiles show truth, answer and whether they agree; a folder gets one sheet of tiles per task."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sf_ros.core.cues import TASKS
from sf_ros.core.gaze import encode
from sf_ros.core.types import Box
from sf_ros.engines.base import Answer
from tests.training import published
from training.data.sample import Sample
from training.studies import gallery

GREY = np.full((90, 120, 3), 128, np.uint8)


def labelled(task: str, label: int | None, best: int) -> tuple[Sample, Answer]:
    count = len(TASKS[task].labels)
    probabilities = np.full(count, 0.2 / (count - 1))
    probabilities[best] = 0.8
    boxes = (Box(10, 10, 60, 80), Box(50, 20, 110, 80))[: max(1, TASKS[task].boxes)]
    return Sample(task, GREY, boxes, label), Answer(probabilities=probabilities)


def gazing(truth: tuple[tuple[float, float], ...], answered: tuple[float, float]) -> tuple[Sample, Answer]:
    return Sample("gaze", GREY, (Box(10, 10, 40, 40),), points_norm=truth), Answer(heatmap=encode(answered, 64, 3.0))


def test_lines_name_truth_and_answer_with_probability() -> None:
    labels = TASKS["relation"].labels
    lines, right = gallery.label_lines(*labelled("relation", labels.index("relation/family"), 0))
    assert lines == ["truth family 0.04", f"answer {gallery.words(labels[0])} 0.80"] and right is False
    lines, right = gallery.label_lines(*labelled("relation", 0, 0))
    assert lines[0] == f"truth {gallery.words(labels[0])}" and right is True
    assert gallery.label_lines(*labelled("relation", None, 0))[1] is None


@pytest.mark.parametrize("task", TASKS)
def test_tiles_have_one_size_and_the_verdicts_colour(task: str) -> None:
    if task == "gaze":
        good, bad = gazing(((0.7, 0.7),), (0.72, 0.7)), gazing(((0.7, 0.7),), (0.2, 0.9))
    else:
        good, bad = labelled(task, 1, 1), labelled(task, 1, 0)
    (right, is_right), (wrong, is_wrong) = gallery.tile(*good), gallery.tile(*bad)
    assert right.shape == wrong.shape and (is_right, is_wrong) == (True, False)
    strip = gallery.VIEW_SIZE[TASKS[task].view][1] + 1
    assert tuple(right[strip, 5]) == gallery.RIGHT and tuple(wrong[strip, 5]) == gallery.WRONG


def test_gaze_marks_truth_answer_and_heatmap() -> None:
    image = np.full((300, 400, 3), 128, np.uint8)
    sample, answer = gazing(((0.25, 0.5), (0.25, 0.8)), (0.75, 0.5))
    assert answer.heatmap is not None
    lines, right = gallery.draw_gaze(image, [], sample, answer.heatmap)
    assert [tuple(image[y, 100]) for y in (150, 240)] == [gallery.TRUTH] * 2
    column, row = gallery.pixel((48.5 / 64, 32.5 / 64), image)
    assert tuple(image[row, column]) == gallery.ANSWERED
    tinted = np.abs(image.astype(int) - 128).sum(2)
    assert tinted[row, column + 14] > 60 > tinted[20, 20]
    assert right is False and lines[1].startswith("off by 0.500")


def test_a_sheet_has_a_title_and_all_tiles() -> None:
    tiles = [np.full((20, 30, 3), 40 * (n + 1), np.uint8) for n in range(5)]
    sheet = gallery.contact_sheet(tiles, 2, "title")
    for number in range(5):
        row, column = divmod(number, 2)
        y = gallery.TITLE_PX + gallery.PAD_PX + row * (20 + gallery.PAD_PX)
        x = gallery.PAD_PX + column * (30 + gallery.PAD_PX)
        assert (sheet[y : y + 20, x : x + 30] == 40 * (number + 1)).all()
    assert sheet.shape[1] == 2 * 38 + 8 and (sheet[: gallery.TITLE_PX] != gallery.BACKGROUND).any()


def test_long_text_is_scaled_to_fit() -> None:
    image = np.zeros((40, 100, 3), np.uint8)
    gallery.write(image, "a very long line of text indeed, longer than the image", (4, 20), (255, 255, 255))
    assert image.any() and not image[:, -1].any()


def test_published_data_gives_a_sheet_per_task(smoke_run: Path, tmp_path: Path) -> None:
    root = published.everything(tmp_path / "data")
    arguments = gallery.Arguments(
        smoke_run / "checkpoint", str(root), tmp_path / "out", samples=3, columns=2, tasks="gaze,looking_at_me,domain"
    )
    result = gallery.run(arguments)
    assert result["right"]["looking_at_me"] is None and result["right"]["gaze"] is not None  # its labels are hidden
    for task, path in result["sheets"].items():
        assert path == str(tmp_path / "out" / f"{task}.png") and cv2.imread(path).std() > 5
