"""Single looks at a video are stored with its truth, by the robot's own schedule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from calibration.camera.streams import StreamsError
from calibration.smoothing import record
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box, Frame, Person
from sf_ros.engines.base import Answer, Question

FPS, COUNT = 10, 20
BODIES = Box(5, 5, 50, 90), Box(70, 5, 115, 90)
FACES = Box(15, 8, 38, 35), Box(80, 8, 105, 35)
CONFIG = RuntimeConfig(budget_ms=record.EVERYTHING_MS)


class Seeing:
    """A detector that sees the two, the other way round than the truth counts them; the second one from 1 s on."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    def track(self, frame: Frame) -> tuple[Person, ...]:
        people = (Person(2, BODIES[0], 0.9, FACES[0], 0.9), Person(1, BODIES[1], 0.9, FACES[1], 0.9))
        return people if frame.stamp >= 1.0 else people[:1]

    def reset(self) -> None:
        pass


class Answering:
    """An engine that says the first label of everything, surely."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    def answer(self, image: np.ndarray, questions: Sequence[Question]) -> list[Answer]:
        return [
            Answer(heatmap=np.full((8, 8), 0.5)) if question.task == "gaze" else
            Answer(probabilities=np.eye(len(TASKS[question.task].labels))[0])
            for question in questions
        ]  # fmt: skip


def person(track_id: int, gesture: str | None, look: list[float] | None) -> dict:
    body, face = BODIES[track_id - 1].as_tuple(), FACES[track_id - 1].as_tuple()
    return {"track_id": track_id, "body": body, "face": face, "gaze_point_norm": look, "looking_at_me": look is None,
            "expression": "happiness" if track_id == 1 else None, "gesture": gesture}  # fmt: skip


def truth() -> dict:
    """The first person shows a palm for a second, then a fist; the second one nothing."""
    frames = [
        {
            "people": [person(1, "palm" if n < 10 else "fist", [0.5, 0.5]), person(2, "none", None)],
            "relations": [[1, 2, "intimate", "friends"]],
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


def test_every_question_that_is_due_is_stored_with_its_truth(clip: Path) -> None:
    found = record.record(clip, record.read_truth(clip), Seeing(), Answering(), CONFIG)
    by_key = {(one.task, one.track_ids): one for one in found}
    assert set(by_key) == {
        ("gaze", (2,)), ("looking_at_me", (1,)), ("looking_at_me", (2,)), ("expression", (2,)), ("gesture", (2,)),
        ("domain", (1, 2)), ("relation", (1, 2)),
    }  # fmt: skip
    gesture = by_key["gesture", (2,)]
    labels = [TASKS["gesture"].labels[index] for index in gesture.truth]
    assert labels == ["palm"] * 10 + ["fist"] * 10 and gesture.frames == pytest.approx(np.arange(COUNT) / FPS)
    assert gesture.looks == pytest.approx(np.arange(0, 2, CONFIG.gesture.period_s)), "at the cue's own period"
    assert gesture.answers.shape == (7, len(TASKS["gesture"].labels)) and (gesture.answers[:, 0] == 1).all()
    assert by_key["gaze", (2,)].answers.shape == (7, 8, 8) and (by_key["gaze", (2,)].truth == 0.5).all()
    assert (by_key["looking_at_me", (1,)].truth == TASKS["looking_at_me"].labels.index("yes")).all()
    late = by_key["relation", (1, 2)]
    assert late.frames[0] == pytest.approx(1.0), "before the second one was seen there was no pair"
    assert late.truth.tolist() == [TASKS["relation"].labels.index("relation/friends")] * 10


def test_a_person_who_is_somewhere_else_has_no_truth() -> None:
    elsewhere = [Person(7, Box(60, 50, 128, 96), 0.9)]
    assert list(record.true_values(truth()["frames"][0], elsewhere)) == []


def test_a_label_that_does_not_exist_is_told() -> None:
    frame = {"people": [person(1, "wave", None)], "relations": []}
    with pytest.raises(StreamsError, match="'gesture' says 'wave'; expected one of"):
        list(record.true_values(frame, [Person(1, BODIES[0], 0.9)]))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert record.main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_a_video_without_its_truth_is_told_before_anything_is_loaded(
    clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ("--out", clip.parent / "out")
    clip.with_suffix(".json").write_text('{"frames": 3}')
    assert "not the truth of a video" in refusal(capsys, "bundle", clip, *rest)
    clip.with_suffix(".json").unlink()
    assert "no truth beside it" in refusal(capsys, "bundle", clip, *rest)
    assert not (clip.parent / "out").exists()


def test_a_video_longer_than_its_truth_is_told(clip: Path) -> None:
    short = truth() | {"frames": truth()["frames"][:5]}
    with pytest.raises(StreamsError, match="more frames than its truth, 5"):
        record.record(clip, short, Seeing(), Answering(), CONFIG)
