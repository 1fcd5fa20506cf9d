"""Faults of camera, images and bundle are reported, and the node keeps running. Needs ROS."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from sf_ros.core.demo import demo_file
from sf_ros.msgs.topics import QOS
from tests.manifests import edit
from tests.ros.rig import Rig, image_message, resources, until

pytestmark = pytest.mark.ros


def test_stopped_camera_is_reported_and_may_return(active: Rig, images: list[np.ndarray]) -> None:
    active.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    camera = active.camera()
    active.show(camera, images[:5])

    def level() -> int | None:
        reports = active.received["/diagnostics"]
        return reports[-1].status[0].level[0] if reports else None

    assert until(lambda: level() == 0)
    assert until(lambda: level() == 1, 6)
    assert "no image for" in active.received["/diagnostics"][-1].status[0].message
    stamp_s, end = 103, time.monotonic() + 10
    while level() != 0 and time.monotonic() < end:
        active.show(camera, images[:5], first_s=stamp_s, fps=5)
        stamp_s += 1
        time.sleep(0.5)
    assert level() == 0


@pytest.mark.parametrize("rig", [{"image_reliability": "reliable"}], indirect=True)
def test_incompatible_qos_is_reported(rig: Rig, capfd: pytest.CaptureFixture[str], images: list[np.ndarray]) -> None:
    from sensor_msgs.msg import Image

    from sf_ros.ros.publishers import profile

    camera = rig.client.create_publisher(Image, "image", profile(QOS["camera"]))
    assert rig.go("configure") and rig.go("activate")
    end, text = time.monotonic() + 10, ""
    while "No image for" not in text and time.monotonic() < end:
        camera.publish(image_message(images[0], 10**9))
        time.sleep(0.1)
        text += capfd.readouterr().err
    assert "on '/image' (this node accepts RELIABLE only): published by /client" in text
    assert "sensor_msgs/msg/Image, BEST_EFFORT" in text


def test_uncalibrated_camera_publishes_nothing_in_space(active: Rig, images: list[np.ndarray]) -> None:
    from sensor_msgs.msg import CameraInfo

    from sf_ros.ros.publishers import profile

    camera = active.camera()
    info = active.client.create_publisher(CameraInfo, "camera_info", profile(QOS["camera"]))
    assert until(lambda: info.get_subscription_count() > 0)
    info.publish(CameraInfo(width=640, height=480))
    assert until(lambda: "no calibration" in active.node._health.report()[1])
    active.show(camera, images[:8])
    names = resources(active.node)
    assert "/humans/faces/f00001/roi" in names
    assert not [name for name in names if name.endswith(("_ray", "_point"))]


def test_broken_and_repeated_images_are_skipped(active: Rig, images: list[np.ndarray]) -> None:
    camera = active.camera()
    active.show(camera, images[:3])
    broken = image_message(images[0], 101 * 10**9)
    broken.step = 7
    camera.publish(broken)
    assert until(lambda: active.node._health.bad_images == 1)
    camera.publish(image_message(images[0], 101 * 10**9))
    assert until(lambda: active.node._health.repeated == 1)
    active.show(camera, images[:2], first_s=102)
    active.show(camera, images[:2], first_s=50)  # a bag that is played again
    assert active.node._health.errors == 0


def test_cues_without_their_task_are_off_and_reported(
    rig: Rig, images: list[np.ndarray], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The demo bundle without its gesture task, and with a task that this installation does not know."""
    from rclpy.parameter import Parameter

    bundle = shutil.copytree(demo_file("bundle"), tmp_path / "bundle")

    def change(manifest: dict) -> None:
        for table in ("tasks", "prompts", "temperatures", "operating_points"):
            manifest[table].pop("gesture", None)
        manifest["tasks"]["waving"] = "0" * 16

    edit(bundle, change)
    assert rig.node.set_parameters([Parameter("bundle", value=str(bundle))])[0].successful
    rig.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    assert rig.go("configure") and rig.go("activate")
    log = capfd.readouterr().err
    assert "gesture is off: the bundle does not answer gesture." in log and "waving is off: " in log

    def values() -> dict[str, str]:
        reports = rig.received["/diagnostics"]
        return {item.key: item.value for item in reports[-1].status[0].values} if reports else {}

    assert until(lambda: {"off gesture", "off waving"} <= set(values()))
    rig.show(rig.camera(), images[:5])
    topics = resources(rig.node)
    assert "/sf_ros/gestures" in topics and "/sf_ros/labels/expression" in topics
    assert "/sf_ros/labels/gesture" not in topics
