"""vision_msgs: one Detection2DArray per cue, and the class names of each task."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from sf_ros.core import gaze
from sf_ros.core.cues import CUES, TASKS
from sf_ros.core.space import direction_sigma_rad
from sf_ros.core.types import Gaze, Gaze3D, PairCues
from sf_ros.msgs.builder import MessageSettings
from tests.msgs.frames import ANN, FULL, frame, label, on, only, person, sent

NEW_CUE = """
import json
from sf_ros.core import cues
from sf_ros.core.cues import Cue, Task
cues.TASKS["hand_raised"] = Task("hand_raised", "scenes", "person", 0, ("yes", "no"), ("Yes", "No"), "yes", "Hand up?")
cues.CUES["hand_raised"] = Cue("hand_raised", "person", "body", ("hand_raised",), "hands_raised")
cues.CUE_OF["hand_raised"] = "hand_raised"
from tests.msgs.frames import BEN, frame, label, only, person, sent
from sf_ros.msgs.topics import Names
from sf_ros.ros.diagnostics import Health
from sf_ros.ros.parameters import configs, parameters
frame_cues = frame(person(BEN, hand_raised=label("hand_raised", "yes", 0.75, 0.5)))
items = sent(frame_cues)
(detection,) = only(items, "~/hands_raised").detections
health = Health()
health.frame(frame_cues, {}, 0.1)
print(json.dumps({
    "scores": [[r.hypothesis.class_id, r.hypothesis.score] for r in detection.results],
    "box": [detection.bbox.center.position.x, detection.bbox.size_x],
    "labels": [c.class_name for c in only(items, "~/labels/hand_raised").class_map],
    "fixed": sorted(name for name in Names().fixed() if "raised" in name),
    "age": health.report()[2]["age s hand_raised"],
    "period_s": configs({"hand_raised.period_s": 0.5})[1].cue("hand_raised").period_s,
}))
"""


def test_new_cue_needs_only_its_table_entry():
    run = subprocess.run([sys.executable, "-c", NEW_CUE], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {
        "scores": [["yes", 0.75], ["no", 0.25]],
        "box": [400.0, 160.0],  # the body's
        "labels": ["yes", "no"],
        "fixed": ["~/hands_raised", "~/labels/hand_raised"],
        "age": "0.50",
        "period_s": 0.5,
    }


def test_scores_start_with_the_chosen_label():
    items = sent(FULL)
    (expression,) = only(items, "~/expressions").detections
    assert expression.id == "p00001"
    assert expression.results[0].hypothesis.class_id == "happiness"
    assert len(expression.results) == 8
    assert sum(r.hypothesis.score for r in expression.results) == pytest.approx(1.0)
    assert len(only(items, "~/gestures").detections[0].results) == 3
    looking = only(items, "~/looking_at_me").detections
    assert [d.results[0].hypothesis.class_id for d in looking] == ["no", "yes"]


def test_cues_of_the_face_have_its_box_and_others_the_bodys():
    items = sent(FULL)
    boxes = {
        name: [(d.bbox.center.position.x, d.bbox.size_x) for d in only(items, f"~/{name}").detections]
        for name in ("persons", "looking_at_me", "gestures")
    }
    assert boxes == {
        "persons": [(70, 180), (400, 160)],
        "looking_at_me": [(64, 64), (400, 160)],  # the second has no face
        "gestures": [(70, 180)],
    }


def test_gaze_target_is_a_pixel_and_names_the_person():
    (target,) = only(sent(FULL), "~/gaze_targets").detections
    assert (target.bbox.center.position.x, target.bbox.center.position.y) == pytest.approx((384, 240))
    assert (target.results[0].hypothesis.class_id, target.results[0].hypothesis.score) == ("p00002", 0.7)
    outside = sent(frame(person(ANN, gaze=Gaze((1.2, 0.5), 0.4))))
    assert only(outside, "~/gaze_targets").detections[0].results[0].hypothesis.class_id == "scene"
    assert only(outside, "/humans/faces/f00001/gaze_target").x == 1.0  # hri_msgs allows 0..1


def test_gaze_box_is_the_heatmaps_spread_and_pose_the_target():
    heatmap = gaze.encode((0.6, 0.5), 64, 3.0)
    cues = person(ANN, gaze=Gaze(gaze.decode(heatmap)[0], 1.0, heatmap))
    (flat,) = only(sent(frame(cues)), "~/gaze_targets").detections
    two_sigma = 2 * 3 / 64  # of the image's sides: the Gaussian has a sigma of 3 of 64 cells
    assert (flat.bbox.size_x / 640, flat.bbox.size_y / 480) == pytest.approx((two_sigma, two_sigma), rel=0.05)
    assert not np.any(flat.results[0].pose.covariance) and flat.results[0].pose.pose.position.z == 0  # not measured
    ahead, target, covariance = np.array([0, 0, 1.0]), np.array([0.5, 0.1, 2.0]), np.diag([0.01, 0.02, 0.03])
    gaze_3d = Gaze3D(ahead, 0.05, np.array([0.5, 0.1, 1.0]), target, covariance)
    (detection,) = only(sent(frame(replace(cues, gaze_3d=gaze_3d))), "~/gaze_targets").detections
    pose = detection.results[0].pose
    assert (pose.pose.position.x, pose.pose.position.y, pose.pose.position.z) == (0.5, 0.1, 2.0)
    assert pose.pose.orientation.w == pytest.approx(1)  # straight ahead of the head
    both = np.reshape(pose.covariance, (6, 6))
    assert both[:3, :3] == pytest.approx(covariance)
    sigma = direction_sigma_rad(gaze_3d)
    assert sigma is not None
    assert np.diag(both)[3:] == pytest.approx(np.array([1, 1, 0]) * sigma**2)


@pytest.mark.parametrize("point", [(0.01, 0.99), (0.5, 0.01), (1.2, 0.5)])
def test_gaze_box_stays_in_the_image(point: tuple[float, float]):
    heatmap = gaze.encode((min(point[0], 1.0), point[1]), 64, 3.0)
    box = only(sent(frame(person(ANN, gaze=Gaze(point, 1.0, heatmap)))), "~/gaze_targets").detections[0].bbox
    for middle, size, limit in (
        (box.center.position.x, box.size_x, 640),
        (box.center.position.y, box.size_y, 480),
    ):
        assert 0 <= middle - size / 2 <= middle + size / 2 <= limit


def test_a_cues_stamp_is_exactly_that_of_its_image():
    """Seconds as floats are exact to 0.2 us only."""
    answered, now = 1_795_580_440_872_377_326, 1_795_580_441_205_710_659
    cue = label("expression", "happiness", age_s=now * 1e-9 - answered * 1e-9)
    cues = replace(frame(person(ANN, expression=cue)), stamp=now * 1e-9)
    stamps = {round(ns * 1e-9 * 1e9): ns for ns in (answered, now)}
    items = sent(cues, stamp_of=lambda seconds: stamps[round(seconds * 1e9)])
    message = only(items, "~/expressions")
    for header, stamp in ((message.header, now), (message.detections[0].header, answered)):
        assert header.stamp.sec * 10**9 + header.stamp.nanosec == stamp


def test_relationship_has_the_scores_of_both_tasks_on_the_union_box():
    (pair,) = only(sent(FULL), "~/relationships").detections
    assert pair.id == "p00001|p00002"
    names = [r.hypothesis.class_id for r in pair.results]
    assert (names[0], names[3], len(names)) == ("domain/intimate", "relation/family", 9)
    assert (pair.bbox.size_x, pair.bbox.size_y) == (500, 432)
    assert pair.header.stamp.nanosec == 750_000_000 and pair.header.stamp.sec == 11  # the older of the two: 0.5 s


def test_pair_with_somebody_out_of_view_is_left_out():
    pair = PairCues((1, 9), {"domain": label("domain", "domain/intimate")})
    assert only(sent(frame(person(ANN), pairs=(pair,))), "~/relationships").detections == []


def test_labels_list_the_classes_in_order_with_the_cues_threshold():
    items = sent(FULL)
    for name, task in TASKS.items():
        if task.labels:
            info = only(items, f"~/labels/{name}")
            assert tuple(c.class_name for c in info.class_map) == task.labels
            assert [c.class_id for c in info.class_map] == list(range(len(task.labels)))
    assert only(items, "~/labels/looking_at_me").threshold == CUES["looking_at_me"].defaults.enter == 0.7


def test_labels_of_tasks_that_are_off_are_not_announced():
    settings = MessageSettings(label_tasks=("expression",))
    items = sent(FULL, settings)
    assert on(items, "~/labels/expression") and not on(items, "~/labels/gesture")
    assert [name for name in settings.fixed_topics() if "/labels/" in name] == ["~/labels/expression"]
