"""FrameCues as plain JSON values: `to_json` and `from_json` are inverses, up to rounding.

Heatmaps and the uncertainty of gaze in space are left out.

index, stamp (s), frame_id, width, height (px)
people: track_id, score, body [x1, y1, x2, y2] (px), face (the same, or null), face_score, and for every task about a
    person its value, or null:
    gaze: point_norm [x, y] (0..1), confidence, age_s, target_id (track id, or null)
    other tasks: label, confidence, age_s, probabilities (in the order of the task's labels)
    gaze_3d, only where the camera is calibrated: ray, head, target (m, camera's optical frame), each or null
relations: track_ids [a, b], and for every task about a pair its value (as above) or null
timings_ms: stage -> milliseconds
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sf_ros.core.cues import Task, tasks_of
from sf_ros.core.types import Box, CueValue, FrameCues, Gaze, Gaze3D, Label, PairCues, Person, PersonCues

DECIMALS = 4  # of scores, ages and normalised points
DECIMALS_PX = 2
_VECTORS = ("ray", "head", "target")


def to_json(cues: FrameCues) -> dict[str, Any]:
    """Dictionaries, lists, numbers and strings of one frame."""
    return {
        "index": cues.index,
        "stamp": float(cues.stamp),
        "frame_id": cues.frame_id,
        "width": cues.width,
        "height": cues.height,
        "people": [_person(person) for person in cues.people],
        "relations": [
            {"track_ids": [int(t) for t in pair.track_ids]}
            | {task.name: _value(pair.label(task.name)) for task in tasks_of("pair")}
            for pair in cues.pairs
        ],
        "timings_ms": {name: round(float(value), 3) for name, value in cues.timings_ms.items()},
    }


def from_json(data: dict[str, Any]) -> FrameCues:
    """The frame that `to_json` was given; KeyError, TypeError or ValueError for anything else."""
    return FrameCues(
        stamp=data["stamp"],
        index=data["index"],
        width=data["width"],
        height=data["height"],
        people=tuple(_read_person(person) for person in data["people"]),
        pairs=tuple(_read_pair(pair) for pair in data["relations"]),
        timings_ms=data["timings_ms"],
        frame_id=data["frame_id"],
    )


def _person(cues: PersonCues) -> dict[str, Any]:
    person = cues.person
    return {
        "track_id": int(person.track_id),
        "score": _round(person.score),
        "body": _box(person.body),
        "face": None if person.face is None else _box(person.face),
        "face_score": _round(person.face_score),
        **{task.name: _value(cues.values.get(task.name)) for task in tasks_of("person")},
        **({} if cues.gaze_3d is None else {"gaze_3d": _gaze_3d(cues.gaze_3d)}),
    }


def _read_person(data: dict[str, Any]) -> PersonCues:
    face = None if data["face"] is None else Box(*data["face"])
    values = {task.name: _read_value(task, data[task.name]) for task in tasks_of("person") if data.get(task.name)}
    gaze_3d = data.get("gaze_3d")
    return PersonCues(
        Person(data["track_id"], Box(*data["body"]), data["score"], face, data["face_score"]),
        values,
        None if gaze_3d is None else _read_gaze_3d(gaze_3d),
    )


def _read_pair(data: dict[str, Any]) -> PairCues:
    first, second = data["track_ids"]
    return PairCues(
        (first, second),
        {task.name: _read_label(data[task.name]) for task in tasks_of("pair") if data.get(task.name)},
    )


def _value(value: CueValue | None) -> dict[str, Any] | None:
    if isinstance(value, Gaze):
        return {
            "point_norm": [_round(v) for v in value.point_norm],
            "confidence": _round(value.confidence),
            "age_s": _round(value.age_s),
            "target_id": None if value.target_id is None else int(value.target_id),
        }
    if isinstance(value, Label):
        return {
            "label": value.name,
            "confidence": _round(value.confidence),
            "age_s": _round(value.age_s),
            "probabilities": [_round(v) for v in value.probabilities],
        }
    return None


def _read_value(task: Task, data: dict[str, Any]) -> CueValue:
    if task.kind == "label":
        return _read_label(data)
    x, y = data["point_norm"]
    return Gaze((x, y), data["confidence"], age_s=data["age_s"], target_id=data["target_id"])


def _read_label(data: dict[str, Any]) -> Label:
    return Label(data["label"], data["confidence"], tuple(data["probabilities"]), data["age_s"])


def _gaze_3d(gaze: Gaze3D) -> dict[str, Any]:
    return {name: None if (v := getattr(gaze, name)) is None else [_round(x) for x in v] for name in _VECTORS}


def _read_gaze_3d(data: dict[str, Any]) -> Gaze3D:
    ray, head, target = (None if data[name] is None else np.array(data[name]) for name in _VECTORS)
    return Gaze3D(ray, head=head, target=target)


def _box(box: Box) -> list[float]:
    return [round(float(value), DECIMALS_PX) for value in box.as_tuple()]


def _round(value: float) -> float:
    return round(float(value), DECIMALS)
