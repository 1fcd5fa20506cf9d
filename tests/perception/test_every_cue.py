"""Every cue of the table, and one added to it, goes from the scheduler through smoothing to JSON and the overlay."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUE_OF, CUES, TASKS, Cue, CueConfig, Task
from sf_ros.core.types import FrameCues, PairCues, PersonCues
from sf_ros.io.cues_json import from_json, to_json
from sf_ros.io.draw import draw
from sf_ros.perception.pipeline import Pipeline
from sf_ros.perception.scheduler import query_groups
from tests.perception.fakes import SIZE, FixedAnswers, TwoPeople, frame

HAND_RAISED = Task("hand_raised", "scenes", "person", 0, ("yes", "no"), ("Yes", "No"), "yes", "Is a hand raised?\n")


@pytest.fixture
def hand_raised(monkeypatch: pytest.MonkeyPatch) -> Cue:
    """A cue about a person's body that is in the table for one test."""
    cue = Cue("hand_raised", "person", "body", ("hand_raised",), "hands_raised", CueConfig(period_s=0.5))
    monkeypatch.setitem(TASKS, HAND_RAISED.name, HAND_RAISED)
    monkeypatch.setitem(CUES, cue.name, cue)
    monkeypatch.setitem(CUE_OF, HAND_RAISED.name, cue.name)
    return cue


def pipeline_of(cue: Cue) -> tuple[Pipeline, FixedAnswers]:
    """A pipeline whose engine answers the tasks of one cue."""
    engine = FixedAnswers(cue.tasks)
    return Pipeline(TwoPeople(), engine, RuntimeConfig(budget_ms=1e6)), engine


def subjects_of(cue: Cue, cues: FrameCues) -> tuple[PersonCues, ...] | tuple[PairCues, ...]:
    return cues.people if cue.subject == "person" else cues.pairs


@pytest.mark.parametrize("cue", CUES.values(), ids=lambda cue: cue.name)
def test_an_engine_of_one_cue_is_asked_for_it_alone(cue: Cue) -> None:
    pipeline, engine = pipeline_of(cue)
    assert pipeline.cues == (cue.name,) and set(pipeline.off) == set(CUES) - {cue.name}
    pipeline.step(frame(0.0))
    ids = {(1,), (2,)} if cue.subject == "person" else {(1, 2)}
    assert {query.ids for query in engine.calls[0]} == ids
    for query in engine.calls[0]:
        assert set(query.tasks) == set(cue.tasks)
        assert {TASKS[task].view for task in query.tasks} == {query.view}
        assert len(query.boxes) == max(TASKS[query.tasks[0]].boxes, 1)


@pytest.mark.parametrize("cue", CUES.values(), ids=lambda cue: cue.name)
def test_every_cue_ages_and_is_queried_again_at_its_period(cue: Cue) -> None:
    pipeline, engine = pipeline_of(cue)
    step_s = CUES[cue.name].defaults.period_s / 4
    for index, (calls, age) in enumerate([(1, 0), (1, 1), (1, 2), (1, 3), (2, 0)]):
        subjects = subjects_of(cue, pipeline.step(frame(index * step_s)))
        assert len(engine.calls) == calls and subjects
        for subject in subjects:
            ages = {task: value.age_s for task, value in subject.values.items()}
            assert ages == pytest.approx(dict.fromkeys(cue.tasks, age * step_s))


@pytest.mark.parametrize("cue", CUES.values(), ids=lambda cue: cue.name)
def test_every_cue_reaches_json_and_the_overlay(cue: Cue) -> None:
    pipeline, _ = pipeline_of(cue)
    cues = pipeline.step(frame(0.0))
    data = json.loads(json.dumps(to_json(cues)))
    for subject in data["people" if cue.subject == "person" else "relations"]:
        assert all(subject[task] for task in cue.tasks)
    assert to_json(from_json(data)) == data
    image = np.full((SIZE[1], SIZE[0], 3), 128, np.uint8)
    bare = FrameCues(0.0, 0, *SIZE, tuple(PersonCues(person.person) for person in cues.people))
    assert (draw(image, cues) != draw(image, bare)).any()


def test_an_added_cue_is_scheduled_with_the_others(hand_raised: Cue) -> None:
    bodies = [group for group in query_groups("person", CUES) if group.evidence == "body"]
    assert [group.tasks for group in bodies] == [("gesture",), ("hand_raised",)]  # another margin, another view
    engine = FixedAnswers()
    Pipeline(TwoPeople(), engine, RuntimeConfig(budget_ms=1e6)).step(frame(0.0))
    assert "hand_raised" not in {task for query in engine.calls[0] for task in query.tasks}  # the engine lacks it
    engine = FixedAnswers(tuple(TASKS))
    Pipeline(TwoPeople(), engine, RuntimeConfig(budget_ms=1e6)).step(frame(0.0))
    asked = [query for query in engine.calls[0] if "hand_raised" in query.tasks]
    assert [(query.view, query.tasks, query.ids) for query in asked] == [
        ("person", ("hand_raised",), (1,)),
        ("person", ("hand_raised",), (2,)),
    ]


def test_an_added_cue_reaches_json_and_the_overlay(hand_raised: Cue, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr("sf_ros.io.draw._row", lambda canvas, x, y, row, *_: drawn.append(row.text))
    pipeline, _ = pipeline_of(hand_raised)
    cues = pipeline.step(frame(0.0))
    label = {"label": "yes", "confidence": 1.0, "age_s": 0.0, "probabilities": [1.0, 0.0]}
    assert [person["hand_raised"] for person in to_json(cues)["people"]] == [label, label]
    draw(np.zeros((SIZE[1], SIZE[0], 3), np.uint8), cues)
    assert sorted(drawn) == ["hand raised 1.00", "hand raised 1.00", "p1", "p2"]


def test_an_added_cue_is_configured_by_its_defaults(hand_raised: Cue) -> None:
    config = RuntimeConfig()
    assert config.cue("hand_raised") == CueConfig(period_s=0.5)
    pipeline, engine = pipeline_of(hand_raised)
    pipeline.configure(config.with_cues(hand_raised=CueConfig(enabled=False)))
    cues = pipeline.step(frame(0.0))
    assert engine.calls == [] and all(not person.values for person in cues.people)


def test_a_bundle_without_an_added_cue_has_it_off(hand_raised: Cue) -> None:
    engine = FixedAnswers([task for task in TASKS if task != "hand_raised"])
    pipeline = Pipeline(TwoPeople(), engine, RuntimeConfig())
    assert pipeline.off == {"hand_raised": "the bundle does not answer hand_raised"}
