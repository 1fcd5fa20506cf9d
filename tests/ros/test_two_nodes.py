"""Two nodes on one robot, each with a namespace and a humans_ns of its own. Needs ROS."""

from __future__ import annotations

import time
from array import array
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from sf_ros.msgs.topics import QOS
from tests.ros.rig import Rig, image_message, until

pytestmark = pytest.mark.ros
SIDES = ("left", "right")


@pytest.fixture
def rigs() -> Iterator[list[Rig]]:
    """A node in each namespace, in one domain."""
    made: list[Rig] = []
    try:
        for side in SIDES:
            rig = Rig(
                namespace=side, domain=made[0].domain if made else None, use_depth=True, humans_ns=f"/{side}/humans"
            )
            made.append(rig)
            assert rig.go("configure") and rig.go("activate")
        yield made
    finally:
        for rig in made:
            rig.close()


def test_every_frame_has_one_parent(rigs: list[Rig], images: list[np.ndarray]) -> None:
    """The same people before both cameras: both nodes call them f00001 to f00003."""
    parents = defaultdict(set)
    rigs[0].listen("/tf", "tf2_msgs/msg/TFMessage", "tf")
    cameras = [Camera(rig, side) for rig, side in zip(rigs, SIDES, strict=True)]
    for number, image in enumerate(images[:12]):
        for camera in cameras:
            camera.show(image, 100 * 10**9 + number * 66_000_000)

    def children() -> set[str]:
        for message in list(rigs[0].received["/tf"]):
            for transform in message.transforms:
                parents[transform.child_frame_id].add(transform.header.frame_id)
        return {name.split("/")[0] for name in parents}

    assert until(lambda: children() == set(SIDES)), parents
    assert all(len(of) == 1 for of in parents.values()), parents
    assert all(of == {f"{child.split('/')[0]}_lens"} for child, of in parents.items())
    topics = dict(rigs[0].client.get_topic_names_and_types())
    assert "/left/humans/faces/f00001/roi" in topics and "/right/humans/faces/f00001/roi" in topics
    assert not any(name.startswith("/humans/") for name in topics)


class Camera:
    """A calibrated camera with depth in one namespace."""

    def __init__(self, rig: Rig, side: str) -> None:
        from sensor_msgs.msg import CameraInfo, Image

        from sf_ros.ros.publishers import profile

        self._rig, self._frame = rig, f"{side}_lens"
        self._image, self._depth, info = (
            rig.client.create_publisher(kind, f"/{side}/{name}", profile(QOS["camera"]))
            for kind, name in ((Image, "image"), (Image, "depth"), (CameraInfo, "camera_info"))
        )
        assert until(lambda: all(p.get_subscription_count() for p in (self._image, self._depth, info)))
        matrix = [500.0, 0, 320, 0, 500, 240, 0, 0, 1]
        info.publish(
            CameraInfo(header=self._of(100 * 10**9), width=640, height=480, distortion_model="plumb_bob", k=matrix)
        )
        time.sleep(0.3)

    def show(self, image: np.ndarray, stamp: int) -> None:
        from sensor_msgs.msg import Image

        frames = self._rig.node._health.frames
        flat = array("B", np.full((480, 640), 2000, np.uint16).tobytes())  # millimetres
        data = {"height": 480, "width": 640, "step": 1280, "encoding": "16UC1", "data": flat}
        self._depth.publish(Image(header=self._of(stamp), **data))
        time.sleep(0.02)
        message = image_message(image, stamp)
        message.header.frame_id = self._frame
        self._image.publish(message)
        assert until(lambda: self._rig.node._health.frames > frames)

    def _of(self, stamp: int) -> Any:
        header = image_message(np.zeros((2, 2, 3), np.uint8), stamp).header
        header.frame_id = self._frame
        return header
