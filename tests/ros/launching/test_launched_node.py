"""The whole launch under launch_testing, from the point of view of another node. Needs ROS."""

from __future__ import annotations

import os
import time
import unittest
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")

import launch_testing
import launch_testing.actions
import launch_testing.asserts
import rclpy
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from sf_ros.msgs.topics import QOS, TOPICS, Names
from sf_ros.ros.publishers import message_type, profile
from tests.ros.launching import workspace

pytestmark = pytest.mark.ros
WAIT_S = 90.0
NAMES = Names(node="/sf_ros")


@pytest.mark.launch_test
def generate_test_description() -> LaunchDescription:
    os.environ.update(workspace.environment())
    launch_file = PythonLaunchDescriptionSource(str(workspace.ROOT / "launch" / "perception.launch.py"))
    perception = IncludeLaunchDescription(launch_file, launch_arguments={"source": "demo"}.items())
    return LaunchDescription([perception, launch_testing.actions.ReadyToTest()])


class TestPerception(unittest.TestCase):
    """While it runs. Each test is a late subscriber."""

    def setUp(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("client")
        self.received: dict[str, list[Any]] = {}

    def tearDown(self) -> None:
        self.node.destroy_node()
        rclpy.shutdown()

    def until(self, condition: Callable[[], Any], seconds: float = WAIT_S) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s"
            rclpy.spin_once(self.node, timeout_sec=0.02)

    def listen(self, topic: str, kind: str, qos: str = "stream") -> list[Any]:
        received = self.received[topic] = []
        self.node.create_subscription(message_type(kind), topic, received.append, profile(QOS[qos]))
        return received

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.node.create_client(kind, name)
        self.until(client.service_is_ready)
        future = client.call_async(request)
        self.until(future.done)
        return future.result()

    def go(self, transition: str) -> None:
        request = ChangeState.Request()
        request.transition.id = getattr(Transition, f"TRANSITION_{transition.upper()}")
        assert self.call(ChangeState, "/sf_ros/change_state", request).success, transition

    def state(self) -> int:
        return self.call(GetState, "/sf_ros/get_state", GetState.Request()).current_state.id

    def active(self) -> None:
        self.until(lambda: self.state() == State.PRIMARY_STATE_ACTIVE)

    def test_fixed_topics_have_their_types_and_qos(self) -> None:
        self.active()
        for name, topic in NAMES.fixed(TOPICS).items():
            self.until(lambda name=name: self.node.get_publishers_info_by_topic(name), 20)
            (info,) = self.node.get_publishers_info_by_topic(name)
            assert info.topic_type == topic.type
            wanted, offered = QOS[topic.qos], info.qos_profile
            assert offered.reliability == ReliabilityPolicy[wanted.reliability.upper()], name
            assert offered.durability == DurabilityPolicy[wanted.durability.upper()], name

    def test_headers_have_the_stamps_of_images(self) -> None:
        self.active()
        images = self.listen("/camera/image_raw", "sensor_msgs/msg/Image", "camera")
        persons = self.listen("/sf_ros/persons", "vision_msgs/msg/Detection2DArray")
        self.until(lambda: len(persons) >= 20 and persons[-1].detections)
        stamps = {(m.header.stamp.sec, m.header.stamp.nanosec) for m in images}
        published = [(m.header.stamp.sec, m.header.stamp.nanosec) for m in persons if m.header.stamp.sec]
        assert len(stamps.intersection(published)) > 10
        assert published == sorted(published)
        assert {m.header.frame_id for m in persons} == {"camera"}

    def test_latched_topics_reach_late_subscribers(self) -> None:
        self.active()
        labels = self.listen("/sf_ros/labels/gesture", "vision_msgs/msg/LabelInfo", "latched")
        known = self.listen("/humans/persons/known", "hri_msgs/msg/IdsList", "latched")
        self.until(lambda: labels and known, 20)
        assert len(labels[0].class_map) == 33

    def test_parameters_are_set_within_200_ms_while_frames_flow(self) -> None:
        self.active()
        gestures = self.listen("/sf_ros/gestures", "vision_msgs/msg/Detection2DArray")
        self.until(lambda: gestures and gestures[-1].detections)
        client = self.node.create_client(SetParameters, "/sf_ros/set_parameters")
        self.until(client.service_is_ready)
        for on in (False, True):
            value = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=on)
            request = SetParameters.Request(parameters=[Parameter(name="gesture.enabled", value=value)])
            start = time.monotonic()
            future = client.call_async(request)
            self.until(future.done)
            assert time.monotonic() - start < 0.2
            assert future.result().results[0].successful
            self.until(lambda on=on: bool(gestures[-1].detections) == on)

    def test_two_lifecycle_cycles_with_a_running_camera(self) -> None:
        self.active()
        persons = self.listen("/sf_ros/persons", "vision_msgs/msg/Detection2DArray")
        for _ in range(2):
            for transition in ("deactivate", "cleanup", "configure", "activate"):
                self.go(transition)
            persons.clear()
            self.until(lambda: persons and persons[-1].detections)

    def test_diagnostics_have_rate_latency_and_ages(self) -> None:
        self.active()
        reports = self.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")

        def values() -> dict[str, str]:
            return {item.key: item.value for item in reports[-1].status[0].values} if reports else {}

        self.until(lambda: {"overhead ms p95", "age s gaze"} <= set(values()))
        assert float(values()["fps"]) > 0.0
        assert float(values()["latency ms p95"]) < 2000


@launch_testing.post_shutdown_test()
class TestAfterwards(unittest.TestCase):
    """After the launch has ended, as by Ctrl-C."""

    def test_processes_end_with_status_0_and_without_a_traceback(self, proc_info: Any, proc_output: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
        text = "".join(item.text.decode() for item in proc_output)
        assert "Traceback" not in text
        assert "Configured with bundle 'demo'" in text
