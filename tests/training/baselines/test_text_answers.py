"""Points and boxes as text: writing and reading are an inverse pair, and bad texts are arguments from good ones."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core.cues import TASKS
from sf_ros.core.prompts import load_prompts
from sf_ros.core.types import Box
from training.baselines.text_answers import GAZE_PROMPT, box_text, parse_point, point_text, prompt_text

PROMPTS = load_prompts(None)


def test_parsing_a_written_point_gives_its_cell_centre() -> None:
    for point in np.random.default_rng(0).random((200, 2)):
        read = parse_point(point_text(tuple(point)))
        assert read == pytest.approx(tuple(point), abs=0.5 / 1000 + 1e-9)
    assert point_text((0.0, 0.9999)) == "(0,999)" and point_text((0.5, 0.25)) == "(500,250)"


def test_points_beyond_the_edge_stay_on_the_grid() -> None:
    assert point_text((1.0, 1.2)) == "(999,999)" and point_text((-0.1, 0.0)) == "(0,0)"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("(12,345)", (12, 345)),
        (" ( 12 , 345 ) .", (12, 345)),
        ("12, 345", (12, 345)),
        ("(12 345", (12, 345)),
        ("The point is (7,8), or (9,10).", (7, 8)),
        ("(12.9,345.0)", (12, 345)),
        ("(1000,0)", (999, 0)),
        ("（500;500）", (500, 500)),
    ],
)
def test_points_are_parsed_in_various_formats(text: str, cell: tuple[int, int]) -> None:
    assert parse_point(text) == pytest.approx(((cell[0] + 0.5) / 1000, (cell[1] + 0.5) / 1000))


@pytest.mark.parametrize("text", ["", "(", "(,)", "(500,", "(500)", "left", "(1001,5)", "(-3,5)", "(5,12345)", "(a,b)"])
def test_texts_without_point_give_none(text: str) -> None:
    assert parse_point(text) is None


def test_a_box_is_two_corners_in_thousandths() -> None:
    assert box_text(Box(20, 10, 100, 60), 200, 100) == "(100,100),(500,600)"
    assert box_text(Box(-5, -5, 250, 100), 200, 100) == "(0,0),(999,999)"


@pytest.mark.parametrize("task", TASKS)
def test_prompts_follow_the_marked_boxes(task: str) -> None:
    spec, boxes = TASKS[task], (Box(20, 10, 100, 60), Box(100, 10, 150, 80))
    text = prompt_text(task, boxes[: max(spec.boxes, 1)], 200, 100, PROMPTS)
    assert text.endswith(PROMPTS[task] or GAZE_PROMPT)
    written = [box_text(box, 200, 100) for box in boxes]
    assert [part in text for part in written] == [spec.boxes > 0, spec.boxes > 1]
    if spec.boxes == 0:
        assert text == PROMPTS[task]


def test_custom_prompts_work_and_missing_boxes_fail() -> None:
    assert prompt_text("gaze", (Box(0, 0, 1, 1),), 2, 2, PROMPTS | {"gaze": "Where?"}).endswith("\nWhere?")
    with pytest.raises(ValueError, match="'relation' marks 2 boxes, found 1"):
        prompt_text("relation", (Box(0, 0, 1, 1),), 2, 2, PROMPTS)
