"""Unsmoothed answers on a video are recorded with its truth, by the robot's schedule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.smoothing import record
from calibration.smoothing.recordings import RecordingError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box, Frame, Person
from sf_ros.engines.base import Answer, Answers, Query
from sf_ros.perception.detectors.base import Detections
from sf_ros.perception.pipeline import Pipeline

FPS, COUNT = 10, 20
BODIES = Box(5, 5, 50, 90), Box(70, 5, 115, 90)
TRUE_IDS = 7, 5  # differ from the track ids, 1 and 2
FACES = Box(15, 8, 38, 35), Box(80, 8, 105, 35)
CONFIG = RuntimeConfig(budget_ms=record.EVERYTHING_MS)


class Detecting:
    """A detector of two people; the second one appears at 1 s."""

    def detect(self, frame: Frame) -> Detections:
        rows = (0, 1) if frame.stamp >= 1.0 else (0,)
        bodies = np.array([BODIES[row].as_tuple() for row in rows], float)
        return Detections(bodies, np.full(len(rows), 0.9), tuple((FACES[row], 0.9) for row in rows))


class Answering:
    """An engine that always answers the first label with certainty."""

    tasks = tuple(TASKS)

    def __init__(self) -> None:
        self.timings_ms = {"views": 0.0, "vision": 0.0, "llm": 0.0}

    def answer(self, image: np.ndarray, queries: Sequence[Query]) -> list[Answers]:
        return [{task: self._answer(task) for task in query.tasks} for query in queries]

    def _answer(self, task: str) -> Answer:
        if labels := TASKS[task].labels:
            return Answer(probabilities=np.eye(len(labels))[0])
        return Answer(heatmap=np.full((8, 8), 0.5))


def person(track_id: int, gesture: str | None, gaze: list[float] | None) -> dict:
    return {
        "track_id": TRUE_IDS[track_id - 1],
        "body": BODIES[track_id - 1].as_tuple(),
        "face": FACES[track_id - 1].as_tuple(),
        "gaze_point_norm": gaze,
        "looking_at_me": gaze is None,
        "expression": "happiness" if track_id == 1 else None,
        "gesture": gesture,
    }


def truth() -> dict:
    """The first person shows a palm for a second, then a fist; the second person no gesture."""
    frames = [
        {
            "people": [person(1, "palm" if n < 10 else "fist", [0.5, 0.5]), person(2, "none", None)],
            "relations": [[*TRUE_IDS, "intimate", "friends"]],
        }
        for n in range(COUNT)
    ]
    return {"fps": FPS, "frames": frames}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (128, 96))
    for shade in range(COUNT):
        writer.write(np.full((96, 128, 3), 10 * shade, np.uint8))
    writer.release()
    path.with_suffix(".json").write_text(json.dumps(truth()))
    return path


def test_every_due_query_is_recorded_with_its_truth(clip: Path) -> None:
    streams = record.record_clip(clip, record.read_truth(clip), Pipeline(Detecting(), Answering(), CONFIG))
    by_key = {(stream.task, stream.track_ids): stream for stream in streams}
    assert set(by_key) == {
        ("gaze", (1,)), ("looking_at_me", (1,)), ("looking_at_me", (2,)), ("expression", (1,)), ("gesture", (1,)),
        ("domain", (1, 2)), ("relation", (1, 2)),
    }  # fmt: skip
    gesture = by_key["gesture", (1,)]
    labels = [TASKS["gesture"].labels[index] for index in gesture.truth]
    assert labels == ["palm"] * 10 + ["fist"] * 10 and gesture.frames == pytest.approx(np.arange(COUNT) / FPS)
    assert gesture.queries == pytest.approx(np.arange(0, 2, CONFIG.cue("gesture").period_s))
    assert gesture.answers.shape == (7, len(TASKS["gesture"].labels)) and (gesture.answers[:, 0] == 1).all()
    assert by_key["gaze", (1,)].answers.shape == (7, 8, 8) and (by_key["gaze", (1,)].truth == 0.5).all()
    assert (by_key["looking_at_me", (2,)].truth == TASKS["looking_at_me"].labels.index("yes")).all()
    late = by_key["relation", (1, 2)]
    assert late.frames[0] == pytest.approx(1.1)  # the second frame of the second person
    assert late.truth.tolist() == [TASKS["relation"].labels.index("relation/friends")] * 9


def test_an_unmatched_person_has_no_truth() -> None:
    elsewhere = [Person(7, Box(60, 50, 128, 96), 0.9)]
    assert list(record.true_values(truth()["frames"][0], elsewhere)) == []


def test_an_unknown_label_is_refused() -> None:
    frame = {"people": [person(1, "wave", None)], "relations": []}
    with pytest.raises(RecordingError, match="'gesture' is 'wave'; expected one of"):
        list(record.true_values(frame, [Person(1, BODIES[0], 0.9)]))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert record.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_a_video_without_truth_is_refused_before_loading(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rest = ("--out", clip.parent / "out")
    clip.with_suffix(".json").write_text('{"frames": 3}')
    assert "not the ground truth of a video" in refusal(capsys, "bundle", clip, *rest)
    clip.with_suffix(".json").unlink()
    assert "no ground truth beside it" in refusal(capsys, "bundle", clip, *rest)
    assert not (clip.parent / "out").exists()


def test_a_video_longer_than_its_truth_is_refused(clip: Path) -> None:
    short = truth() | {"frames": truth()["frames"][:5]}
    with pytest.raises(RecordingError, match="more frames than its ground truth, which has 5"):
        record.record_clip(clip, short, Pipeline(Detecting(), Answering(), CONFIG))
