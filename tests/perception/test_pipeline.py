"""A frame goes in, cues come out; time is the frame's stamp."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sf_ros.core import bundle as bundles
from sf_ros.core.bundle import BundleError, OperatingPoint
from sf_ros.core.camera import CalibrationError, Camera
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUES, TASKS, CueConfig, tasks_of
from sf_ros.core.demo import demo_file
from sf_ros.core.types import Frame, Gaze3D
from sf_ros.perception.detectors.base import Detections
from sf_ros.perception.pipeline import Pipeline, load_pipeline
from tests.perception.fakes import FACE_2_NORM, SIZE, FixedAnswers, TwoPeople, frame

CONFIG = RuntimeConfig(budget_ms=1e6, cues={"gesture": CueConfig(period_s=0.4, half_life_s=0.3)})
CAMERA = Camera.from_info(*SIZE, (250.0, 0, 150, 0, 250, 100, 0, 0, 1), (), "plumb_bob", "lens")
Parts = tuple[Pipeline, TwoPeople, FixedAnswers]


@pytest.fixture
def parts() -> Parts:
    detector, engine = TwoPeople(), FixedAnswers()
    return Pipeline(detector, engine, CONFIG), detector, engine


def test_a_frame_gives_cues_of_every_person_and_pair(parts: Parts) -> None:
    cues = parts[0].step(frame(7.0, 3, frame_id="head_camera"))
    assert (cues.stamp, cues.index, cues.width, cues.height, cues.frame_id) == (7.0, 3, *SIZE, "head_camera")
    assert [person.person.track_id for person in cues.people] == [1, 2]
    for person in cues.people:
        for task, name in (("expression", "neutral"), ("looking_at_me", "yes"), ("gesture", "call")):
            label = person.label(task)
            assert label is not None and (label.name, label.confidence, label.age_s) == (name, 1.0, 0.0)
    (pair,) = cues.pairs
    assert pair.track_ids == (1, 2)
    assert {task: label.name for task, label in pair.values.items()} == {
        "domain": "domain/intimate",
        "relation": "relation/friends",
    }


def test_the_pipeline_decides_who_is_looked_at(parts: Parts) -> None:
    one, two = parts[0].step(frame(0.0)).people
    assert one.gaze is not None and one.gaze.target_id == 2
    assert one.gaze.point_norm == pytest.approx(FACE_2_NORM, abs=1 / 64)
    assert two.gaze is not None and two.gaze.target_id is None  # its own face
    assert one.gaze_3d is None


def space(label: str, camera: Camera | None, depth: np.ndarray | None) -> Gaze3D | None:
    """Gaze in space of person 1, who looks at the camera ("yes") or at person 2 ("no")."""
    pipeline = Pipeline(TwoPeople(), FixedAnswers(labels={"looking_at_me": label}), CONFIG)
    return pipeline.step(frame(0.0, camera=camera, depth=depth)).people[0].gaze_3d


def test_camera_and_depth_of_a_frame_place_gaze_in_space() -> None:
    depth = np.full((100, 150), 2.5, np.float32)
    depth[:, :50] = 1.5  # person 1 is nearer
    gaze_3d = space("no", CAMERA, depth)
    assert gaze_3d is not None and gaze_3d.ray is not None
    assert gaze_3d.target is not None and gaze_3d.target[2] == pytest.approx(2.5)
    assert gaze_3d.target / np.linalg.norm(gaze_3d.target) == pytest.approx(gaze_3d.ray, abs=1e-6)
    assert gaze_3d.head == pytest.approx([(50 - 150) / 250 * 1.5, (31 - 100) / 250 * 1.5, 1.5])


def test_a_camera_without_depth_gives_a_ray_only() -> None:
    gaze_3d = space("no", CAMERA, None)
    assert gaze_3d is not None and gaze_3d.ray is not None
    assert gaze_3d.target is None and gaze_3d.head is None
    assert space("no", None, np.full((100, 150), 2.5, np.float32)) is None


def test_a_camera_or_depth_of_another_shape_is_refused() -> None:
    wide = Camera.from_info(640, 360, (500.0, 0, 320, 0, 500, 180, 0, 0, 1), (), "plumb_bob", "lens")
    with pytest.raises(CalibrationError, match="640x360, and the images are 300x200"):
        space("no", wide, None)
    with pytest.raises(CalibrationError, match="150x150 and the images 300x200: not aligned"):
        space("no", CAMERA, np.ones((150, 150), np.float32))


def test_looking_at_the_camera_has_no_ray() -> None:
    gaze_3d = space("yes", CAMERA, np.full((100, 150), 2.5, np.float32))
    assert gaze_3d is not None and gaze_3d.ray is None and gaze_3d.target is None
    assert gaze_3d.head is not None and gaze_3d.head[2] == pytest.approx(2.5)


def test_stages_are_timed(parts: Parts) -> None:
    timings = parts[0].step(frame(0.0)).timings_ms
    stages = {"detect", "track", "schedule", "views", "vision", "llm", "answer", "smooth", "total"}
    assert set(timings) == stages
    assert (timings["views"], timings["vision"], timings["llm"]) == (1.0, 2.0, 3.0)
    assert timings["total"] >= sum(timings[stage] for stage in ("detect", "track", "schedule", "answer", "smooth"))


def test_a_frame_without_queries_costs_no_engine_time(parts: Parts) -> None:
    pipeline, _, engine = parts
    pipeline.step(frame(0.0))
    quiet = pipeline.step(frame(0.05)).timings_ms
    assert len(engine.calls) == 1
    assert (quiet["views"], quiet["vision"], quiet["llm"]) == (0.0, 0.0, 0.0)


def test_cues_age_between_queries(parts: Parts) -> None:
    pipeline = parts[0]
    ages = [pipeline.step(frame(stamp)).people[0].values["gesture"].age_s for stamp in (0.0, 0.3, 0.45)]
    assert ages == pytest.approx([0.0, 0.3, 0.0])


@pytest.mark.parametrize("stamp", [5.0, 4.6])
def test_a_repeated_or_late_frame_gets_the_last_cues(parts: Parts, stamp: float) -> None:
    pipeline, detector, engine = parts
    first = pipeline.step(frame(5.0, 10))
    again = pipeline.step(frame(stamp, 11))
    assert again == dataclasses.replace(first, index=11)
    assert (detector.calls, len(engine.calls)) == (1, 1)


def test_stamps_that_go_far_back_give_new_ids(parts: Parts) -> None:
    pipeline, _, engine = parts
    pipeline.step(frame(100.0))
    cues = pipeline.step(frame(1.0))
    assert cues.stamp == 1.0
    assert [[query.tasks for query in call] for call in engine.calls[:1]] == [[q.tasks for q in engine.calls[1]]]
    assert [person.person.track_id for person in cues.people] == [3, 4]
    assert cues.people[0].values["gesture"].age_s == 0.0


def test_without_people_the_engine_is_not_called() -> None:
    class Nobody:
        def detect(self, frame: Frame) -> Detections:
            return Detections(np.zeros((0, 4)), np.zeros(0))

    engine = FixedAnswers()
    cues = Pipeline(Nobody(), engine, CONFIG).step(frame(0.0))
    assert (cues.people, cues.pairs, engine.calls) == ((), (), [])


def test_the_observer_sees_every_frame_that_is_not_repeated() -> None:
    seen = []
    pipeline = Pipeline(TwoPeople(), FixedAnswers(), CONFIG, observer=lambda *call: seen.append(call))
    for index, stamp in enumerate((0.0, 0.05, 0.05)):
        pipeline.step(frame(stamp, index))
    assert [(call[0].index, len(call[1])) for call in seen] == [(0, 2), (1, 2)]
    _, _, queries, answers = seen[0]
    assert {task for query in queries for task in query.tasks} == set(TASKS)
    assert [tuple(answered) for answered in answers] == [query.tasks for query in queries]
    assert seen[1][2:] == ([], [])


@pytest.mark.parametrize("cue", CUES)
def test_a_cue_without_one_of_its_tasks_is_off(cue: str) -> None:
    missing = CUES[cue].main_task
    engine = FixedAnswers([task for task in TASKS if task != missing])
    pipeline = Pipeline(TwoPeople(), engine, CONFIG)
    assert pipeline.cues == tuple(name for name in CUES if name != cue)
    assert pipeline.off == {cue: f"the bundle does not answer {missing}"}
    cues = pipeline.step(frame(0.0))
    asked = {task for query in engine.calls[0] for task in query.tasks}
    published = {task for subject in (*cues.people, *cues.pairs) for task in subject.values}
    assert asked == published == set(TASKS) - set(CUES[cue].tasks)


def test_operating_points_withhold_less_certain_labels() -> None:
    for threshold, published in ((1.0, True), (1.1, False)):
        cues = Pipeline(TwoPeople(), FixedAnswers(), CONFIG, {"gesture": threshold}).step(frame(0.0))
        assert [("gesture" in person.values) for person in cues.people] == [published] * 2


def test_rates_and_switches_change_while_it_runs(parts: Parts) -> None:
    pipeline, *_ = parts
    pipeline.step(frame(0.0))
    off = CueConfig(enabled=False)
    every_frame = dataclasses.replace(CONFIG.cue("expression"), period_s=0.0)
    pipeline.configure(CONFIG.with_cues(gesture=off, relation=off, expression=every_frame))
    cues = [pipeline.step(frame(0.1 * i, i)) for i in range(1, 5)][-1]
    assert cues.pairs == () and all("gesture" not in person.values for person in cues.people)
    assert all(person.values["expression"].age_s == 0 for person in cues.people)
    pipeline.configure(CONFIG)
    again = pipeline.step(frame(0.5, 5))
    assert len(again.pairs) == 1 and "gesture" in again.people[0].values


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="not a bundle"):
        load_pipeline(tmp_path, CONFIG)


def test_a_bundle_brings_its_operating_points_and_its_unknown_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(demo_file("bundle"), tmp_path / "bundle")
    manifest = bundles.load(root).manifest
    points = {"gesture": OperatingPoint(0.4, {"precision": 0.9}, {}, {})}
    tasks = {**manifest.tasks, "hand_raised": "0123456789abcdef"}
    bundles.write(root, dataclasses.replace(manifest, operating_points=points, tasks=tasks))
    engine = SimpleNamespace(load_engine=lambda bundle, config: FixedAnswers(bundle.tasks))
    monkeypatch.setitem(sys.modules, "sf_ros.engines.fused.engine", engine)
    pipeline = load_pipeline(root, CONFIG, TwoPeople())
    assert pipeline.thresholds == {"gesture": 0.4}
    assert pipeline.cues == tuple(CUES)
    assert pipeline.off == {"hand_raised": "this installation does not know the bundle's task"}


def test_a_still_image_is_asked_everything_whatever_the_budget() -> None:
    engine = FixedAnswers()
    pipeline = Pipeline(TwoPeople(), engine, RuntimeConfig(budget_ms=0.1))
    for index in range(2):
        cues = pipeline.step(frame(index / 10, index, still=True))
        assert all(set(person.values) == {task.name for task in tasks_of("person")} for person in cues.people)
        assert set(cues.pairs[0].values) == {task.name for task in tasks_of("pair")}
        assert {value.age_s for person in cues.people for value in person.values.values()} == {0.0}


def test_a_warm_up_runs_the_models_and_leaves_no_trace() -> None:
    detector, engine = TwoPeople(), FixedAnswers()
    pipeline = Pipeline(detector, engine, RuntimeConfig())
    pipeline.warm_up(frame(5.0))
    assert (detector.calls, len(engine.calls)) == (1, 1)
    cues = pipeline.step(frame(5.0))
    assert [person.person.track_id for person in cues.people] == [1, 2]
    assert (detector.calls, len(engine.calls)) == (2, 2)
    assert engine.calls[0] == engine.calls[1]  # the same shapes


@pytest.mark.parametrize(
    ("image", "stamp", "message"),
    [
        (np.zeros((48, 64), np.uint8), 0.0, r"Frame 7: image uint8 \(48, 64\); expected RGB uint8 \(H, W, 3\)"),
        (np.zeros((48, 64, 3), np.float32), 0.0, "image float32"),
        (np.zeros((48, 64, 4), np.uint8), 0.0, r"\(48, 64, 4\)"),
        (np.zeros((0, 64, 3), np.uint8), 0.0, r"\(0, 64, 3\)"),
        (np.zeros((48, 64, 3), np.uint8), float("nan"), "stamp nan; expected seconds"),
    ],
)
def test_a_frame_that_is_no_rgb_image_in_time_is_refused(image: np.ndarray, stamp: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pipeline(TwoPeople(), FixedAnswers(), RuntimeConfig()).step(Frame(image, stamp, 7))
