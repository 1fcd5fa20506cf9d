"""Gaze in space: rays from calibration alone, points and frames only where depth was measured."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core.camera import Camera
from sf_ros.core.types import Box, FrameCues, Gaze, Label, Person, PersonCues
from sf_ros.messages import MessageSettings
from sf_ros.ros.spatial import spatial_messages
from sf_ros.runtime.recorders import typestore

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
    out = spatial_messages(cues, store.types.__getitem__, SETTINGS, CAMERA, depth, header(store))
    for item in out:
        assert store.deserialize_cdr(store.serialize_cdr(item.message, item.type), item.type) == item.message
    topics = {item.topic: item.message for item in out}
    transforms = topics.pop("/tf").transforms if "/tf" in topics else []
    return topics, {transform.child_frame_id: transform for transform in transforms}


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
    topics, frames = built(store, frame(gaze=Gaze((470 / 640, 0.5), 0.9)), depth)  # 150 px to the right: 0.6 m at 2 m
    point = topics["/humans/faces/f00003/gaze_target_point"].point
    assert (point.x, point.y, point.z) == pytest.approx((0.6, 0, 2.0), abs=1e-6)
    assert set(frames) == {"focus_f00003", "gaze_f00003"}
    gaze = frames["gaze_f00003"].transform
    assert gaze.translation.z == pytest.approx(2.0) and gaze.translation.x == pytest.approx(0)
    assert forward(gaze.rotation) == pytest.approx([1, 0, 0], abs=1e-6)
    assert frames["focus_f00003"].transform.translation.x == pytest.approx(0.6)


def test_who_looks_at_the_camera_has_a_gaze_towards_it_and_no_target(store) -> None:
    cues = frame(gaze=Gaze((0.9, 0.9), 0.9), looking_at_me=Label("yes", 0.9))
    assert built(store, cues) == ({}, {})
    topics, frames = built(store, cues, flat(2.0))
    assert topics == {} and list(frames) == ["gaze_f00003"]
    assert forward(frames["gaze_f00003"].transform.rotation) == pytest.approx([0, 0, -1])


def test_where_nothing_was_measured_nothing_is_said(store) -> None:
    depth = flat(2.0)
    depth[:, 400:] = np.nan
    topics, frames = built(store, frame(gaze=Gaze((0.9, 0.5), 0.9)), depth)
    assert list(topics) == ["/humans/faces/f00003/gaze_target_ray"] and frames == {}
    assert built(store, frame(gaze=Gaze((0.9, 0.5), 0.9), face=None), depth) == ({}, {})
    assert built(store, frame(), depth) == ({}, {})
    assert built(store, frame(gaze=Gaze((0.9, 0.5), 0.9, age_s=9.0)), depth) == ({}, {})


def forward(rotation) -> np.ndarray:
    axis, w = np.array([rotation.x, rotation.y, rotation.z]), rotation.w
    z = np.array([0.0, 0.0, 1.0])
    return z + 2 * np.cross(axis, np.cross(axis, z) + w * z)
