"""Scores against a truth worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from sf_ros.core.types import Box, FrameCues, Gaze, Label, Person, PersonCues, Relation
from sf_ros.io.truth import compare

BODY = (0, 0, 50, 100)
OTHER = (100, 0, 150, 100)


def true_person(track_id: int = 1, body: tuple[int, ...] = BODY, **changes: Any) -> dict[str, Any]:
    person = {"track_id": track_id, "body": list(body), "face": [10, 0, 30, 20], "gaze_point_norm": [0.5, 0.5]}
    person |= {"looking_at_me": True, "expression": "neutral", "gesture": "none", "visibility": 1.0}
    return person | changes


def truth(*frames: list[dict[str, Any]], relations: list[list[Any]] | None = None) -> dict[str, Any]:
    return {
        "fps": 10,
        "width": 200,
        "height": 100,
        "frames": [{"people": people, "relations": relations or []} for people in frames],
    }


def cues(index: int, *people: PersonCues, relations: tuple[Relation, ...] = ()) -> FrameCues:
    return FrameCues(index / 10, index, 200, 100, people, relations)


def found(track_id: int = 1, body: tuple[int, ...] = BODY, **known: Any) -> PersonCues:
    return PersonCues(Person(track_id, Box(*map(float, body)), 0.9), **known)


def test_tracked_is_the_share_of_true_people_matched_and_invisible_ones_can_be_left_out() -> None:
    hidden = true_person(2, OTHER, visibility=0.1)
    result = compare(truth([true_person(), hidden]), [cues(0, found(7), found(8, (50, 0, 99, 100)))])
    assert result["tracked"] == 0.5
    assert result["tracked_visible"] == result["tracked_least"] == 1.0
    assert result["false_persons"] == 0.5


def test_the_person_tracked_least_is_told() -> None:
    frames = [[true_person(), true_person(2, OTHER)]] * 4
    result = compare(truth(*frames), [cues(i, found(1), *[found(2, OTHER)][: i % 2]) for i in range(4)])
    assert (result["tracked"], result["tracked_least"], result["false_persons"]) == (0.75, 0.5, 0.0)
    nobody = compare(truth([]), [cues(0)])
    assert nobody["tracked_least"] is nobody["false_persons"] is None


def test_an_id_switch_is_counted_when_a_true_persons_id_changes() -> None:
    frames = [[true_person(), true_person(2, OTHER)]] * 4
    ids = [(1, 2), (1, 2), (2, 1), (2, 1)]
    result = compare(truth(*frames), [cues(i, found(a), found(b, OTHER)) for i, (a, b) in enumerate(ids)])
    assert result["id_switches"] == 2
    assert result["tracked"] == 1.0


def test_right_is_of_those_given() -> None:
    people = [true_person()]
    said = [None, Label("neutral", 0.9), Label("anger", 0.9), Label("neutral", 0.9)]
    result = compare(truth(people, people, people, people), [cues(i, found(expression=s)) for i, s in enumerate(said)])
    assert result["expression"] == {"frames": 4, "given": 0.75, "right": 0.6667, "right_settled": None}


def test_frames_right_after_a_change_count_but_are_also_left_out() -> None:
    frames = [[true_person(looking_at_me=i >= 10)] for i in range(20)]
    answers = [cues(i, found(looking_at_me=Label("yes" if i >= 15 else "no", 0.9))) for i in range(20)]
    score = compare(truth(*frames), answers)["looking_at_me"]
    assert score["right"] == 0.75
    assert score["right_settled"] == 1.0


def test_gaze_is_right_within_reach_and_left_out_where_truth_has_no_point() -> None:
    frames = [[true_person()], [true_person()], [true_person(gaze_point_norm=None)]]
    points = [(0.5, 0.6), (0.5, 0.8), (0.0, 0.0)]
    score = compare(truth(*frames), [cues(i, found(gaze=Gaze(p, 1.0))) for i, p in enumerate(points)])["gaze"]
    assert (score["frames"], score["right"], score["distance_norm"]) == (2, 0.5, pytest.approx(0.2))


def test_no_gesture_and_no_face_are_not_scored() -> None:
    frames = [[true_person(gesture="none", face=None)], [true_person(gesture="ok", face=None)]]
    result = compare(truth(*frames), [cues(i, found(gesture=Label("ok", 0.9))) for i in range(2)])
    assert result["gesture"]["frames"] == 1
    assert result["gesture"]["right"] == 1.0
    assert "expression" not in result


def test_what_nobody_could_read_is_not_scored() -> None:
    frames = [[true_person(gesture=None, expression=None)], [true_person(gesture="ok", expression=None)]]
    result = compare(truth(*frames), [cues(i, found(gesture=Label("ok", 0.9))) for i in range(2)])
    assert result["gesture"]["frames"] == 1
    assert "expression" not in result and result["looking_at_me"]["frames"] == 2


def test_relations_are_compared_by_matched_ids_with_or_without_the_questions_name() -> None:
    people = [true_person(1), true_person(2, OTHER)]
    said = Relation((3, 9), Label("domain/intimate", 0.9), Label("relation/family", 0.9))
    real = truth(people, relations=[[1, 2, "intimate", "relation/friends"]])
    result = compare(real, [cues(0, found(9), found(3, OTHER), relations=(said,))])
    assert result["domain"]["right"] == 1.0
    assert result["relation"]["right"] == 0.0


def test_frames_beyond_the_truth_are_left_out() -> None:
    assert compare(truth([true_person()]), [cues(5, found())])["tracked"] is None
