"""FrameCues survive JSON, for every task of the table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sf_ros.core.cues import CUE_OF, CUES, TASKS, Task, cues_of
from sf_ros.core.types import Box, CueValue, FrameCues, Gaze, Gaze3D, Label, PairCues, Person, PersonCues
from sf_ros.io.cues_json import from_json, to_json

ANN, BEN = Person(1, Box(10, 20, 60, 119.5), 0.9, Box(25, 22, 45, 46), 0.8), Person(2, Box(90, 20, 150, 118), 0.5)


def value_of(task: Task) -> CueValue:
    if task.kind == "heatmap":
        return Gaze((0.25, 0.75), 0.5, age_s=0.1, target_id=2)
    probabilities = tuple(0.5 if i == 1 else 0.5 / (len(task.labels) - 1) for i in range(len(task.labels)))
    return Label(task.labels[1], 0.5, tuple(round(p, 4) for p in probabilities), 0.1)


def frame(*tasks: str, gaze_3d: Gaze3D | None = None) -> FrameCues:
    """A frame with values of some tasks, about Ann, or Ann and Ben."""
    values = {task: value_of(TASKS[task]) for task in tasks}
    of = {subject: {t: v for t, v in values.items() if CUES[CUE_OF[t]].subject == subject} for subject in SUBJECTS}
    people = PersonCues(ANN, of["person"], gaze_3d), PersonCues(BEN)
    labels = {task: value for task, value in of["pair"].items() if isinstance(value, Label)}
    return FrameCues(12.5, 3, 160, 120, people, (PairCues((1, 2), labels),), {"detect": 1.5}, "eye")


SUBJECTS = ("person", "pair")


def through_json(cues: FrameCues) -> FrameCues:
    return from_json(json.loads(json.dumps(to_json(cues), allow_nan=False)))


@pytest.mark.parametrize("task", TASKS)
def test_every_task_survives_json(task: str) -> None:
    assert through_json(frame(task)) == frame(task)


def test_a_frame_of_all_tasks_survives_json() -> None:
    assert through_json(frame(*TASKS)) == frame(*TASKS)


def test_a_missing_value_is_null_and_read_as_missing() -> None:
    data = to_json(frame())
    tasks = {subject: {task for cue in cues_of(subject) for task in cue.tasks} for subject in SUBJECTS}
    assert {key for key, value in data["people"][0].items() if value is None} == tasks["person"]
    assert {key for key, value in data["relations"][0].items() if value is None} == tasks["pair"]
    assert through_json(frame()) == frame()


def test_a_recording_from_before_a_task_can_be_read() -> None:
    data = to_json(frame(*TASKS))
    del data["people"][0]["gesture"], data["relations"][0]["domain"]
    assert from_json(data) == frame(*(task for task in TASKS if task not in ("gesture", "domain")))


@pytest.mark.parametrize(
    "vectors",
    [
        {"ray": (0.6, 0.0, 0.8), "head": (0.5, -0.25, 2.0), "target": (1.2, 0.0, 1.6)},
        {"ray": (0.6, 0.0, 0.8), "head": None, "target": None},
        {"ray": None, "head": (0.5, -0.25, 2.0), "target": None},
    ],
    ids=["target", "ray", "looking"],
)
def test_gaze_in_space_survives_json_without_its_uncertainty(vectors: dict) -> None:
    arrays = {name: None if vector is None else np.array(vector) for name, vector in vectors.items()}
    data = to_json(frame("gaze", gaze_3d=Gaze3D(**arrays, ray_sigma_rad=0.02, covariance=np.eye(3))))
    expected = {name: None if vector is None else list(vector) for name, vector in vectors.items()}
    assert data["people"][0]["gaze_3d"] == expected and "gaze_3d" not in data["people"][1]
    gaze_3d = from_json(data).people[0].gaze_3d
    assert gaze_3d is not None and gaze_3d.covariance is None
    for name, vector in expected.items():
        read = getattr(gaze_3d, name)
        assert (None if read is None else read.tolist()) == vector


def test_numbers_are_rounded_and_plain() -> None:
    label = Label("ok", np.float32(2 / 3), (np.float32(2 / 3), 1 / 3), 0.123456)
    person = Person(np.int64(1), Box(10.123, 20, 60, 119), 0.9)  # type: ignore[arg-type]
    data = to_json(FrameCues(0.0, 0, 160, 120, (PersonCues(person, {"gesture": label}),)))
    gesture = {"label": "ok", "confidence": 0.6667, "age_s": 0.1235, "probabilities": [0.6667, 0.3333]}
    assert json.loads(json.dumps(data))["people"][0]["gesture"] == gesture
    assert data["people"][0]["body"] == [10.12, 20.0, 60.0, 119.0]


@pytest.mark.parametrize("key", ["stamp", "people", "relations", "frame_id"])
def test_a_frame_without_a_field_is_a_key_error(key: str) -> None:
    data = to_json(frame())
    del data[key]
    with pytest.raises(KeyError, match=key):
        from_json(data)
