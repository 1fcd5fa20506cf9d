"""A frame goes in, cues come out; time is the stamps' own."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sf_ros.core import bundle as bundles
from sf_ros.core import gaze
from sf_ros.core.bundle import BundleError, OperatingPoint
from sf_ros.core.config import CueConfig, RuntimeConfig
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box, Frame, Person
from sf_ros.engines.base import Answer, Question
from sf_ros.io.sources import demo_file
from sf_ros.perception.pipeline import Pipeline, load_pipeline

CONFIG = RuntimeConfig(budget_ms=1e6, gesture=CueConfig(period_s=0.4, half_life_s=0.3))


class TwoPeople:
    """Persons 1 and 2 in every frame; counts its calls."""

    def __init__(self) -> None:
        self.calls = self.resets = 0
        self.timings_ms: dict[str, float] = {}

    def track(self, frame: Frame) -> tuple[Person, ...]:
        self.calls += 1
        self.timings_ms = {"detect": 4.0, "track": 5.0}
        return tuple(
            Person(i, Box(x, 10, x + 60, 190), 0.9, Box(x + 15, 12, x + 45, 50), 0.8)
            for i, x in ((1, 20.0), (2, 120.0))
        )

    def reset(self) -> None:
        self.resets += 1


class FirstLabel:
    """Answers the first label to everything, and a gaze at the face of person 2."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}
        self.asked: list[list[Question]] = []

    def answer(self, image: np.ndarray, questions: Sequence[Question]) -> list[Answer]:
        self.asked.append(list(questions))
        self.timings_ms = {"views": 1.0, "vision": 2.0, "llm": 3.0}
        return [
            Answer(np.eye(len(TASKS[q.task].labels))[0]) if TASKS[q.task].labels else Answer(heatmap=HEATMAP)
            for q in questions
        ]


HEATMAP = gaze.encode((150 / 300, 30 / 200), 64, 3.0)


@pytest.fixture
def parts() -> tuple[Pipeline, TwoPeople, FirstLabel]:
    detector, engine = TwoPeople(), FirstLabel()
    return Pipeline(detector, engine, CONFIG), detector, engine


def frame(stamp: float, index: int = 0) -> Frame:
    return Frame(np.zeros((200, 300, 3), np.uint8), stamp, index, "head_camera")


def test_a_frame_gives_cues_of_every_person_and_pair(parts: tuple[Pipeline, TwoPeople, FirstLabel]) -> None:
    cues = parts[0].step(frame(7.0, 3))
    assert (cues.stamp, cues.index, cues.width, cues.height, cues.frame_id) == (7.0, 3, 300, 200, "head_camera")
    one, two = cues.people
    assert one.person.track_id == 1
    assert one.gaze is not None
    assert one.gaze.target_id == 2
    assert two.gaze is not None
    assert two.gaze.target_id is None  # at its own face
    for cue, name in ((one.expression, "neutral"), (one.looking_at_me, "yes"), (one.gesture, "call")):
        assert cue is not None
        assert (cue.name, cue.confidence, cue.age_s) == (name, 1.0, 0.0)
    (pair,) = cues.relations
    assert pair.track_ids == (1, 2)
    assert pair.relation is not None
    assert pair.relation.name == "relation/friends"
    assert pair.domain is not None
    assert pair.domain.name == "domain/intimate"


def test_stages_are_timed_and_a_frame_without_questions_costs_no_engine_time(
    parts: tuple[Pipeline, TwoPeople, FirstLabel],
) -> None:
    pipeline, _, engine = parts
    timings = pipeline.step(frame(0.0)).timings_ms
    assert set(timings) == {"detect", "track", "views", "vision", "llm", "smooth", "answer", "total"}
    assert (timings["views"], timings["vision"], timings["llm"]) == (1.0, 2.0, 3.0)
    assert (timings["detect"], timings["track"]) == (4.0, 5.0)
    assert timings["total"] >= timings["answer"] + timings["smooth"]
    quiet = pipeline.step(frame(0.05)).timings_ms
    assert len(engine.asked) == 1
    assert (quiet["views"], quiet["vision"], quiet["llm"]) == (0.0, 0.0, 0.0)


def test_cues_age_between_looks(parts: tuple[Pipeline, TwoPeople, FirstLabel]) -> None:
    pipeline = parts[0]
    pipeline.step(frame(0.0))
    gesture = pipeline.step(frame(0.3)).people[0].gesture
    assert gesture is not None
    assert gesture.age_s == pytest.approx(0.3)
    gesture = pipeline.step(frame(0.45)).people[0].gesture
    assert gesture is not None
    assert gesture.age_s == 0.0


@pytest.mark.parametrize("stamp", [5.0, 4.6])
def test_a_repeated_or_late_frame_gets_the_last_cues_and_asks_nothing(
    parts: tuple[Pipeline, TwoPeople, FirstLabel], stamp: float
) -> None:
    pipeline, detector, engine = parts
    first = pipeline.step(frame(5.0, 10))
    again = pipeline.step(frame(stamp, 11))
    assert again.index == 11
    assert again.people == first.people
    assert again.stamp == first.stamp
    assert (detector.calls, detector.resets, len(engine.asked)) == (1, 0, 1)


def test_stamps_that_go_far_back_start_anew(parts: tuple[Pipeline, TwoPeople, FirstLabel]) -> None:
    pipeline, detector, engine = parts
    pipeline.step(frame(100.0))
    cues = pipeline.step(frame(1.0))
    assert cues.stamp == 1.0
    assert detector.resets == 1
    assert len(engine.asked[1]) == len(engine.asked[0])  # everybody is new
    assert cues.people[0].gesture is not None
    assert cues.people[0].gesture.age_s == 0.0


def test_an_empty_picture_gives_empty_cues_and_does_not_call_the_engine() -> None:
    class Nobody(TwoPeople):
        def track(self, frame: Frame) -> tuple[Person, ...]:
            return ()

    engine = FirstLabel()
    cues = Pipeline(Nobody(), engine, CONFIG).step(frame(0.0))
    assert cues.people == ()
    assert cues.relations == ()
    assert engine.asked == []


def test_a_folder_that_is_no_bundle_is_refused(tmp_path) -> None:
    with pytest.raises(BundleError, match="not a bundle"):
        load_pipeline(tmp_path, CONFIG)


def test_the_bundles_operating_points_withhold_what_is_less_sure(tmp_path: Path) -> None:
    root = shutil.copytree(demo_file("bundle"), tmp_path / "bundle")
    manifest = bundles.load(root).manifest
    points = {"gesture": OperatingPoint(0.4, {"precision": 0.9}, {}, {})}
    bundles.write(root, dataclasses.replace(manifest, operating_points=points))
    assert load_pipeline(root, CONFIG).thresholds == {"gesture": 0.4}
    sure = Pipeline(TwoPeople(), FirstLabel(), CONFIG, {"gesture": 1.0}).step(frame(0.0))
    unsure = Pipeline(TwoPeople(), FirstLabel(), CONFIG, {"gesture": 1.1}).step(frame(0.0))
    assert [cues.gesture is None for cues in (*sure.people, *unsure.people)] == [False, False, True, True]


def test_rates_and_switches_change_while_it_runs(parts: tuple[Pipeline, TwoPeople, FirstLabel]) -> None:
    pipeline, *_ = parts
    pipeline.step(frame(0.0))
    config = CONFIG
    off = dataclasses.replace(
        config,
        gesture=dataclasses.replace(config.gesture, enabled=False),
        relation=dataclasses.replace(config.relation, enabled=False),
        expression=dataclasses.replace(config.expression, period_s=0.0),
    )
    pipeline.configure(off)
    cues = [pipeline.step(frame(0.1 * i, i)) for i in range(1, 5)][-1]
    assert cues.relations == () and all(person.gesture is None for person in cues.people)
    assert all(person.expression is not None and person.expression.age_s == 0 for person in cues.people)
    pipeline.configure(config)
    again = pipeline.step(frame(0.5, 5))
    assert len(again.relations) == 1 and again.people[0].gesture is not None
