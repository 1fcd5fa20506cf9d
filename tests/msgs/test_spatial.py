"""Gaze in space: rays from calibration alone, points and frames only where depth was measured."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core import gaze
from sf_ros.core.attention import in_space
from sf_ros.core.camera import Camera
from sf_ros.core.types import Box, FrameCues, Gaze, Label, Person, PersonCues
from sf_ros.io.recorders import typestore
from sf_ros.msgs.hri import MessageSettings, messages
from sf_ros.msgs.spatial import spatial_messages

CAMERA = Camera.from_info(640, 480, (500.0, 0, 320, 0, 500, 240, 0, 0, 1), (), "plumb_bob", "lens")
FACE = Box(300, 220, 340, 260)  # in the middle of the picture
SETTINGS = MessageSettings()


@pytest.fixture(scope="module", params=[False, True], ids=["jazzy", "humble"])
def store(request: pytest.FixtureRequest):
    return typestore(humble=request.param)


def frame(**cues) -> FrameCues:
    return FrameCues(5.0, 0, 640, 480, (PersonCues(Person(3, FACE, 0.9, cues.pop("face", FACE), 0.9), **cues),))


def header(store):
    stamp = store.types["builtin_interfaces/msg/Time"](sec=5, nanosec=0)
    return store.types["std_msgs/msg/Header"](stamp=stamp, frame_id="lens")


def built(store, cues: FrameCues, depth: np.ndarray | None = None):
    cues, spaces = in_space(cues, CAMERA, depth, SETTINGS.looking_min)
    out = spatial_messages(cues, store.types.__getitem__, SETTINGS, spaces, header(store))
    for item in out:
        assert store.deserialize_cdr(store.serialize_cdr(item.message, item.type), item.type) == item.message
    topics = {item.topic: item.message for item in out}
    transforms = topics.pop("/tf").transforms if "/tf" in topics else []
    return topics, {transform.child_frame_id: transform for transform in transforms}


def at(x: float, y: float, age_s: float = 0.0) -> Gaze:
    """A look at a point, by a map that has its peak there."""
    return Gaze((x, y), 0.9, gaze.encode((x, y), 64, 3.0), age_s)


def flat(metres: float) -> np.ndarray:
    return np.full((480, 640), metres, np.float32)


def test_without_depth_there_is_a_ray_and_nothing_else(store) -> None:
    topics, frames = built(store, frame(gaze=Gaze((0.5 + 500 / 640, 0.5), 0.9)))
    (ray,) = topics.values()
    assert list(topics) == ["/humans/faces/f00003/gaze_target_ray"] and frames == {}
    assert (ray.vector.x, ray.vector.y, ray.vector.z) == pytest.approx((0.5**0.5, 0, 0.5**0.5))
    assert ray.header.frame_id == "lens" and ray.header.stamp.sec == 5


def test_with_depth_there_is_the_target_and_the_way_to_it(store) -> None:
    depth = flat(2.0)
    topics, frames = built(store, frame(gaze=at(470 / 640, 0.5)), depth)  # 150 px to the right: 0.6 m at 2 m
    point = topics["/humans/faces/f00003/gaze_target_point"].point
    assert (point.x, point.y, point.z) == pytest.approx((0.6, 0, 2.0), abs=1e-6)
    assert set(frames) == {"focus_f00003", "gaze_f00003"}
    gaze = frames["gaze_f00003"].transform
    assert gaze.translation.z == pytest.approx(2.0) and gaze.translation.x == pytest.approx(0)
    assert forward(gaze.rotation) == pytest.approx([1, 0, 0], abs=1e-6)
    assert frames["focus_f00003"].transform.translation.x == pytest.approx(0.6)


def test_who_looks_at_the_camera_has_a_gaze_towards_it_and_no_target(store) -> None:
    cues = frame(gaze=at(0.9, 0.9), looking_at_me=Label("yes", 0.9))
    assert built(store, cues) == ({}, {})
    topics, frames = built(store, cues, flat(2.0))
    assert topics == {} and list(frames) == ["gaze_f00003"]
    assert forward(frames["gaze_f00003"].transform.rotation) == pytest.approx([0, 0, -1])


def test_where_nothing_was_measured_nothing_is_said(store) -> None:
    depth = flat(2.0)
    depth[:, 400:] = np.nan
    topics, frames = built(store, frame(gaze=at(0.9, 0.5)), depth)
    assert list(topics) == ["/humans/faces/f00003/gaze_target_ray"] and frames == {}
    assert built(store, frame(gaze=at(0.9, 0.5), face=None), depth) == ({}, {})
    assert built(store, frame(), depth) == ({}, {})
    assert built(store, frame(gaze=at(0.9, 0.5, 9.0)), depth) == ({}, {})


def test_who_is_looked_at_in_space_is_who_the_messages_name(store) -> None:
    """Two faces overlap in the picture, 2 m apart in depth: `gazing`, the arrays and the point agree."""
    looker = Person(1, Box(20, 120, 140, 480), 0.9, Box(50, 130, 110, 210))
    near = Person(2, Box(300, 60, 540, 480), 0.9, Box(340, 80, 460, 240))
    far = Person(3, Box(400, 90, 520, 400), 0.9, Box(430, 100, 490, 170))
    depth = flat(3.5)
    depth[80:480, 300:425] = 1.2
    heatmap = gaze.encode((442 / 640, 160 / 480), 64, 1.5)
    look = Gaze(gaze.decode(heatmap)[0], 0.9, heatmap, target_id=2)  # what the picture says
    people = PersonCues(looker, look), PersonCues(near), PersonCues(far)
    cues = FrameCues(5.0, 0, 640, 480, people)
    for given, name, metres in ((None, "p00002", 0.0), (depth, "p00003", 3.5)):
        told, spaces = in_space(cues, CAMERA, given, SETTINGS.looking_min)
        sent = messages(told, store.types.__getitem__, SETTINGS, spaces=spaces)[0]
        by_topic = {item.topic: item.message for item in sent}
        assert by_topic["/humans/interactions/gazing"].receiver == name
        result = by_topic["~/gaze_targets"].detections[0].results[0]
        assert result.hypothesis.class_id == name and result.pose.pose.position.z == pytest.approx(metres)


def forward(rotation) -> np.ndarray:
    axis, w = np.array([rotation.x, rotation.y, rotation.z]), rotation.w
    z = np.array([0.0, 0.0, 1.0])
    return z + 2 * np.cross(axis, np.cross(axis, z) + w * z)
