"""The methods give the same answers, and whole frames are timed as the robot runs them."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from export.benchmark import crowd, measure
from export.benchmark.measure import STAGES, overhead_ms
from export.benchmark.methods import METHODS, answers_differ_by
from sf_ros.core import bundle as bundles
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUE_OF, TASKS
from sf_ros.core.types import Frame
from sf_ros.engines.base import Answer, Answers, Query
from sf_ros.engines.fused.batches import Batch
from sf_ros.engines.fused.engine import FusedEngine
from sf_ros.engines.fused.vision import VisualTokens
from sf_ros.perception.detectors.base import Detections

IMAGE = np.random.default_rng(1).integers(0, 256, (crowd.HEIGHT, crowd.WIDTH, 3), np.uint8)


@pytest.fixture(scope="module")
def engine(smoke_bundle: Path) -> FusedEngine:
    return FusedEngine(bundles.load(smoke_bundle), RuntimeConfig(device="cpu", threads=1))


@pytest.mark.parametrize("people", [1, 3])
def test_methods_give_the_same_answers(engine: FusedEngine, people: int) -> None:
    queries = crowd.queries(people)
    ours = METHODS["ours"](engine).answer(IMAGE, queries)
    for name in ("eager", "once", "naive"):
        answers = METHODS[name](engine).answer(IMAGE, queries)
        assert [set(of_query) for of_query in answers] == [set(query.tasks) for query in queries]
        assert answers_differ_by(ours, answers) < 1e-4, name


@pytest.mark.parametrize(("method", "encoder_runs", "llm_runs"), [("ours", 1, 4), ("once", 1, 10), ("naive", 10, 10)])
def test_methods_differ_in_their_batches(
    method: str, encoder_runs: int, llm_runs: int, engine: FusedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, answer = engine.vision.encode, engine.answer_model.answer
    runs: collections.Counter[str] = collections.Counter()

    def counting_encode(images: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        runs["encoder"] += 1
        return encode(images)

    def counting_answer(batches: Sequence[Batch], visual: VisualTokens) -> list[list[torch.Tensor]]:
        runs["llm"] += len(batches)
        return answer(batches, visual)

    monkeypatch.setattr(engine.vision, "encode", counting_encode)
    monkeypatch.setattr(engine.answer_model, "answer", counting_answer)
    other = METHODS[method](engine)
    other.answer(IMAGE, crowd.queries(2))
    assert runs == {"encoder": encoder_runs, "llm": llm_runs}
    assert set(other.timings_ms) == {"views", "vision", "llm"} and min(other.timings_ms.values()) >= 0


def test_the_largest_difference_counts() -> None:
    expected = [{"domain": Answer(probabilities=np.array([0.5, 0.5]))}, {"gaze": Answer(heatmap=np.zeros((2, 2)))}]
    answers = [{"domain": Answer(probabilities=np.array([0.4, 0.6]))}, {"gaze": Answer(heatmap=np.eye(2) * 0.3)}]
    assert answers_differ_by(expected, answers) == pytest.approx(0.3)


class Instant:
    """An engine and a detector that take no time. Counts the tasks of its queries."""

    def __init__(self) -> None:
        self.tasks = tuple(TASKS)
        self.timings_ms = dict.fromkeys(("views", "vision", "llm"), 0.0)
        self.frames: list[int] = []
        self.counts: collections.Counter[str] = collections.Counter()

    def answer(self, image: np.ndarray, queries: Sequence[Query]) -> list[Answers]:
        tasks = [query.tasks for query in queries]
        self.frames.append(sum(map(len, tasks)))
        for of_query in tasks:
            self.counts.update(of_query)
        return [{task: self._answer(task) for task in of_query} for of_query in tasks]

    def _answer(self, task: str) -> Answer:
        labels = len(TASKS[task].labels)
        if not labels:
            return Answer(heatmap=np.eye(4, dtype=np.float32))
        return Answer(probabilities=np.full(labels, 1 / labels, np.float32))

    def detect(self, frame: Frame) -> Detections:
        return crowd.detections(1)  # replaced by the whole crowd


def test_single_frames_run_all_tasks_and_a_stream_those_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_stages", lambda *timings: dict.fromkeys(STAGES, 0.0))
    single, stream = Instant(), Instant()
    all_tasks = collections.Counter(task for query in crowd.queries(3) for task in query.tasks)
    measure.whole_frames(single, single, 3, 4, 0)
    assert single.frames == [all_tasks.total()] * 4
    measure.whole_frames(stream, stream, 3, 60, 0, scheduled=True)  # four seconds of a camera
    for task, subjects in all_tasks.items():
        period = RuntimeConfig().cue(CUE_OF[task]).period_s
        assert 0.6 * 4 / period < stream.counts[task] / subjects <= 1.5 * 4 / period, task  # some join early


def test_stages_add_up_to_the_frame() -> None:
    timings = {"detect": 30.0, "track": 1.0, "schedule": 2.0, "views": 3.0, "vision": 40.0, "llm": 50.0}
    timings |= {"answer": 95.0, "smooth": 4.0, "total": 135.0}
    stages = measure._stages(timings, 7.0, 5.0)
    assert tuple(stages) == STAGES
    assert stages["answers"] == 2 and stages["schedule"] == 5  # 3 ms of the total are the scheduler's report
    assert sum(stages.values()) == 135 + 7 + 5
    assert overhead_ms(stages) == 1 + 5 + 3 + 2 + 4 + 5  # all but decode, detect, vision and llm
