"""FrameCues as plain JSON values: `to_json` and `from_json` are an inverse pair, up to rounding and without heatmaps.

index, stamp (s), frame_id, width, height (px)
people: track_id, score, body [x1, y1, x2, y2] (px), face (the same, or null), face_score, and these, or null:
    gaze: point_norm [x, y] (0..1), confidence, age_s, target_id (track id, or null)
    looking_at_me, expression, gesture: label, confidence, age_s, probabilities (in the order of TASKS' labels)
relations: track_ids [a, b], domain, relation (each as above, or null)
timings_ms: stage -> milliseconds
"""

from __future__ import annotations

from typing import Any

from sf_ros.core.types import Box, FrameCues, Gaze, Label, Person, PersonCues, Relation

DECIMALS = 4  # of scores, ages and normalised points
DECIMALS_PX = 2


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
            {"track_ids": [int(t) for t in r.track_ids], "domain": _label(r.domain), "relation": _label(r.relation)}
            for r in cues.relations
        ],
        "timings_ms": {name: round(float(value), 3) for name, value in cues.timings_ms.items()},
    }


def from_json(data: dict[str, Any]) -> FrameCues:
    """The frame `to_json` was given; KeyError, TypeError or ValueError where `data` is something else."""
    return FrameCues(
        stamp=data["stamp"],
        index=data["index"],
        width=data["width"],
        height=data["height"],
        people=tuple(_read_person(person) for person in data["people"]),
        relations=tuple(
            Relation((r["track_ids"][0], r["track_ids"][1]), _read_label(r["domain"]), _read_label(r["relation"]))
            for r in data["relations"]
        ),
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
        "gaze": None if cues.gaze is None else _gaze(cues.gaze),
        "looking_at_me": _label(cues.looking_at_me),
        "expression": _label(cues.expression),
        "gesture": _label(cues.gesture),
    }


def _read_person(data: dict[str, Any]) -> PersonCues:
    face = None if data["face"] is None else Box(*data["face"])
    return PersonCues(
        Person(data["track_id"], Box(*data["body"]), data["score"], face, data["face_score"]),
        gaze=None if data["gaze"] is None else _read_gaze(data["gaze"]),
        looking_at_me=_read_label(data["looking_at_me"]),
        expression=_read_label(data["expression"]),
        gesture=_read_label(data["gesture"]),
    )


def _gaze(gaze: Gaze) -> dict[str, Any]:
    return {
        "point_norm": [_round(value) for value in gaze.point_norm],
        "confidence": _round(gaze.confidence),
        "age_s": _round(gaze.age_s),
        "target_id": None if gaze.target_id is None else int(gaze.target_id),
    }


def _read_gaze(data: dict[str, Any]) -> Gaze:
    x, y = data["point_norm"]
    return Gaze((x, y), data["confidence"], age_s=data["age_s"], target_id=data["target_id"])


def _label(label: Label | None) -> dict[str, Any] | None:
    if label is None:
        return None
    return {
        "label": label.name,
        "confidence": _round(label.confidence),
        "age_s": _round(label.age_s),
        "probabilities": [_round(value) for value in label.probabilities],
    }


def _read_label(data: dict[str, Any] | None) -> Label | None:
    if data is None:
        return None
    return Label(data["label"], data["confidence"], tuple(data["probabilities"]), data["age_s"])


def _box(box: Box) -> list[float]:
    return [round(float(value), DECIMALS_PX) for value in box.as_tuple()]


def _round(value: float) -> float:
    return round(float(value), DECIMALS)
