"""How far answers move in a precision is measured against float32, and told by the exit status."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from export.benchmark.precision import holds, main, moved
from sf_ros.core.cues import TASKS
from sf_ros.engines.base import Answer, Question


class Same:
    """The same answer to everything, moved by so much; it remembers what it was asked."""

    def __init__(self, by: float) -> None:
        self.by, self.asked = by, list[list[str]]()

    def answer(self, image: np.ndarray, questions: Sequence[Question]) -> list[Answer]:
        self.asked.append([question.task for question in questions])
        return [self._one(question.task) for question in questions]

    def _one(self, task: str) -> Answer:
        if TASKS[task].kind == "heatmap":
            heatmap = np.zeros((4, 4), np.float32)
            heatmap[1, 2], heatmap[3, 0] = 0.5, 0.4 + self.by
            return Answer(heatmap=heatmap)
        probabilities = np.zeros(len(TASKS[task].labels), np.float32)
        probabilities[:2] = 0.6 + self.by, 0.4 - self.by
        return Answer(probabilities=probabilities)


def test_packed_answers_are_compared_with_those_to_single_questions() -> None:
    engine, exact = Same(0.01), Same(0.0)
    found = moved(engine, exact, list(TASKS), samples=2)  # type: ignore[arg-type]
    assert list(found) == list(TASKS) and all(one["samples"] == 2 for one in found.values())
    assert all(one["max_difference"] == pytest.approx(0.01, abs=1e-6) for one in found.values())
    assert all(one["same_winner"] == 1 for one in found.values())
    assert all(len(asked) == 1 for asked in exact.asked)
    assert (
        ["domain", "relation"] in engine.asked and ["relation", "domain"] in engine.asked and ["gaze"] in engine.asked
    )
    assert holds(found, "bfloat16") and not holds(found, "float32")


def test_another_cell_of_a_heatmap_is_another_winner() -> None:
    found = moved(Same(0.2), Same(0.0), ["gaze"], samples=1)  # type: ignore[arg-type]
    assert found["gaze"]["same_winner"] == 0
    assert not holds(found, "bfloat16")


@pytest.mark.parametrize(
    ("difference", "same", "held"),
    [(0.02, 0.99, True), (0.021, 1.0, False), (0.001, 0.989, False), (np.nan, 1.0, False)],
)
def test_what_may_move(difference: float, same: float, held: bool) -> None:
    fine = {"samples": 1, "max_difference": 0.0, "same_winner": 1.0}
    found = {"gesture": fine, "gaze": fine | {"max_difference": difference, "same_winner": same}}
    assert holds(found, "bfloat16") is holds(found, "float16") is held


def test_float32_moves_by_rounding_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["float32", "--samples", "2", "--tasks", "gaze", "domain", "--device", "cpu"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["precision"] == "float32" and result["holds"] is True
    assert {task: one["samples"] for task, one in result["questions"].items()} == {"gaze": 2, "domain": 2}


def test_what_moves_by_too_much_ends_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.benchmark.precision.LARGEST", {"float16": 1e-9})
    assert main(["float16", "--samples", "1", "--tasks", "gesture", "--device", "cpu"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["holds"] is False


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tasks", "gaze", "mood"], "--tasks has mood; expected some of gesture, gaze"),
        (["--samples", "0"], "expected one question and one sample or more"),
        (["--bundle", "nowhere"], "nowhere"),
        (["--vision", "onnx-gpu"], "onnx-gpu"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["float32", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1
