"""Topics of the node for a stream of images. Needs ROS."""

from __future__ import annotations

import time
from array import array
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Frame
from sf_ros.io.recorders.folder import open_recorders
from sf_ros.msgs.builder import TopicMessage
from sf_ros.msgs.topics import DETECTIONS, QOS, TOPICS, Topic
from sf_ros.msgs.typestore import typestore
from sf_ros.perception.pipeline import load_pipeline
from tests.ros.conftest import FRAMES
from tests.ros.rig import Rig, image_message, resources, stamp_ns, until

pytestmark = pytest.mark.ros
ARRAYS = tuple(key for key, topic in TOPICS.items() if topic.type == DETECTIONS)


def test_every_frame_is_published_with_the_images_stamp(active: Rig, images: list[np.ndarray]) -> None:
    camera = active.camera()
    for name in ARRAYS:
        active.listen(f"/sf_ros/{name}", DETECTIONS)
    active.listen("/humans/faces/tracked", "hri_msgs/msg/IdsList")
    active.listen("/humans/persons/tracked", "hri_msgs/msg/IdsList", "latched")
    active.listen("/humans/candidate_matches", "hri_msgs/msg/IdsMatch")
    time.sleep(1.0)  # discovery
    stamps = active.show(camera, images)
    for name in ARRAYS:
        topic = f"/sf_ros/{name}"
        assert until(lambda topic=topic: len(active.received[topic]) == FRAMES)
        assert [stamp_ns(message) for message in active.received[topic]] == stamps
        assert {message.header.frame_id for message in active.received[topic]} == {"lens"}
    assert len(active.received["/sf_ros/persons"][-1].detections) == 3
    assert active.received["/sf_ros/expressions"][-1].detections[0].results[0].hypothesis.class_id
    types = dict(active.client.get_topic_names_and_types())
    for name in ("faces/f00001/roi", "bodies/b00001/gesture", "persons/p00001/face_id", "faces/f00001/expression"):
        assert f"/humans/{name}" in types
    fixed = {
        topic.name.format(humans="/humans", node="/sf_ros"): topic
        for topic in TOPICS.values()
        if "{id}" not in topic.name
    }
    assert all(types[name] == [topic.type] for name, topic in fixed.items())


@pytest.mark.parametrize("active", [{"budget_ms": 1e6}], indirect=True)
def test_node_publishes_what_perceive_records(active: Rig, images: list[np.ndarray], tmp_path: Path) -> None:
    """Bag against bag, with a budget for every query, so that measured times do not decide what is queried."""
    camera = active.camera()
    topics = {f"/sf_ros/{name}": DETECTIONS for name in ARRAYS} | {
        "/humans/faces/tracked": "hri_msgs/msg/IdsList",
        "/humans/interactions/gazing": "hri_msgs/msg/Gaze",
    }
    for topic, kind in topics.items():
        active.listen(topic, kind, raw=True)
    time.sleep(1.0)
    stamps = active.show(camera, images)
    arrays = [topic for topic in topics if not topic.endswith("gazing")]
    assert until(lambda: all(len(active.received[topic]) == FRAMES for topic in arrays))
    write_bag(tmp_path / "node", topics, active.received)

    pipeline = load_pipeline(None, RuntimeConfig(budget_ms=1e6))
    with open_recorders(tmp_path / "perceive", 15) as recording:
        for index, (image, stamp) in enumerate(zip(images, stamps, strict=True)):
            frame = Frame(image, stamp * 1e-9, index, "lens")
            recording.write(frame, pipeline.step(frame))
    recorded, published = read_bag(tmp_path / "perceive" / "bag"), read_bag(tmp_path / "node")
    assert set(published) == set(topics) <= set(recorded)
    for topic in topics:
        assert [content(m) for m in recorded[topic]] == [content(m) for m in published[topic]], topic


def test_messages_without_subscribers_are_not_built(rig: Rig) -> None:
    """Latched messages are always built: subscribers may come later."""
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
    assert until(lambda: len(rig.received["/heard"]) == 1)
    rig.listen("/kept", kind, "latched")
    rig.listen("/a/box", kind)
    assert until(lambda: len(rig.received["/kept"]) == 1)
    assert until(lambda: rig.node.count_subscribers("/a/box"))
    assert until(lambda: outputs.send([item("/a/box", subject="a")], ["a"], 0.1) or rig.received["/a/box"])
    outputs.close()


def test_latched_topics_reach_late_subscribers(active: Rig, images: list[np.ndarray]) -> None:
    active.show(active.camera(), images[:10])
    active.listen("/sf_ros/labels/expression", "vision_msgs/msg/LabelInfo", "latched")
    active.listen("/humans/persons/p00001/face_id", "std_msgs/msg/String", "latched")
    active.listen("/humans/persons/p00001/anonymous", "std_msgs/msg/Bool", "latched")
    assert until(lambda: active.received["/sf_ros/labels/expression"])
    assert len(active.received["/sf_ros/labels/expression"][0].class_map) == 8
    assert until(lambda: active.received["/humans/persons/p00001/face_id"])
    assert active.received["/humans/persons/p00001/face_id"][-1].data == "f00001"
    assert until(lambda: active.received["/humans/persons/p00001/anonymous"])


def test_empty_room_gives_empty_lists_and_removes_topics(active: Rig, images: list[np.ndarray]) -> None:
    camera = active.camera()
    active.listen("/sf_ros/persons", DETECTIONS)
    active.listen("/humans/bodies/tracked", "hri_msgs/msg/IdsList")
    time.sleep(1.0)
    active.show(camera, images[:10])
    empty = [np.full((480, 640, 3), 90, np.uint8)] * 40
    active.show(camera, empty, first_s=101)
    assert until(lambda: len(active.received["/sf_ros/persons"]) == 50)
    assert (
        active.received["/sf_ros/persons"][-1].detections == []
        and active.received["/humans/bodies/tracked"][-1].ids == []
    )

    def gone() -> bool:
        return not any("/faces/f0" in name or "/bodies/b0" in name for name in resources(active.node))

    assert until(gone)


@pytest.mark.parametrize("active", [{"persons": "external"}], indirect=True)
def test_external_person_ids_are_used(active: Rig, images: list[np.ndarray]) -> None:
    from hri_msgs.msg import IdsList
    from std_msgs.msg import String

    from sf_ros.ros.publishers import profile

    camera = active.camera()
    active.listen("/sf_ros/persons", DETECTIONS)
    latched = profile(QOS["latched"])
    tracked = active.client.create_publisher(IdsList, "/humans/persons/tracked", latched)
    face = active.client.create_publisher(String, "/humans/persons/anna/face_id", latched)
    tracked.publish(IdsList(ids=["anna"]))
    face.publish(String(data="f00001"))
    assert until(lambda: active.node._external.of([1]) == {1: "anna"})
    active.show(camera, images[:10])
    assert until(lambda: len(active.received["/sf_ros/persons"]) == 10)
    ids = {detection.id for detection in active.received["/sf_ros/persons"][-1].detections}
    assert ids == {"anna", "b00002", "b00003"}  # unknown persons have the id of the body
    published = [publisher.topic_name for publisher in active.node.publishers]
    assert "/humans/faces/f00001/roi" in published
    assert not [name for name in published if name.startswith("/humans/persons/")]
    tracked.publish(IdsList(ids=[]))
    assert until(lambda: active.node._external.of([1]) == {})


@pytest.mark.parametrize("active", [{"use_depth": True}], indirect=True)
def test_calibrated_camera_with_depth_gives_targets_in_space(active: Rig, images: list[np.ndarray]) -> None:
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
    active.listen("/sf_ros/gaze_targets", DETECTIONS)
    active.listen("/tf", "tf2_msgs/msg/TFMessage")
    time.sleep(1.0)
    header = image_message(images[0], 10**9).header
    matrix = [500.0, 0, 320, 0, 500, 240, 0, 0, 1]
    info.publish(CameraInfo(header=header, width=640, height=480, distortion_model="plumb_bob", k=matrix))
    assert until(lambda: active.node._calibration.frame_id)
    for number, image in enumerate(images[:20]):
        done, stamp = active.node._health.frames, 100 * 10**9 + number * 66_000_000
        flat = np.full((480, 640), 2000, np.uint16)  # millimetres
        data = {"height": 480, "width": 640, "step": 1280, "encoding": "16UC1", "data": array("B", flat.tobytes())}
        depth.publish(Image(header=image_message(image, stamp).header, **data))
        time.sleep(0.02)
        camera.publish(image_message(image, stamp))
        assert until(lambda done=done: active.node._health.frames > done)
    points = {face: active.received[f"/humans/faces/{face}/gaze_target_point"] for face in faces}
    assert until(lambda: any(points.values()) and active.received["/tf"])
    face = next(face for face in faces if points[face])  # the others may look at the camera
    point = points[face][-1]
    assert point.point.z == pytest.approx(2.0) and point.header.frame_id == "lens"
    targets = [
        d for m in active.received["/sf_ros/gaze_targets"] for d in m.detections if d.results[0].pose.pose.position.z
    ]
    covariance = np.reshape(targets[-1].results[0].pose.covariance, (6, 6))
    assert np.linalg.eigvalsh(covariance[:3, :3]).min() > 1e-4  # a centimetre at least, each way
    assert 10 < targets[-1].bbox.size_x < 640
    ray = active.received[f"/humans/faces/{face}/gaze_target_ray"][-1].vector
    assert ray.x**2 + ray.y**2 + ray.z**2 == pytest.approx(1.0)
    frames = {transform.child_frame_id for message in active.received["/tf"] for transform in message.transforms}
    assert {f"focus_{face}", f"gaze_{face}"} <= frames
    assert {transform.header.frame_id for message in active.received["/tf"] for transform in message.transforms} == {
        "lens"
    }


@pytest.mark.parametrize("active", [{"compressed": True, "persons": "off", "humans_ns": "/left/humans"}], indirect=True)
def test_compressed_images_and_another_namespace(active: Rig, images: list[np.ndarray]) -> None:
    camera = active.camera("sensor_msgs/msg/CompressedImage", "image/compressed")
    for number, image in enumerate(images[:8]):
        done = active.node._health.frames
        camera.publish(image_message(image, (100 + number) * 10**9 // 10, jpeg=True))
        assert until(lambda done=done: active.node._health.frames > done)
    names = [name for name, _ in active.client.get_topic_names_and_types()]
    assert any(name.startswith("/left/humans/faces/f0") for name in names)
    assert not any(name.startswith("/humans/") for name in names)


def test_overlay_and_crops_are_published_on_demand(active: Rig, images: list[np.ndarray]) -> None:
    camera = active.camera()
    active.show(camera, images[:8])
    for topic, kind in (
        ("/sf_ros/overlay", "sensor_msgs/msg/Image"),
        ("/sf_ros/overlay/compressed", "sensor_msgs/msg/CompressedImage"),
        ("/humans/faces/f00001/cropped", "sensor_msgs/msg/Image"),
    ):
        active.listen(topic, kind, "image")
    time.sleep(1.0)
    active.show(camera, images[8:16], first_s=101)
    assert until(lambda: all(active.received.values()))
    overlay, cropped = active.received["/sf_ros/overlay"][-1], active.received["/humans/faces/f00001/cropped"][-1]
    assert (overlay.width, overlay.height, overlay.header.frame_id) == (640, 480, "lens")
    assert (cropped.width, cropped.height) == (128, 128) and np.asarray(cropped.data).max() > 0


@pytest.mark.parametrize(("active", "scale"), [({}, 16), ({"image_bits": 16}, 256)], indirect=["active"])
def test_infrared_of_12_bits_is_scaled_and_said_once(
    active: Rig, images: list[np.ndarray], capfd: pytest.CaptureFixture[str], scale: int
) -> None:
    camera = active.camera()
    active.listen("/sf_ros/overlay", "sensor_msgs/msg/Image", "image")
    assert until(lambda: active.node.count_subscribers("/sf_ros/overlay"))
    ramp = np.linspace(0, 4095, 640 * 480).astype(np.uint16).reshape(480, 640)
    for number in range(5):
        message = image_message(images[0], (100 + number) * 10**9)
        message.encoding, message.step, message.data = "mono16", 1280, ramp.tobytes()
        frames = active.node._health.frames
        camera.publish(message)
        assert until(lambda frames=frames: active.node._health.frames > frames)
    assert until(lambda: active.received["/sf_ros/overlay"])
    shown = np.asarray(active.received["/sf_ros/overlay"][-1].data).reshape(480, 640, 3)
    assert np.abs(shown[..., 0].astype(int) - ramp // scale).max() <= 1
    assert capfd.readouterr().err.count("16-bit images hold values of 12 bits") == (scale == 16)


def write_bag(folder: Path, topics: dict[str, str], serialised: dict[str, list[bytes]]) -> None:
    """A bag of serialised messages, as `ros2 bag record` writes it."""
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, kind in topics.items():
            connection = writer.add_connection(topic, kind, typestore=typestore())
            for number, data in enumerate(serialised[topic]):
                writer.write(connection, number, data)


def read_bag(folder: Path) -> dict[str, list[Any]]:
    """Topic -> messages."""
    messages: dict[str, list[Any]] = defaultdict(list)
    with AnyReader([folder], default_typestore=typestore()) as reader:
        for connection, _, data in reader.messages():
            messages[connection.topic].append(reader.deserialize(data, connection.msgtype))
    return messages


def content(message: Any) -> list[Any]:
    """The fields of a message besides its stamp, to compare; scores to 1e-6."""
    if not hasattr(message, "detections"):
        return [getattr(message, name) for name in ("ids", "sender", "receiver") if hasattr(message, name)]
    return [
        (
            *(detection.id, round(detection.bbox.center.position.x, 3), round(detection.bbox.size_y, 3)),
            [(r.hypothesis.class_id, pytest.approx(r.hypothesis.score, abs=1e-6)) for r in detection.results],
            detection.header.stamp.sec,
        )
        for detection in message.detections
    ]
