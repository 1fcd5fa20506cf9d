"""How far a precision moves answers, and the exit status that tells whether it is too far."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from export.benchmark.precision import differences, main, within_limits
from sf_ros.core.cues import TASKS
from sf_ros.engines.base import Answer, Answers, Query


class Constant:
    """The same answers to every query, offset by a constant. Records the tasks of its queries."""

    def __init__(self, offset: float) -> None:
        self.offset, self.queries = offset, list[tuple[str, ...]]()
        self.tasks, self.timings_ms = tuple(TASKS), dict[str, float]()

    def answer(self, image: np.ndarray, queries: Sequence[Query]) -> list[Answers]:
        self.queries += [query.tasks for query in queries]
        return [{task: self._answer(task) for task in query.tasks} for query in queries]

    def _answer(self, task: str) -> Answer:
        if TASKS[task].kind == "heatmap":
            heatmap = np.zeros((4, 4), np.float32)
            heatmap[1, 2], heatmap[3, 0] = 0.5, 0.4 + self.offset
            return Answer(heatmap=heatmap)
        probabilities = np.zeros(len(TASKS[task].labels), np.float32)
        probabilities[:2] = 0.6 + self.offset, 0.4 - self.offset
        return Answer(probabilities=probabilities)


def test_batched_answers_are_compared_with_single_ones() -> None:
    engine, exact = Constant(0.01), Constant(0.0)
    results = differences(engine, exact, list(TASKS), samples=2)
    assert list(results) == list(TASKS) and all(result["samples"] == 2 for result in results.values())
    assert all(result["max_difference"] == pytest.approx(0.01, abs=1e-6) for result in results.values())
    assert all(result["same_winner"] == 1 for result in results.values())
    assert all(len(tasks) == 1 for tasks in exact.queries)
    assert {("domain", "relation"), ("relation", "domain"), ("gaze",)} <= set(engine.queries)
    assert within_limits(results, "bfloat16") and not within_limits(results, "float32")


def test_another_heatmap_cell_is_another_winner() -> None:
    results = differences(Constant(0.2), Constant(0.0), ["gaze"], samples=1)
    assert results["gaze"]["same_winner"] == 0
    assert not within_limits(results, "bfloat16")


@pytest.mark.parametrize(
    ("difference", "same", "passes"),
    [(0.02, 0.99, True), (0.021, 1.0, False), (0.001, 0.989, False), (np.nan, 1.0, False)],
)
def test_limits(difference: float, same: float, passes: bool) -> None:
    equal = {"samples": 1, "max_difference": 0.0, "same_winner": 1.0}
    results = {"gesture": equal, "gaze": equal | {"max_difference": difference, "same_winner": same}}
    assert within_limits(results, "bfloat16") is within_limits(results, "float16") is passes


def test_float32_moves_answers_by_rounding_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["float32", "--samples", "2", "--tasks", "gaze", "domain", "--device", "cpu"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert result["precision"] == "float32" and result["holds"] is True
    assert {task: one["samples"] for task, one in result["tasks"].items()} == {"gaze": 2, "domain": 2}


def test_too_large_a_difference_exits_with_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.benchmark.precision.MAX_DIFFERENCE", {"float16": 1e-9})
    assert main(["float16", "--samples", "1", "--tasks", "gesture", "--device", "cpu"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["holds"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tasks", "gaze", "gestur"], "Did you mean 'gesture'"),
        (["--samples", "0"], "--samples 0: expected 1 or more"),
        (["--bundle", "nowhere"], "nowhere"),
        (["--vision", "onnx-gpu"], "onnx-gpu"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["float32", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and words in error and error.count("\n") == 1
