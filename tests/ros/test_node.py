"""The lifecycle node against a real ROS 2: topics, stamps, lifecycle, parameters, faults. Needs ROS."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Frame
from sf_ros.io.recorders import open_recorders, typestore
from sf_ros.io.sources import VideoSource, demo_file
from sf_ros.msgs.hri import TopicMessage
from sf_ros.msgs.images import from_rgb, to_jpeg
from sf_ros.msgs.topics import QOS, TOPICS, Topic
from sf_ros.perception.pipeline import load_pipeline
from sf_ros.ros.diagnostics import memory_mb

pytestmark = pytest.mark.ros
FIRST, FRAMES = 60, 40
WAIT_S = 20.0


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Frames of the demo clip in which somebody looks into the camera and everybody has a gesture."""
    with VideoSource(demo_file("clip.mp4")) as source:
        return [frame.image for frame in itertools.islice(source, FIRST, FIRST + FRAMES)]


class Rig:
    """The node, and a client that is its camera and its audience, spun by a thread."""

    def __init__(self, **parameters: Any) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.parameter import Parameter

        from sf_ros.ros.node import PerceptionNode

        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = PerceptionNode(context=self.context, parameter_overrides=overrides)
        self.client = rclpy.create_node("audience", context=self.context)
        self.executors = [SingleThreadedExecutor(context=self.context) for _ in range(2)]
        self.threads = []
        for executor, node in zip(self.executors, (self.node, self.client), strict=True):
            executor.add_node(node)
            self.threads.append(threading.Thread(target=executor.spin, daemon=True))
            self.threads[-1].start()
        self.got: dict[str, list[Any]] = defaultdict(list)

    def close(self) -> None:
        self.node.close()
        for executor in self.executors:
            executor.shutdown()
        for thread in self.threads:
            thread.join(5)
        self.node.destroy_node()
        self.client.destroy_node()
        self.context.try_shutdown()

    def go(self, transition: str) -> bool:
        """Ask for a transition by the service, as others do; whether it succeeded."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request()
        request.transition.id = getattr(Transition, f"TRANSITION_{transition.upper()}")
        return self.call(ChangeState, "/sf_ros/change_state", request).success

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.client.create_client(kind, name)
        assert client.wait_for_service(WAIT_S)
        future = client.call_async(request)
        assert until(future.done, 60), f"no answer from {name}"
        self.client.destroy_client(client)
        return future.result()

    def listen(self, topic: str, kind: str, qos: str = "stream", raw: bool = False) -> None:
        from sf_ros.ros.publishers import message_type, profile

        self.client.create_subscription(message_type(kind), topic, self.got[topic].append, profile(QOS[qos]), raw=raw)

    def camera(self, kind: str = "sensor_msgs/msg/Image", topic: str = "image") -> Any:
        from sf_ros.ros.publishers import message_type, profile

        publisher = self.client.create_publisher(message_type(kind), topic, profile(QOS["camera"]))
        assert until(lambda: publisher.get_subscription_count() > 0)
        return publisher

    def show(self, camera: Any, pictures: list[np.ndarray], first_s: int = 100, fps: float = 15.0) -> list[int]:
        """Publish pictures with stamps of their own, each when the node has done the last; the stamps in ns."""
        stamps = []
        for number, picture in enumerate(pictures):
            stamps.append(first_s * 10**9 + round(number * 1e9 / fps))
            done = self.node._health.frames
            camera.publish(image(picture, stamps[-1]))
            assert until(lambda done=done: self.node._health.frames > done), f"frame {number} was lost"
        return stamps


def image(picture: np.ndarray, stamp_ns: int, jpeg: bool = False) -> Any:
    from sensor_msgs.msg import CompressedImage, Image
    from std_msgs.msg import Header

    header = Header(frame_id="lens")
    header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, 10**9)
    return to_jpeg(CompressedImage, header, picture) if jpeg else from_rgb(Image, header, picture)


def until(condition: Callable[[], Any], seconds: float = WAIT_S) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


def belongings(node: Any) -> list[str]:
    """Topics that a node publishes or subscribes to, and its timers: asked of itself, for the graph may lag."""
    timers = [f"timer of {timer.timer_period_ns} ns" for timer in node.timers]
    return sorted([*(p.topic_name for p in node.publishers), *(s.topic_name for s in node.subscriptions), *timers])


def stamp_ns(message: Any) -> int:
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


@pytest.fixture
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig(**getattr(request, "param", {}))
    yield made
    made.close()


@pytest.fixture
def active(rig: Rig) -> Rig:
    assert rig.go("configure") and rig.go("activate")
    return rig


def test_frames_come_out_as_topics_with_the_images_own_stamps(active: Rig, pictures: list[np.ndarray]) -> None:
    camera = active.camera()
    aggregates = ("persons", "gaze_targets", "looking_at_me", "expressions", "gestures", "relationships")
    for name in aggregates:
        active.listen(f"/sf_ros/{name}", "vision_msgs/msg/Detection2DArray")
    active.listen("/humans/faces/tracked", "hri_msgs/msg/IdsList")
    active.listen("/humans/persons/tracked", "hri_msgs/msg/IdsList", "latched")
    active.listen("/humans/candidate_matches", "hri_msgs/msg/IdsMatch")
    time.sleep(1.0)  # discovery
    stamps = active.show(camera, pictures)
    for name in aggregates:
        topic = f"/sf_ros/{name}"
        assert until(lambda topic=topic: len(active.got[topic]) == FRAMES)
        assert [stamp_ns(message) for message in active.got[topic]] == stamps
        assert {message.header.frame_id for message in active.got[topic]} == {"lens"}
    assert len(active.got["/sf_ros/persons"][-1].detections) == 3
    assert active.got["/sf_ros/expressions"][-1].detections[0].results[0].hypothesis.class_id
    types = dict(active.client.get_topic_names_and_types())
    for name in ("faces/f00001/roi", "bodies/b00001/gesture", "persons/p00001/face_id", "faces/f00001/expression"):
        assert f"/humans/{name}" in types
    fixed = {
        topic.name.format(humans="/humans", node="/sf_ros"): topic
        for topic in TOPICS.values()
        if "{id}" not in topic.name
    }
    assert all(types[name] == [topic.type] for name, topic in fixed.items())


@pytest.mark.parametrize("rig", [{"budget_ms": 1e6}], indirect=True)
def test_the_node_says_what_perceive_records_of_the_same_frames(
    active: Rig, pictures: list[np.ndarray], tmp_path: Path
) -> None:
    """Bag against bag, with a budget for everything that is due, so that no measured time decides what is asked."""
    camera = active.camera()
    topics = {
        f"/sf_ros/{name}": "vision_msgs/msg/Detection2DArray"
        for name in ("persons", "gaze_targets", "looking_at_me", "expressions", "gestures", "relationships")
    } | {"/humans/faces/tracked": "hri_msgs/msg/IdsList", "/humans/interactions/gazing": "hri_msgs/msg/Gaze"}
    for topic, kind in topics.items():
        active.listen(topic, kind, raw=True)
    time.sleep(1.0)
    stamps = active.show(camera, pictures)
    arrays = [topic for topic in topics if not topic.endswith("gazing")]
    assert until(lambda: all(len(active.got[topic]) == FRAMES for topic in arrays))
    write_bag(tmp_path / "node", topics, active.got)

    pipeline = load_pipeline(None, RuntimeConfig(budget_ms=1e6))
    with open_recorders(tmp_path / "perceive", 15) as recording:
        for index, (picture, stamp) in enumerate(zip(pictures, stamps, strict=True)):
            frame = Frame(picture, stamp * 1e-9, index, "lens")
            recording.write(frame, pipeline.step(frame))
    ours, theirs = read_bag(tmp_path / "perceive" / "bag"), read_bag(tmp_path / "node")
    assert set(theirs) == set(topics) <= set(ours)
    for topic in topics:
        assert [content(m) for m in ours[topic]] == [content(m) for m in theirs[topic]], topic


def test_only_what_somebody_listens_to_is_built(rig: Rig) -> None:
    """Latched topics speak to those who come later, too."""
    from std_msgs.msg import String

    from sf_ros.ros.publishers import Publishers

    kind, built = "std_msgs/msg/String", []

    def item(topic: str, qos: str = "stream", subject: str = "") -> TopicMessage:
        return TopicMessage(topic, kind, lambda: built.append(topic) or String(), qos, subject)

    fixed = {"/heard": Topic("/heard", kind), "/unheard": Topic("/unheard", kind)}
    outputs = Publishers(rig.node, fixed | {"/kept": Topic("/kept", kind, "latched")}, 1, 1.0)
    rig.listen("/heard", kind)
    assert until(lambda: outputs.wanted("/heard"))
    outputs.send([item("/heard"), item("/unheard"), item("/kept", "latched"), item("/a/box", subject="a")], ["a"], 0.0)
    assert built == ["/heard", "/kept"]
    assert until(lambda: len(rig.got["/heard"]) == 1)
    rig.listen("/kept", kind, "latched")
    rig.listen("/a/box", kind)
    assert until(lambda: len(rig.got["/kept"]) == 1)
    assert until(lambda: rig.node.count_subscribers("/a/box"))
    assert until(lambda: outputs.send([item("/a/box", subject="a")], ["a"], 0.1) or rig.got["/a/box"])
    outputs.close()


def write_bag(folder: Path, topics: dict[str, str], serialised: dict[str, list[bytes]]) -> None:
    """What `ros2 bag record` keeps of topics: their messages as they came over the wire."""
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind in topics.items():
            connection = writer.add_connection(topic, kind, typestore=typestore())
            for number, data in enumerate(serialised[topic]):
                writer.write(connection, number, data)


def read_bag(folder: Path) -> dict[str, list[Any]]:
    """Topic -> messages."""
    found: dict[str, list[Any]] = defaultdict(list)
    with AnyReader([folder], default_typestore=typestore()) as reader:
        for connection, _, data in reader.messages():
            found[connection.topic].append(reader.deserialize(data, connection.msgtype))
    return found


def content(message: Any) -> list[Any]:
    """What a message says besides its stamp; the numbers of a Detection2DArray as exact as float64 is."""
    if not hasattr(message, "detections"):
        return [getattr(message, name) for name in ("ids", "sender", "receiver") if hasattr(message, name)]
    return [
        (
            *(found.id, round(found.bbox.center.position.x, 3), round(found.bbox.size_y, 3)),
            [(r.hypothesis.class_id, pytest.approx(r.hypothesis.score, abs=1e-6)) for r in found.results],
            found.header.stamp.sec,
        )
        for found in message.detections
    ]


def test_latched_topics_reach_those_who_come_late(active: Rig, pictures: list[np.ndarray]) -> None:
    active.show(active.camera(), pictures[:10])
    active.listen("/sf_ros/labels/expression", "vision_msgs/msg/LabelInfo", "latched")
    active.listen("/humans/persons/p00001/face_id", "std_msgs/msg/String", "latched")
    active.listen("/humans/persons/p00001/anonymous", "std_msgs/msg/Bool", "latched")
    assert until(lambda: active.got["/sf_ros/labels/expression"])
    assert len(active.got["/sf_ros/labels/expression"][0].class_map) == 8
    assert until(lambda: active.got["/humans/persons/p00001/face_id"])
    assert active.got["/humans/persons/p00001/face_id"][-1].data == "f00001"
    assert until(lambda: active.got["/humans/persons/p00001/anonymous"])


def test_an_empty_room_gives_empty_lists_and_topics_vanish(active: Rig, pictures: list[np.ndarray]) -> None:
    camera = active.camera()
    active.listen("/sf_ros/persons", "vision_msgs/msg/Detection2DArray")
    active.listen("/humans/bodies/tracked", "hri_msgs/msg/IdsList")
    time.sleep(1.0)
    active.show(camera, pictures[:10])
    empty = [np.full((480, 640, 3), 90, np.uint8)] * 40
    active.show(camera, empty, first_s=101)
    assert until(lambda: len(active.got["/sf_ros/persons"]) == 50)
    assert active.got["/sf_ros/persons"][-1].detections == [] and active.got["/humans/bodies/tracked"][-1].ids == []

    def gone() -> bool:
        return not any("/faces/f0" in name or "/bodies/b0" in name for name in belongings(active.node))

    assert until(gone)


def test_two_cycles_leave_nothing_behind(rig: Rig, pictures: list[np.ndarray]) -> None:
    before, sizes = belongings(rig.node), []
    assert "/diagnostics" in before
    for cycle in range(3):
        assert rig.go("configure") and rig.go("activate")
        camera = rig.camera()
        rig.show(camera, pictures[:10])
        rig.client.destroy_publisher(camera)
        assert rig.go("deactivate") and rig.go("cleanup"), cycle
        assert belongings(rig.node) == before
        assert not [t for t in threading.enumerate() if t.name == "perception"]
        sizes.append(memory_mb()["resident"])
    assert sizes[2] - sizes[1] < 60, sizes  # the first cycle loads the libraries


def test_a_transition_that_the_state_does_not_allow_is_refused_and_the_node_lives_on(rig: Rig) -> None:
    assert not rig.go("activate")
    assert not rig.go("cleanup")
    assert rig.go("configure") and not rig.go("configure")
    assert rig.go("activate") and not rig.go("activate")


@pytest.mark.parametrize("rig", [{"bundle": "/nowhere/at/all"}], indirect=True)
def test_a_bad_bundle_is_a_failure_and_the_node_lives_on(rig: Rig) -> None:
    assert not rig.go("configure")
    from rclpy.parameter import Parameter

    assert rig.node.set_parameters([Parameter("bundle", value="")])[0].successful
    assert rig.go("configure")


def test_parameters_answer_while_frames_flow_and_take_effect(active: Rig, pictures: list[np.ndarray]) -> None:
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters

    camera, stop = active.camera(), threading.Event()
    active.listen("/sf_ros/gestures", "vision_msgs/msg/Detection2DArray")

    def film() -> None:
        number = 0
        while not stop.is_set():
            camera.publish(image(pictures[number % FRAMES], 200 * 10**9 + number * 33_000_000))
            number += 1
            time.sleep(1 / 30)

    thread = threading.Thread(target=film)
    thread.start()
    try:
        assert until(lambda: active.got["/sf_ros/gestures"] and active.got["/sf_ros/gestures"][-1].detections)
        client = active.client.create_client(SetParameters, "/sf_ros/set_parameters")
        assert client.wait_for_service(WAIT_S)
        waits = []
        for value in (True, False):
            setting = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=value)
            request = SetParameters.Request(parameters=[Parameter(name="gesture.enabled", value=setting)])
            start = time.monotonic()
            future = client.call_async(request)
            assert until(future.done, 5)
            waits.append(time.monotonic() - start)
            assert future.result().results[0].successful
        assert max(waits) < 0.2, waits
        assert until(lambda: not active.got["/sf_ros/gestures"][-1].detections)
        assert active.node._health.dropped > 0 and active.node._health.errors == 0
    finally:
        stop.set()
        thread.join()


def test_parameters_that_cannot_be_are_refused_with_a_reason(active: Rig) -> None:
    from rclpy.parameter import Parameter

    def reason(name: str, value: Any) -> str:
        (result,) = active.node.set_parameters([Parameter(name, value=value)])
        assert not result.successful
        return result.reason

    assert "clean it up first" in reason("bundle", "/other")
    assert "above enter" in reason("gaze.leave", 0.9)
    assert reason("gaze.period_s", 1e9)
    assert active.node.set_parameters([Parameter("gaze.period_s", value=0.7)])[0].successful


def test_a_camera_that_stops_is_named_and_may_return(active: Rig, pictures: list[np.ndarray]) -> None:
    active.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    camera = active.camera()
    active.show(camera, pictures[:5])

    def level() -> int | None:
        reports = active.got["/diagnostics"]
        return reports[-1].status[0].level[0] if reports else None

    assert until(lambda: level() == 0)
    assert until(lambda: level() == 1, 6)
    assert "no image for" in active.got["/diagnostics"][-1].status[0].message
    active.show(camera, pictures[:5], first_s=300)
    end = time.monotonic() + 6
    while level() != 0 and time.monotonic() < end:
        active.show(camera, pictures[:1], first_s=round(time.monotonic() * 1000))
        time.sleep(0.2)
    assert level() == 0


@pytest.mark.parametrize("rig", [{"image_reliability": "reliable"}], indirect=True)
def test_a_camera_of_another_reliability_is_named_with_its_qos(
    rig: Rig, capfd: pytest.CaptureFixture[str], pictures: list[np.ndarray]
) -> None:
    from sensor_msgs.msg import Image

    from sf_ros.ros.publishers import profile

    camera = rig.client.create_publisher(Image, "image", profile(QOS["camera"]))
    assert rig.go("configure") and rig.go("activate")
    end, text = time.monotonic() + 10, ""
    while "No image for" not in text and time.monotonic() < end:
        camera.publish(image(pictures[0], 10**9))
        time.sleep(0.1)
        text += capfd.readouterr().err
    assert "on '/image' (this node takes RELIABLE ones only): published by /audience" in text
    assert "sensor_msgs/msg/Image, BEST_EFFORT" in text


@pytest.mark.parametrize("rig", [{"persons": "external"}], indirect=True)
def test_person_ids_of_somebody_else_are_used(active: Rig, pictures: list[np.ndarray]) -> None:
    from hri_msgs.msg import IdsList
    from std_msgs.msg import String

    from sf_ros.ros.publishers import profile

    camera = active.camera()
    active.listen("/sf_ros/persons", "vision_msgs/msg/Detection2DArray")
    latched = profile(QOS["latched"])
    tracked = active.client.create_publisher(IdsList, "/humans/persons/tracked", latched)
    face = active.client.create_publisher(String, "/humans/persons/anna/face_id", latched)
    tracked.publish(IdsList(ids=["anna"]))
    face.publish(String(data="f00001"))
    assert until(lambda: active.node._external.of([1]) == {1: "anna"})
    active.show(camera, pictures[:10])
    assert until(lambda: len(active.got["/sf_ros/persons"]) == 10)
    ids = {detection.id for detection in active.got["/sf_ros/persons"][-1].detections}
    assert ids == {"anna", "b00002", "b00003"}  # whom nobody named goes by the body's id
    ours = [publisher.topic_name for publisher in active.node.publishers]
    assert "/humans/faces/f00001/roi" in ours
    assert not [name for name in ours if name.startswith("/humans/persons/")]
    tracked.publish(IdsList(ids=[]))
    assert until(lambda: active.node._external.of([1]) == {})


@pytest.mark.parametrize("rig", [{"use_depth": True}], indirect=True)
def test_a_calibrated_camera_with_depth_gives_targets_in_space(active: Rig, pictures: list[np.ndarray]) -> None:
    from sensor_msgs.msg import CameraInfo, Image

    from sf_ros.ros.publishers import profile

    camera = active.camera()
    info = active.client.create_publisher(CameraInfo, "camera_info", profile(QOS["camera"]))
    depth = active.client.create_publisher(Image, "depth", profile(QOS["camera"]))
    assert until(lambda: info.get_subscription_count() and depth.get_subscription_count())
    faces = [f"f0000{number}" for number in (1, 2, 3)]
    for face in faces:
        active.listen(f"/humans/faces/{face}/gaze_target_point", "geometry_msgs/msg/PointStamped")
        active.listen(f"/humans/faces/{face}/gaze_target_ray", "geometry_msgs/msg/Vector3Stamped")
    active.listen("/sf_ros/gaze_targets", "vision_msgs/msg/Detection2DArray")
    active.listen("/tf", "tf2_msgs/msg/TFMessage")
    time.sleep(1.0)
    header = image(pictures[0], 10**9).header
    matrix = [500.0, 0, 320, 0, 500, 240, 0, 0, 1]
    info.publish(CameraInfo(header=header, width=640, height=480, distortion_model="plumb_bob", k=matrix))
    assert until(lambda: active.node._worker.camera is not None)
    for number, picture in enumerate(pictures[:20]):
        done, stamp = active.node._health.frames, 100 * 10**9 + number * 66_000_000
        flat = np.full((480, 640), 2000, np.uint16)  # millimetres
        data = {"height": 480, "width": 640, "step": 1280, "encoding": "16UC1", "data": array("B", flat.tobytes())}
        depth.publish(Image(header=image(picture, stamp).header, **data))
        time.sleep(0.02)
        camera.publish(image(picture, stamp))
        assert until(lambda done=done: active.node._health.frames > done)
    points = {face: active.got[f"/humans/faces/{face}/gaze_target_point"] for face in faces}
    assert until(lambda: any(points.values()) and active.got["/tf"])
    face = next(face for face in faces if points[face])  # the others may look into the camera
    point = points[face][-1]
    assert point.point.z == pytest.approx(2.0) and point.header.frame_id == "lens"
    targets = [d for m in active.got["/sf_ros/gaze_targets"] for d in m.detections if d.results[0].pose.pose.position.z]
    covariance = np.reshape(targets[-1].results[0].pose.covariance, (6, 6))
    assert np.linalg.eigvalsh(covariance[:3, :3]).min() > 1e-4  # a centimetre at least, each way
    assert 10 < targets[-1].bbox.size_x < 640
    ray = active.got[f"/humans/faces/{face}/gaze_target_ray"][-1].vector
    assert ray.x**2 + ray.y**2 + ray.z**2 == pytest.approx(1.0)
    frames = {transform.child_frame_id for message in active.got["/tf"] for transform in message.transforms}
    assert {f"focus_{face}", f"gaze_{face}"} <= frames
    assert {transform.header.frame_id for message in active.got["/tf"] for transform in message.transforms} == {"lens"}


def test_an_uncalibrated_camera_is_told_and_nothing_is_faked(active: Rig, pictures: list[np.ndarray]) -> None:
    from sensor_msgs.msg import CameraInfo

    from sf_ros.ros.publishers import profile

    camera = active.camera()
    info = active.client.create_publisher(CameraInfo, "camera_info", profile(QOS["camera"]))
    assert until(lambda: info.get_subscription_count() > 0)
    info.publish(CameraInfo(width=640, height=480))
    assert until(lambda: "no calibration" in active.node._health.note)
    active.show(camera, pictures[:8])
    names = belongings(active.node)
    assert "/humans/faces/f00001/roi" in names
    assert not [name for name in names if name.endswith(("_ray", "_point"))]


def test_broken_and_repeated_images_are_counted_and_skipped(active: Rig, pictures: list[np.ndarray]) -> None:
    camera = active.camera()
    active.show(camera, pictures[:3])
    broken = image(pictures[0], 101 * 10**9)
    broken.step = 7
    camera.publish(broken)
    assert until(lambda: active.node._health.bad_images == 1)
    camera.publish(image(pictures[0], 101 * 10**9))
    assert until(lambda: active.node._health.repeated == 1)
    active.show(camera, pictures[:2], first_s=102)
    active.show(camera, pictures[:2], first_s=50)  # a bag that starts again
    assert active.node._health.errors == 0


@pytest.mark.parametrize("rig", [{"compressed": True, "persons": "off", "humans_ns": "/left/humans"}], indirect=True)
def test_compressed_images_and_another_namespace(active: Rig, pictures: list[np.ndarray]) -> None:
    camera = active.camera("sensor_msgs/msg/CompressedImage", "image/compressed")
    for number, picture in enumerate(pictures[:8]):
        done = active.node._health.frames
        camera.publish(image(picture, (100 + number) * 10**9 // 10, jpeg=True))
        assert until(lambda done=done: active.node._health.frames > done)
    names = [name for name, _ in active.client.get_topic_names_and_types()]
    assert any(name.startswith("/left/humans/faces/f0") for name in names)
    assert not any(name.startswith("/humans/") for name in names)


def test_overlay_and_crops_are_made_for_those_who_ask(active: Rig, pictures: list[np.ndarray]) -> None:
    camera = active.camera()
    active.show(camera, pictures[:8])
    for topic, kind in (
        ("/sf_ros/overlay", "sensor_msgs/msg/Image"),
        ("/sf_ros/overlay/compressed", "sensor_msgs/msg/CompressedImage"),
        ("/humans/faces/f00001/cropped", "sensor_msgs/msg/Image"),
    ):
        active.listen(topic, kind, "image")
    time.sleep(1.0)
    active.show(camera, pictures[8:16], first_s=101)
    assert until(lambda: all(active.got.values()))
    overlay, cropped = active.got["/sf_ros/overlay"][-1], active.got["/humans/faces/f00001/cropped"][-1]
    assert (overlay.width, overlay.height, overlay.header.frame_id) == (640, 480, "lens")
    assert (cropped.width, cropped.height) == (128, 128) and np.asarray(cropped.data).max() > 0


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_node_without_a_traceback(sent: signal.Signals) -> None:
    with node_process(f"signal_{sent.value}") as (process, _):
        process.send_signal(sent)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in output, output


def test_ctrl_c_while_the_node_configures_ends_it_without_a_traceback() -> None:
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    with node_process("configuring") as (process, change):
        request = ChangeState.Request()
        request.transition.id = Transition.TRANSITION_CONFIGURE
        change.call_async(request)
        time.sleep(1.0)  # far less than it takes to load the models
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    for word in ("Traceback", "Configured with", "context is invalid"):
        assert word not in output, output


@contextmanager
def node_process(namespace: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """The node in a process of its own, when it is up, and a client of its change_state; its output is what it logs.

    The namespace is its own as well: of a node that is gone the middleware may speak for a while.
    """
    import rclpy
    from lifecycle_msgs.srv import ChangeState

    namespace = f"{namespace}_{os.getpid()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "sf_ros.ros.node", "--ros-args", "-r", f"__ns:=/{namespace}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ,
    )
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        client = rclpy.create_node("audience", context=context)
        change = client.create_client(ChangeState, f"/{namespace}/sf_ros/change_state")
        assert change.wait_for_service(60)
        yield process, change
    finally:
        context.try_shutdown()
        process.kill()
