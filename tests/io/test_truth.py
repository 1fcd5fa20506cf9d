"""Scores against a ground truth worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from sf_ros.core.cues import CUE_OF, CUES, TASKS, Cue, Task
from sf_ros.core.types import Box, CueValue, FrameCues, Gaze, Label, PairCues, Person, PersonCues
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


def cues(index: int, *people: PersonCues, pairs: tuple[PairCues, ...] = ()) -> FrameCues:
    return FrameCues(index / 10, index, 200, 100, people, pairs)


def tracked(track_id: int = 1, body: tuple[int, ...] = BODY, **values: CueValue) -> PersonCues:
    return PersonCues(Person(track_id, Box(*map(float, body)), 0.9), values)


def test_tracked_counts_matched_people_with_and_without_hidden_ones() -> None:
    hidden = true_person(2, OTHER, visibility=0.1)
    result = compare(truth([true_person(), hidden]), [cues(0, tracked(7), tracked(8, (50, 0, 99, 100)))])
    assert result["tracked"] == 0.5
    assert result["tracked_visible"] == result["tracked_least"] == 1.0
    assert result["false_persons"] == 0.5


def test_the_person_tracked_least_is_reported() -> None:
    frames = [[true_person(), true_person(2, OTHER)]] * 4
    result = compare(truth(*frames), [cues(i, tracked(1), *[tracked(2, OTHER)][: i % 2]) for i in range(4)])
    assert (result["tracked"], result["tracked_least"], result["false_persons"]) == (0.75, 0.5, 0.0)
    empty = compare(truth([]), [cues(0)])
    assert empty["tracked_least"] is empty["false_persons"] is None


def test_a_change_of_a_true_persons_id_is_a_switch() -> None:
    frames = [[true_person(), true_person(2, OTHER)]] * 4
    ids = [(1, 2), (1, 2), (2, 1), (2, 1)]
    result = compare(truth(*frames), [cues(i, tracked(a), tracked(b, OTHER)) for i, (a, b) in enumerate(ids)])
    assert result["id_switches"] == 2
    assert result["tracked"] == 1.0


def test_right_is_a_share_of_the_given() -> None:
    people = [true_person()]
    names = [None, "neutral", "anger", "neutral"]
    frames = [cues(i, tracked(**({"expression": Label(name, 0.9)} if name else {}))) for i, name in enumerate(names)]
    result = compare(truth(people, people, people, people), frames)
    assert result["expression"] == {"frames": 4, "given": 0.75, "right": 0.6667, "right_settled": None}


def test_right_settled_leaves_out_frames_after_a_change() -> None:
    frames = [[true_person(looking_at_me=i >= 10)] for i in range(20)]
    answers = [cues(i, tracked(looking_at_me=Label("yes" if i >= 15 else "no", 0.9))) for i in range(20)]
    score = compare(truth(*frames), answers)["looking_at_me"]
    assert score["right"] == 0.75
    assert score["right_settled"] == 1.0


def test_gaze_is_scored_by_distance_where_truth_has_a_point() -> None:
    frames = [[true_person()], [true_person()], [true_person(gaze_point_norm=None)]]
    points = [(0.5, 0.6), (0.5, 0.8), (0.0, 0.0)]
    score = compare(truth(*frames), [cues(i, tracked(gaze=Gaze(p, 1.0))) for i, p in enumerate(points)])["gaze"]
    assert (score["frames"], score["right"], score["distance_norm"]) == (2, 0.5, pytest.approx(0.2))


def test_a_task_read_from_the_body_is_scored_without_a_face(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        TASKS, "added", Task("added", "scenes", "frame", 1, labels=("yes", "no"), answers=("Yes", "No"))
    )
    monkeypatch.setitem(CUES, "added", Cue("added", "person", "body", ("added",), "added"))
    monkeypatch.setitem(CUE_OF, "added", "added")
    frame = cues(0, tracked(added=Label("yes", 0.9)))
    assert compare(truth([true_person(face=None, added=True)]), [frame])["added"]["right"] == 1.0


def test_no_gesture_and_no_face_are_not_scored() -> None:
    frames = [[true_person(gesture="none", face=None)], [true_person(gesture="ok", face=None)]]
    result = compare(truth(*frames), [cues(i, tracked(gesture=Label("ok", 0.9))) for i in range(2)])
    assert result["gesture"]["frames"] == 1
    assert result["gesture"]["right"] == 1.0
    assert "expression" not in result


def test_a_truth_of_null_is_not_scored() -> None:
    frames = [[true_person(gesture=None, expression=None)], [true_person(gesture="ok", expression=None)]]
    result = compare(truth(*frames), [cues(i, tracked(gesture=Label("ok", 0.9))) for i in range(2)])
    assert result["gesture"]["frames"] == 1
    assert "expression" not in result and result["looking_at_me"]["frames"] == 2


def test_pairs_are_compared_by_matched_ids() -> None:
    people = [true_person(1), true_person(2, OTHER)]
    values = {"domain": Label("domain/intimate", 0.9), "relation": Label("relation/family", 0.9)}
    relations = [[1, 2, "intimate", "relation/friends"]]  # with and without the task's prefix
    frame = cues(0, tracked(9), tracked(3, OTHER), pairs=(PairCues((3, 9), values),))
    result = compare(truth(people, relations=relations), [frame])
    assert result["domain"]["right"] == 1.0
    assert result["relation"]["right"] == 0.0


def test_a_pair_without_cues_is_scored_as_not_given() -> None:
    people = [true_person(1), true_person(2, OTHER)]
    result = compare(truth(people, relations=[[1, 2, "none", "none"]]), [cues(0, tracked(1), tracked(2, OTHER))])
    assert (result["relation"]["frames"], result["relation"]["given"]) == (1, 0.0)


@pytest.mark.parametrize("subject", ["person", "pair"])
def test_a_truth_without_a_task_scores_the_others(subject: str, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = "pair" if subject == "pair" else "body"
    monkeypatch.setitem(
        TASKS, "added", Task("added", "scenes", "frame", 2, labels=("yes", "no"), answers=("Yes", "No"))
    )
    monkeypatch.setitem(CUES, "added", Cue("added", subject, evidence, ("added",), "added"))
    monkeypatch.setitem(CUE_OF, "added", "added")
    people = [true_person(1), true_person(2, OTHER)]
    result = compare(truth(people, relations=[[1, 2, "none", "none"]]), [cues(0, tracked(1), tracked(2, OTHER))])
    assert result["relation"]["frames"] == 1 and "added" not in result


def test_frames_beyond_the_truth_are_left_out() -> None:
    assert compare(truth([true_person()]), [cues(5, tracked())])["tracked"] is None
