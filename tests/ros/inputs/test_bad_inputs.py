"""What cameras send in the field: bad stamps, depth that cannot be used, another resolution. Needs ROS."""

from __future__ import annotations

import time
from array import array
from typing import Any

import numpy as np
import pytest

from sf_ros.core.views import resize
from sf_ros.msgs.topics import DETECTIONS, QOS
from tests.ros.rig import Rig, image_message, stamp_ns, until

pytestmark = pytest.mark.ros
COUNTED = ("frames", "dropped", "repeated", "bad_images", "failed")


def test_stamps_that_loop_are_answered_and_reported(active: Rig, images: list[np.ndarray]) -> None:
    camera, health = active.camera(), active.node._health
    active.listen("/sf_ros/persons", DETECTIONS)
    time.sleep(1.0)
    sent = [100 * 10**9 + number % 8 * 10**8 for number in range(24)]  # every 0.8 s
    for number, stamp in enumerate(sent):
        done = health.frames + health.repeated
        camera.publish(image_message(images[number], stamp))
        assert until(lambda done=done: health.frames + health.repeated > done)
    assert health.repeated <= 2 and health.frames >= 22
    assert until(lambda: len(active.received["/sf_ros/persons"]) == health.frames)
    assert {stamp_ns(message) for message in active.received["/sf_ros/persons"]} <= set(sent)
    level, message, values = health.report()
    assert level == 1 and "loop" in message and float(values["latency ms p50"]) > 0


def test_every_image_is_accounted_for(active: Rig, images: list[np.ndarray]) -> None:
    """At a rate that no computer answers, with broken images and repeated stamps among them."""
    camera, health = active.camera(), active.node._health
    for number in range(60):
        message = image_message(images[number % len(images)], 200 * 10**9 + (number - number % 10 // 9) * 10**7)
        message.step = 7 if number % 20 == 5 else message.step
        camera.publish(message)
        time.sleep(0.01)
    assert until(lambda: sum(getattr(health, name) for name in COUNTED) == 60)
    assert health.received == 60 and health.errors == 0


def test_another_resolution_gives_new_ids(active: Rig, images: list[np.ndarray]) -> None:
    """At twice the size, the boxes of some are where those of others were."""
    camera, topic = active.camera(), "/sf_ros/persons"
    active.listen(topic, DETECTIONS)
    time.sleep(1.0)
    active.show(camera, images[:6])
    active.show(camera, [resize(image, 1280, 960) for image in images[6:12]], first_s=101)
    assert until(lambda: len(active.received[topic]) == 12)
    before, after = ({d.id for m in part for d in m.detections} for part in np.split(active.received[topic], [6]))
    assert len(before) == len(after) == 3 and not before & after


@pytest.mark.parametrize("active", [{"use_depth": True}], indirect=True)
def test_depth_that_cannot_be_used_is_reported_by_topic(active: Rig, images: list[np.ndarray]) -> None:
    from sensor_msgs.msg import Image

    from sf_ros.ros.publishers import profile

    camera = active.camera()

    def reported(words: str) -> bool:
        level, message, _ = active.node._health.report()
        return level == 1 and words in message

    assert until(lambda: reported("on '/depth' (this node accepts any reliability): no publisher"))
    assert reported("on '/camera_info' (this node accepts any reliability): no publisher")
    depth = active.client.create_publisher(Image, "depth", profile(QOS["camera"]))
    flat = np.full((360, 640), 2000, np.uint16)
    data: dict[str, Any] = {"height": 360, "width": 640, "step": 1280, "encoding": "16UC1"}

    def film() -> None:
        stamp = time.time_ns()
        depth.publish(Image(header=image_message(images[0], stamp).header, data=array("B", flat.tobytes()), **data))
        camera.publish(image_message(images[0], stamp))
        time.sleep(0.2)

    assert until(lambda: film() or reported("depth is 640x360 and images 640x480: not aligned ('/depth' (this node"))
