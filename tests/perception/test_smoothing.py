"""Cues are steady, follow a real change, age, and are forgotten with their track."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core import gaze
from sf_ros.core.config import CueConfig, RuntimeConfig
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box, Person
from sf_ros.engines.base import Answer, Question
from sf_ros.perception.smoothing import CUE_OF, GazeFilter, LabelFilter, Smoother

CUE = CueConfig(half_life_s=1.0, enter=0.6, leave=0.3)
LABELS = ("a", "b", "c")
BODY = Box(0, 0, 50, 100)
FACE = Box(15, 0, 35, 20)


def person(track_id: int, x: float = 0.0, face: bool = True) -> Person:
    return Person(track_id, Box(x, 0, x + 50, 100), 0.9, Box(x + 15, 0, x + 35, 20) if face else None, 0.9)


def probabilities(task: str, index: int, top: float = 0.9) -> Answer:
    count = len(TASKS[task].labels)
    values = np.full(count, (1 - top) / (count - 1))
    values[index] = top
    return Answer(probabilities=values)


def test_old_evidence_weighs_half_after_one_half_life() -> None:
    label = LabelFilter(CUE, LABELS)
    label.update(np.array([1.0, 0.0, 0.0]), 10.0)
    label.update(np.array([0.0, 1.0, 0.0]), 11.0)
    assert label.probabilities == pytest.approx([0.5, 0.5, 0.0])
    label.update(np.array([0.0, 1.0, 0.0]), 13.0)
    assert label.probabilities == pytest.approx([0.125, 0.875, 0.0])


def test_a_half_life_of_zero_believes_the_newest_look() -> None:
    label = LabelFilter(CueConfig(half_life_s=0.0), LABELS)
    label.update(np.array([1.0, 0.0, 0.0]), 0.0)
    label.update(np.array([0.1, 0.8, 0.1]), 0.1)
    assert label.probabilities == pytest.approx([0.1, 0.8, 0.1])


def test_the_first_look_gives_a_label_even_below_enter() -> None:
    label = LabelFilter(CUE, LABELS)
    assert label.label(0.0) is None
    label.update(np.array([0.3, 0.4, 0.3]), 0.0)
    found = label.label(0.25)
    assert found is not None
    assert (found.name, found.confidence, found.age_s) == ("b", pytest.approx(0.4), pytest.approx(0.25))
    assert sum(found.probabilities) == pytest.approx(1.0)


def test_a_label_is_kept_until_another_enters_or_it_falls_below_leave() -> None:
    cue = CueConfig(half_life_s=0.0, enter=0.6, leave=0.3)
    label = LabelFilter(cue, LABELS)

    def after(*values: float) -> str:
        label.update(np.array(values), 0.0)
        found = label.label(0.0)
        assert found is not None
        return found.name

    assert after(0.7, 0.2, 0.1) == "a"
    assert after(0.42, 0.55, 0.03) == "a"  # b is larger but has not entered
    assert after(0.35, 0.62, 0.03) == "b"  # b enters
    assert after(0.31, 0.31, 0.38) == "b"  # c is larger, b has not left
    assert after(0.38, 0.29, 0.33) == "a"  # b left: the largest takes over


def given(label: LabelFilter, *values: float) -> str | None:
    """The label given after one more look."""
    label.update(np.array(values), 0.0)
    found = label.label(0.0)
    return found.name if found else None


def test_a_label_is_withheld_below_its_least_confidence_and_kept_a_little_further() -> None:
    label = LabelFilter(CueConfig(half_life_s=0.0, enter=0.5, leave=0.4), LABELS, minimum=0.7)
    assert given(label, 0.69, 0.21, 0.1) is None
    assert given(label, 0.7, 0.2, 0.1) == "a"
    assert given(label, 0.56, 0.4, 0.04) == "a"  # 0.8 of 0.7 and more, as leave is 0.8 of enter
    assert given(label, 0.55, 0.41, 0.04) is None
    assert given(label, 0.65, 0.3, 0.05) is None  # has to reach 0.7 again
    assert given(label, 0.1, 0.72, 0.18) == "b"
    assert given(label, 0.6, 0.3, 0.1) is None  # another label has to reach it, too


def test_only_the_event_of_a_question_that_has_one_is_withheld() -> None:
    label = LabelFilter(CueConfig(half_life_s=0.0), ("yes", "no"), minimum=0.9, event="yes")
    assert given(label, 0.8, 0.2) is None
    assert given(label, 0.2, 0.8) == "no"
    assert given(label, 0.9, 0.1) == "yes"


@pytest.mark.parametrize(("own", "expected"), [(-1.0, None), (0.0, "happiness"), (0.5, "happiness"), (0.95, None)])
def test_the_bundles_operating_point_counts_unless_the_cue_has_its_own(own: float, expected: str | None) -> None:
    config = RuntimeConfig(expression=CueConfig(min_confidence=own))
    smoother = Smoother(config, {"expression": 0.91, "gesture": 1.0})
    smoother.update([Question("expression", (1,), (FACE,))], [probabilities("expression", 1)], 0.0)
    (cues,), _ = smoother.cues([person(1)], 0.0, 100, 100)
    assert (cues.expression.name if cues.expression else None) == expected


@pytest.mark.parametrize(("domain", "pairs"), [(0.95, 0), (0.9, 1)])
def test_a_pair_of_which_nothing_is_given_is_left_out(domain: float, pairs: int) -> None:
    smoother = Smoother(RuntimeConfig(), {"domain": domain, "relation": 0.95})
    asked = [Question(task, (1, 2), (BODY, BODY)) for task in ("domain", "relation")]
    smoother.update(asked, [probabilities(question.task, 0) for question in asked], 0.0)
    _, relations = smoother.cues([person(1), person(2, 60)], 0.0, 200, 100)
    assert len(relations) == pairs and all(found.domain and found.relation is None for found in relations)


def test_the_least_confidence_changes_while_it_runs() -> None:
    smoother = Smoother(RuntimeConfig())
    question, answer = Question("expression", (1,), (FACE,)), probabilities("expression", 1, top=0.6)
    smoother.update([question], [answer], 0.0)
    (cues,), _ = smoother.cues([person(1)], 0.0, 100, 100)
    assert cues.expression is not None
    smoother.configure(RuntimeConfig(expression=CueConfig(min_confidence=0.95)))
    smoother.update([question], [answer], 0.1)
    (cues,), _ = smoother.cues([person(1)], 0.1, 100, 100)
    assert cues.expression is None


def test_a_weak_gaze_is_withheld() -> None:
    look = gaze.encode((0.5, 0.5), 16, 1.0) * 0.4
    for least, there in ((0.3, True), (0.5, False)):
        found = GazeFilter(CueConfig(min_confidence=least))
        found.update(look, 0.0)
        assert (found.gaze(0.0) is not None) == there


def test_one_wrong_look_does_not_flip_a_settled_label() -> None:
    label = LabelFilter(CueConfig(half_life_s=0.4, enter=0.5, leave=0.35), LABELS)
    for step in range(6):
        label.update(np.array([0.9, 0.05, 0.05]), step * 0.2)
    label.update(np.array([0.05, 0.9, 0.05]), 1.2)
    found = label.label(1.2)
    assert found is not None
    assert found.name == "a"


def test_gaze_blends_near_looks_and_restarts_after_a_jump() -> None:
    point = GazeFilter(CueConfig(half_life_s=1.0))
    near, nearer, far = (gaze.encode(p, 64, 3.0) for p in ((0.5, 0.5), (0.55, 0.5), (0.9, 0.1)))
    point.update(near, 0.0)
    point.update(nearer, 1.0)
    blended = point.gaze(1.0)
    assert blended is not None and blended.heatmap == pytest.approx(0.5 * near + 0.5 * nearer)
    assert blended.point_norm == gaze.decode(blended.heatmap)[0]
    assert blended.spread_norm == pytest.approx(gaze.spread(blended.heatmap, blended.point_norm))
    point.update(far, 1.1)
    found = point.gaze(1.3)
    assert found is not None
    assert found.point_norm == pytest.approx((0.9, 0.1), abs=1 / 64)
    assert found.confidence == pytest.approx(1.0)
    assert found.age_s == pytest.approx(0.2)


def test_a_person_gets_the_cues_of_its_own_questions() -> None:
    smoother = Smoother(RuntimeConfig())
    heatmap = gaze.encode((55 / 300, 0.1), 64, 3.0)
    smoother.update(
        [Question("gaze", (1,), (FACE,)), Question("expression", (1,), (FACE,)), Question("gesture", (2,), (BODY,))],
        [Answer(heatmap=heatmap), probabilities("expression", 1), probabilities("gesture", 2)],
        5.0,
    )
    (one, two), relations = smoother.cues([person(1), person(2, x=30)], 5.1, 300, 100)
    assert one.gaze is not None
    assert one.gaze.target_id == 2
    assert one.expression is not None
    assert (one.expression.name, one.expression.age_s) == ("happiness", pytest.approx(0.1))
    assert one.gesture is None
    assert two.gesture is not None
    assert two.gesture.name == "dislike"
    assert two.gaze is None
    assert relations == ()


def test_pairs_are_reported_in_ascending_order_while_both_are_seen() -> None:
    smoother = Smoother(RuntimeConfig())
    question = Question("relation", (7, 2), (BODY, BODY))
    smoother.update([question], [probabilities("relation", 0)], 1.0)
    _, relations = smoother.cues([person(2), person(7, x=60)], 1.0, 300, 100)
    assert [pair.track_ids for pair in relations] == [(2, 7)]
    assert relations[0].relation is not None
    assert relations[0].relation.name == "relation/friends"
    assert relations[0].domain is None
    assert smoother.cues([person(2)], 1.1, 300, 100)[1] == ()
    assert len(smoother.cues([person(2), person(7, x=60)], 1.5, 300, 100)[1]) == 1


def test_a_track_unseen_for_longer_than_lost_after_is_forgotten_with_its_pairs() -> None:
    smoother = Smoother(RuntimeConfig(lost_after_s=1.0))
    questions = [Question("gesture", (1,), (BODY,)), Question("relation", (1, 2), (BODY, BODY))]
    smoother.update(questions, [probabilities("gesture", 0), probabilities("relation", 0)], 0.0)
    both = [person(1), person(2, x=60)]
    smoother.cues(both, 0.0, 300, 100)
    assert smoother.cues([person(2, x=60)], 0.9, 300, 100)[0][0].gesture is None
    (one, _), relations = smoother.cues(both, 1.0, 300, 100)
    assert one.gesture is not None
    assert len(relations) == 1
    smoother.cues([person(2, x=60)], 2.1, 300, 100)
    (one, _), relations = smoother.cues(both, 2.2, 300, 100)
    assert one.gesture is None
    assert relations == ()


def test_cues_of_a_face_outlive_it_by_lost_after_only() -> None:
    smoother = Smoother(RuntimeConfig(lost_after_s=1.0))
    questions = [Question("looking_at_me", (1,), (FACE,)), Question("gesture", (1,), (BODY,))]
    smoother.update(questions, [probabilities("looking_at_me", 0), probabilities("gesture", 0)], 0.0)
    for stamp, there in ((0.9, True), (1.8, False)):
        (one,), _ = smoother.cues([person(1, face=False)], stamp, 300, 100)
        assert (one.looking_at_me is not None) == there
        assert one.gesture is not None
    (one,), _ = smoother.cues([person(1)], 2.0, 300, 100)
    assert one.looking_at_me is not None  # the face is back, the old belief with its age


def test_an_answer_of_the_wrong_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="gaze"):
        Smoother(RuntimeConfig()).update([Question("gaze", (1,), (FACE,))], [probabilities("gesture", 0)], 0.0)
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        Smoother(RuntimeConfig()).update([Question("gaze", (1,), (FACE,))], [], 0.0)


def test_every_question_belongs_to_a_cue_of_the_configuration() -> None:
    assert set(CUE_OF) == set(TASKS)
    for cue in CUE_OF.values():
        assert isinstance(RuntimeConfig().cue(cue), CueConfig)
