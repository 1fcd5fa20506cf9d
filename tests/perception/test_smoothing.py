"""Cues are steady, follow a real change, age, and are dropped with their track."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core import gaze
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import TASKS, CueConfig, Task
from sf_ros.core.types import Box, Person
from sf_ros.engines.base import Answer, Query
from sf_ros.perception.smoothing import GazeFilter, LabelFilter, Smoother

CUE = CueConfig(half_life_s=1.0, enter=0.6, leave=0.3)
ABC = Task("letter", "dataset", "face", 0, labels=("a", "b", "c"), answers=("a", "b", "c"))


def person(track_id: int, x: float = 0.0, face: bool = True) -> Person:
    return Person(track_id, Box(x, 0, x + 50, 100), 0.9, Box(x + 15, 0, x + 35, 20) if face else None, 0.9)


def query(*tasks: str, ids: tuple[int, ...] = (1,)) -> Query:
    return Query(TASKS[tasks[0]].view, (), tasks, ids)


def probabilities(task: str, index: int, top: float = 0.9) -> Answer:
    count = len(TASKS[task].labels)
    values = np.full(count, (1 - top) / (count - 1))
    values[index] = top
    return Answer(probabilities=values)


def test_earlier_answers_weigh_half_after_a_half_life() -> None:
    label = LabelFilter(CUE, ABC)
    label.update(Answer(np.array([1.0, 0.0, 0.0])), 10.0)
    label.update(Answer(np.array([0.0, 1.0, 0.0])), 11.0)
    assert label.probabilities == pytest.approx([0.5, 0.5, 0.0])
    label.update(Answer(np.array([0.0, 1.0, 0.0])), 13.0)
    assert label.probabilities == pytest.approx([0.125, 0.875, 0.0])


def test_a_half_life_of_zero_takes_the_newest_answer() -> None:
    label = LabelFilter(CueConfig(half_life_s=0.0), ABC)
    label.update(Answer(np.array([1.0, 0.0, 0.0])), 0.0)
    label.update(Answer(np.array([0.1, 0.8, 0.1])), 0.1)
    assert label.probabilities == pytest.approx([0.1, 0.8, 0.1])


def test_the_first_answer_gives_a_label_even_below_enter() -> None:
    label = LabelFilter(CUE, ABC)
    assert label.value(0.0) is None
    label.update(Answer(np.array([0.3, 0.4, 0.3])), 0.0)
    value = label.value(0.25)
    assert value is not None
    assert (value.name, value.confidence, value.age_s) == ("b", pytest.approx(0.4), pytest.approx(0.25))
    assert value.probabilities == pytest.approx((0.3, 0.4, 0.3))


def name_after(label: LabelFilter, *probabilities: float) -> str | None:
    """The published label after one more answer."""
    label.update(Answer(np.array(probabilities)), 0.0)
    value = label.value(0.0)
    return value.name if value else None


def test_a_label_stays_until_another_enters_or_it_falls_below_leave() -> None:
    label = LabelFilter(CueConfig(half_life_s=0.0, enter=0.6, leave=0.3), ABC)
    assert name_after(label, 0.7, 0.2, 0.1) == "a"
    assert name_after(label, 0.42, 0.55, 0.03) == "a"  # b is larger but has not entered
    assert name_after(label, 0.35, 0.62, 0.03) == "b"  # b enters
    assert name_after(label, 0.31, 0.31, 0.38) == "b"  # c is larger, b has not left
    assert name_after(label, 0.38, 0.29, 0.33) == "a"  # b left: the largest takes over


def test_a_label_below_its_minimum_is_withheld_with_hysteresis() -> None:
    label = LabelFilter(CueConfig(half_life_s=0.0, enter=0.5, leave=0.4), ABC, minimum=0.7)
    assert name_after(label, 0.69, 0.21, 0.1) is None
    assert name_after(label, 0.7, 0.2, 0.1) == "a"
    assert name_after(label, 0.56, 0.4, 0.04) == "a"  # 0.8 of 0.7 is enough, as leave is 0.8 of enter
    assert name_after(label, 0.55, 0.41, 0.04) is None
    assert name_after(label, 0.65, 0.3, 0.05) is None  # has to reach 0.7 again
    assert name_after(label, 0.1, 0.72, 0.18) == "b"
    assert name_after(label, 0.6, 0.3, 0.1) is None  # another label has to reach it, too


def test_only_the_event_of_a_task_is_withheld() -> None:
    label = LabelFilter(CueConfig(half_life_s=0.0), TASKS["looking_at_me"], minimum=0.9)
    assert name_after(label, 0.8, 0.2) is None
    assert name_after(label, 0.2, 0.8) == "no"
    assert name_after(label, 0.9, 0.1) == "yes"


def expression_of(smoother: Smoother, stamp: float) -> str | None:
    (cues,), _ = smoother.cues([person(1)], stamp)
    label = cues.label("expression")
    return label.name if label else None


@pytest.mark.parametrize(("own", "expected"), [(-1.0, None), (0.0, "happiness"), (0.5, "happiness"), (0.95, None)])
def test_a_cues_own_minimum_overrides_the_operating_point(own: float, expected: str | None) -> None:
    config = RuntimeConfig(cues={"expression": CueConfig(min_confidence=own)})
    smoother = Smoother(config, {"expression": 0.91, "gesture": 1.0})
    smoother.update([query("expression")], [{"expression": probabilities("expression", 1)}], 0.0)
    assert expression_of(smoother, 0.0) == expected


@pytest.mark.parametrize(("domain", "published"), [(0.95, []), (0.9, [{"domain"}])])
def test_a_pair_without_a_published_value_is_left_out(domain: float, published: list) -> None:
    smoother = Smoother(RuntimeConfig(), {"domain": domain, "relation": 0.95})
    answers = {task: probabilities(task, 0) for task in ("domain", "relation")}
    smoother.update([query("domain", "relation", ids=(1, 2))], [answers], 0.0)
    _, pairs = smoother.cues([person(1), person(2, 60)], 0.0)
    assert [set(pair.values) for pair in pairs] == published


def test_the_minimum_changes_while_it_runs() -> None:
    smoother = Smoother(RuntimeConfig())
    answers = {"expression": probabilities("expression", 1, top=0.6)}
    smoother.update([query("expression")], [answers], 0.0)
    assert expression_of(smoother, 0.0) == "happiness"
    smoother.configure(RuntimeConfig(cues={"expression": CueConfig(min_confidence=0.95)}))
    smoother.update([query("expression")], [answers], 0.1)
    assert expression_of(smoother, 0.1) is None


@pytest.mark.parametrize(("minimum", "published"), [(0.3, True), (0.5, False)])
def test_a_gaze_below_its_minimum_is_withheld(minimum: float, published: bool) -> None:
    gaze_filter = GazeFilter(CueConfig(), TASKS["gaze"], minimum)
    gaze_filter.update(Answer(heatmap=gaze.encode((0.5, 0.5), 16, 1.0) * 0.4), 0.0)
    assert (gaze_filter.value(0.0) is not None) == published


def test_one_wrong_answer_does_not_flip_a_settled_label() -> None:
    label = LabelFilter(CueConfig(half_life_s=0.4, enter=0.5, leave=0.35), ABC)
    for step in range(6):
        label.update(Answer(np.array([0.9, 0.05, 0.05])), step * 0.2)
    label.update(Answer(np.array([0.05, 0.9, 0.05])), 1.2)
    value = label.value(1.2)
    assert value is not None and value.name == "a"


def test_gaze_blends_near_answers_and_restarts_after_a_jump() -> None:
    gaze_filter = GazeFilter(CueConfig(half_life_s=1.0), TASKS["gaze"])
    near, nearer, far = (gaze.encode(point, 64, 3.0) for point in ((0.5, 0.5), (0.55, 0.5), (0.9, 0.1)))
    gaze_filter.update(Answer(heatmap=near), 0.0)
    gaze_filter.update(Answer(heatmap=nearer), 1.0)
    blended = gaze_filter.value(1.0)
    assert blended is not None and blended.heatmap == pytest.approx(0.5 * near + 0.5 * nearer)
    assert blended.point_norm == gaze.decode(blended.heatmap)[0]
    assert blended.spread_norm == pytest.approx(gaze.spread(blended.heatmap, blended.point_norm))
    gaze_filter.update(Answer(heatmap=far), 1.1)
    jumped = gaze_filter.value(1.3)
    assert jumped is not None
    assert jumped.point_norm == pytest.approx((0.9, 0.1), abs=1 / 64)
    assert (jumped.confidence, jumped.age_s) == (pytest.approx(1.0), pytest.approx(0.2))


def test_a_person_gets_the_answers_to_its_own_queries() -> None:
    smoother = Smoother(RuntimeConfig())
    answers = [
        {"gaze": Answer(heatmap=gaze.encode((0.2, 0.1), 64, 3.0))},
        {"looking_at_me": probabilities("looking_at_me", 1), "expression": probabilities("expression", 1)},
        {"gesture": probabilities("gesture", 2)},
    ]
    queries = [query("gaze"), query("looking_at_me", "expression"), query("gesture", ids=(2,))]
    smoother.update(queries, answers, 5.0)
    (one, two), pairs = smoother.cues([person(1), person(2, x=30)], 5.1)
    assert set(one.values) == {"gaze", "looking_at_me", "expression"} and set(two.values) == {"gesture"}
    assert one.gaze is not None and one.gaze.target_id is None  # decided by the pipeline
    assert one.label("expression").name == "happiness" and one.label("looking_at_me").name == "no"
    assert [value.age_s for value in one.values.values()] == pytest.approx([0.1] * 3)
    assert two.label("gesture").name == "dislike"
    assert pairs == ()


def test_pairs_have_ascending_ids_while_both_are_visible() -> None:
    smoother = Smoother(RuntimeConfig())
    smoother.update([query("relation", ids=(7, 2))], [{"relation": probabilities("relation", 0)}], 1.0)
    both = [person(2), person(7, x=60)]
    (pair,) = smoother.cues(both, 1.0)[1]
    assert pair.track_ids == (2, 7)
    assert pair.label("relation").name == "relation/friends" and pair.label("domain") is None
    assert smoother.cues([person(2)], 1.1)[1] == ()
    assert len(smoother.cues(both, 1.5)[1]) == 1


def test_a_lost_track_is_dropped_with_its_pairs() -> None:
    smoother = Smoother(RuntimeConfig(lost_after_s=1.0))
    answers = [{"gesture": probabilities("gesture", 0)}, {"relation": probabilities("relation", 0)}]
    smoother.update([query("gesture"), query("relation", ids=(1, 2))], answers, 0.0)
    both = [person(1), person(2, x=60)]
    for visible, stamp, published in ((both, 0.0, True), (both[1:], 0.9, False), (both, 1.0, True)):
        people, pairs = smoother.cues(visible, stamp)
        assert ("gesture" in people[0].values) == bool(pairs) == published
    smoother.cues(both[1:], 2.1)
    people, pairs = smoother.cues(both, 2.2)
    assert not people[0].values and pairs == ()


def test_values_read_from_a_face_outlive_it_by_lost_after_only() -> None:
    smoother = Smoother(RuntimeConfig(lost_after_s=1.0))
    answers = [{"looking_at_me": probabilities("looking_at_me", 0)}, {"gesture": probabilities("gesture", 0)}]
    smoother.update([query("looking_at_me"), query("gesture")], answers, 0.0)
    for face, stamp, published in ((False, 0.9, True), (False, 1.8, False), (True, 2.0, True)):
        (cues,), _ = smoother.cues([person(1, face=face)], stamp)
        assert ("looking_at_me" in cues.values) == published
        assert "gesture" in cues.values


def test_a_cue_that_is_off_is_not_published() -> None:
    smoother = Smoother(RuntimeConfig(cues={"gesture": CueConfig(enabled=False)}), cues=("gesture", "gaze"))
    answers = [{task: probabilities(task, 0)} for task in ("gesture", "expression")]
    smoother.update([query("gesture"), query("expression")], answers, 0.0)
    assert smoother.cues([person(1)], 0.0)[0][0].values == {}


def test_an_answer_of_the_wrong_kind_or_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="answer to 'gaze' lacks its heatmap"):
        Smoother(RuntimeConfig()).update([query("gaze")], [{"gaze": probabilities("gesture", 0)}], 0.0)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        Smoother(RuntimeConfig()).update([query("gaze")], [], 0.0)
