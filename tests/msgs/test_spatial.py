"""Gaze in space: a ray from calibration alone, points and TF frames only with measured depth."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core import gaze
from sf_ros.core.attention import resolve_gaze
from sf_ros.core.camera import Camera
from sf_ros.core.types import Box, FrameCues, Gaze, Label, Person, PersonCues
from sf_ros.msgs.builder import MessageSettings
from sf_ros.msgs.messages import messages
from sf_ros.msgs.topics import Names
from tests.msgs.frames import HUMBLE, JAZZY, person

CAMERA = Camera.from_info(640, 480, (500.0, 0, 320, 0, 500, 240, 0, 0, 1), (), "plumb_bob", "lens")
FACE = Box(300, 220, 340, 260)  # in the middle of the image
POINT, RAY = "/humans/faces/f00003/gaze_target_point", "/humans/faces/f00003/gaze_target_ray"


def by_topic(
    people: tuple[PersonCues, ...],
    depth: np.ndarray | None,
    store=JAZZY,
    settings: MessageSettings | None = None,
    frame_id: str = "lens",
) -> dict:
    """Messages by topic of a frame at 5 s, whose gaze is resolved as the pipeline does; all can be serialised."""
    cues = FrameCues(5.0, 0, 640, 480, resolve_gaze(people, (640, 480), CAMERA, depth, 0.35), frame_id=frame_id)
    items = messages(cues, store.types.__getitem__, settings or MessageSettings())[0]
    for item in items:
        store.serialize_cdr(item.message, item.type)
    return {item.topic: item.message for item in items}


def spatial(cues: PersonCues, depth: np.ndarray | None = None, store=JAZZY) -> tuple[dict, dict]:
    """Rays and points by topic, and transforms by child frame."""
    items = by_topic((cues,), depth, store)
    transforms = items["/tf"].transforms if "/tf" in items else []
    return (
        {topic: message for topic, message in items.items() if topic.endswith(("_ray", "_point"))},
        {transform.child_frame_id: transform for transform in transforms},
    )


def someone(face: Box | None = FACE, **values: Label | Gaze) -> PersonCues:
    return person(Person(3, FACE, 0.9, face, 0.9), **values)


def at(x: float, y: float, age_s: float = 0.0) -> Gaze:
    """A gaze with its heatmap's peak at a point."""
    return Gaze((x, y), 0.9, gaze.encode((x, y), 64, 3.0), age_s)


def flat(metres: float) -> np.ndarray:
    return np.full((480, 640), metres, np.float32)


@pytest.mark.parametrize("store", [HUMBLE, JAZZY], ids=["humble", "jazzy"])
def test_without_depth_there_is_only_a_ray(store):
    topics, transforms = spatial(someone(gaze=Gaze((0.5 + 500 / 640, 0.5), 0.9)), None, store)
    assert list(topics) == [RAY] and transforms == {}
    vector, header = topics[RAY].vector, topics[RAY].header
    assert (vector.x, vector.y, vector.z) == pytest.approx((0.5**0.5, 0, 0.5**0.5))
    assert header.frame_id == "lens" and header.stamp.sec == 5


@pytest.mark.parametrize("store", [HUMBLE, JAZZY], ids=["humble", "jazzy"])
def test_with_depth_there_are_target_and_direction(store):
    # 150 px to the right: 0.6 m at 2 m.
    topics, transforms = spatial(someone(gaze=at(470 / 640, 0.5)), flat(2.0), store)
    point = topics[POINT].point
    assert (point.x, point.y, point.z) == pytest.approx((0.6, 0, 2.0), abs=1e-6)
    assert set(transforms) == {"focus_f00003", "gaze_f00003"}
    transform = transforms["gaze_f00003"].transform
    assert transform.translation.z == pytest.approx(2.0) and transform.translation.x == pytest.approx(0)
    assert forward(transform.rotation) == pytest.approx([1, 0, 0], abs=1e-6)
    assert transforms["focus_f00003"].transform.translation.x == pytest.approx(0.6)


def test_looking_at_the_camera_has_no_target():
    cues = someone(gaze=at(0.9, 0.9), looking_at_me=Label("yes", 0.9))
    assert spatial(cues) == ({}, {})
    topics, transforms = spatial(cues, flat(2.0))
    assert topics == {} and list(transforms) == ["gaze_f00003"]
    assert forward(transforms["gaze_f00003"].transform.rotation) == pytest.approx([0, 0, -1])


def test_nothing_is_published_without_a_measurement():
    depth = flat(2.0)
    depth[:, 400:] = np.nan
    topics, transforms = spatial(someone(gaze=at(0.9, 0.5)), depth)
    assert list(topics) == [RAY] and transforms == {}
    assert spatial(someone(None, gaze=at(0.9, 0.5)), depth) == ({}, {})
    assert spatial(someone(), depth) == ({}, {})
    assert spatial(someone(gaze=at(0.9, 0.5, age_s=9.0)), depth) == ({}, {})


def test_messages_agree_on_who_is_looked_at():
    """Two faces overlap in the image, 2 m apart in depth."""
    looker = Person(1, Box(20, 120, 140, 480), 0.9, Box(50, 130, 110, 210))
    near = Person(2, Box(300, 60, 540, 480), 0.9, Box(340, 80, 460, 240))
    far = Person(3, Box(400, 90, 520, 400), 0.9, Box(430, 100, 490, 170))
    depth = flat(3.5)
    depth[80:480, 300:425] = 1.2
    heatmap = gaze.encode((442 / 640, 160 / 480), 64, 1.5)
    people = person(looker, gaze=Gaze(gaze.decode(heatmap)[0], 0.9, heatmap)), person(near), person(far)
    for measured, name, metres in ((None, "p00002", 0.0), (depth, "p00003", 3.5)):
        items = by_topic(people, measured)
        assert items["/humans/interactions/gazing"].receiver == name
        result = items["~/gaze_targets"].detections[0].results[0]
        assert result.hypothesis.class_id == name and result.pose.pose.position.z == pytest.approx(metres)


def forward(rotation) -> np.ndarray:
    """The z axis turned by a quaternion."""
    axis, w = np.array([rotation.x, rotation.y, rotation.z]), rotation.w
    z = np.array([0.0, 0.0, 1.0])
    return z + 2 * np.cross(axis, np.cross(axis, z) + w * z)


def test_frames_have_the_prefix_of_the_settings():
    settings = MessageSettings(names=Names(frames="left/"))
    looking = someone(gaze=at(0.5, 0.5))
    frames = {t.child_frame_id for t in by_topic((looking,), flat(2.0), settings=settings)["/tf"].transforms}
    assert frames == {"left/" + name for name in spatial(looking, flat(2.0))[1]} and frames


def test_without_a_named_frame_there_is_no_tf() -> None:
    """tf2 refuses a frame without a parent."""
    people = (someone(gaze=at(0.7, 0.5)),)
    assert "/tf" in by_topic(people, flat(2.0)) and "/tf" not in by_topic(people, flat(2.0), frame_id="")
