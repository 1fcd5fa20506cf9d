"""The recorded bag is read back by independent readers: topics, QoS, images, versions."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader
from ruamel.yaml import YAML

from sf_ros.io.recorders.bag import BagRecorder
from tests.io.recorders.recorded import FRAMES, clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bag of `clip`."""
    folder = tmp_path_factory.mktemp("recording")
    recorder = BagRecorder(folder / "bag")
    for frame, cues in clip():
        recorder.write(frame, cues)
    recorder.close()
    return folder


def test_bag_is_read_by_its_own_definitions(folder: Path):
    """AnyReader without our typestore takes hri_msgs and vision_msgs from the file."""
    counts: Counter[str] = Counter()
    with AnyReader([folder / "bag"]) as reader:
        for connection, stamp_ns, data in reader.messages():
            message: Any = reader.deserialize(data, connection.msgtype)
            counts[connection.topic] += 1
            if connection.topic == "/humans/faces/f00001/expression":
                assert (message.expression, message.header.stamp.sec) == ("happy", 1000)
            if hasattr(message, "header") and not connection.topic.startswith("/sf_ros/labels"):
                assert stamp_ns == message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    assert counts["/camera/image/compressed"] == counts["/humans/faces/tracked"] == counts["/sf_ros/persons"] == FRAMES
    assert counts["/humans/interactions/gazing"] == FRAMES - 1
    assert counts["/humans/interactions/groups"] == FRAMES  # the last one: the group dissolved
    assert counts["/sf_ros/labels/gesture"] == counts["/humans/persons/p00001/anonymous"] == 1


def test_bag_has_the_frames_as_jpeg(folder: Path):
    with AnyReader([folder / "bag"]) as reader:
        connections = [c for c in reader.connections if c.topic == "/camera/image/compressed"]
        images: list[Any] = [reader.deserialize(data, c.msgtype) for c, _, data in reader.messages(connections)]
    for image, (frame, _) in zip(images, clip(), strict=True):
        assert image.format == "jpeg"
        decoded = cv2.imdecode(np.asarray(image.data), cv2.IMREAD_COLOR)
        assert decoded is not None
        assert np.abs(decoded[..., ::-1].astype(int) - frame.image).max() <= 6


def test_bag_is_an_mcap_with_schemas_and_counts(folder: Path):
    (file,) = (folder / "bag").glob("*.mcap")
    with file.open("rb") as stream:
        reader = make_reader(stream)
        summary = reader.get_summary()
        topics = Counter(channel.topic for _, channel, _ in reader.iter_messages())
    assert summary is not None
    assert summary.statistics is not None
    schemas = {schema.name: schema for schema in summary.schemas.values()}
    for name in ("hri_msgs/msg/Gaze", "vision_msgs/msg/Detection2DArray", "sensor_msgs/msg/CompressedImage"):
        assert (schemas[name].encoding, bool(schemas[name].data)) == ("ros2msg", True)
    assert b"MSG: vision_msgs/ObjectHypothesis" in schemas["vision_msgs/msg/Detection2DArray"].data
    assert summary.statistics.message_count == sum(topics.values())
    assert topics["/sf_ros/gestures"] == FRAMES
    assert {channel.message_encoding for channel in summary.channels.values()} == {"cdr"}


@pytest.mark.parametrize(
    ("topic", "durability", "depth"),
    [
        ("/humans/persons/known", "transient_local", 1),
        ("/humans/persons/p00001/face_id", "transient_local", 1),
        ("/humans/interactions/groups", "transient_local", 10),
        ("/sf_ros/labels/expression", "transient_local", 1),
        ("/humans/faces/tracked", "volatile", 10),
        ("/camera/image/compressed", "volatile", 1),
    ],
)
def test_qos_of_topics_is_in_the_metadata(folder: Path, topic: str, durability: str, depth: int):
    text = (folder / "bag" / "metadata.yaml").read_text()
    information = YAML(typ="safe").load(text)["rosbag2_bagfile_information"]
    assert (information["version"], information["storage_identifier"]) == (9, "mcap")
    metadata = {t["topic_metadata"]["name"]: t["topic_metadata"] for t in information["topics_with_message_count"]}
    (qos,) = metadata[topic]["offered_qos_profiles"]
    assert (qos["reliability"], qos["durability"], qos["history"]) == ("reliable", durability, "keep_last")
    assert qos["depth"] == depth
    assert qos["deadline"] == {"sec": 9223372036, "nsec": 854775807}
    assert metadata[topic]["type_description_hash"].startswith("RIHS01_")


def test_humble_bag_has_its_version(tmp_path: Path):
    bag = BagRecorder(tmp_path / "bag", version=8)
    bag.write(*clip()[0])
    bag.close()
    information = YAML(typ="safe").load((tmp_path / "bag" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert information["version"] == 8
    qos = {t["topic_metadata"]["name"]: t["topic_metadata"] for t in information["topics_with_message_count"]}
    assert "durability: 1" in qos["/humans/persons/known"]["offered_qos_profiles"]  # transient_local, as text
    with AnyReader([tmp_path / "bag"]) as reader:
        connections = [c for c in reader.connections if c.topic == "/humans/bodies/b00001/gesture"]
        ((connection, _, data),) = reader.messages(connections)
        assert reader.deserialize(data, connection.msgtype).handedness == 0  # Humble has hri_msgs 2.3, too


def test_labels_of_cues_that_are_off_are_not_announced(tmp_path: Path):
    recorder = BagRecorder(tmp_path / "bag", cues=("gaze", "expression"))
    recorder.write(*clip()[0])
    recorder.close()
    with AnyReader([tmp_path / "bag"]) as reader:
        labels = [name for name in reader.topics if "/labels/" in name]
    assert labels == ["/sf_ros/labels/expression"]


def test_unknown_bag_version_is_an_error(tmp_path: Path):
    with pytest.raises(ValueError, match=r"expected 8 \(Humble\) or 9"):
        BagRecorder(tmp_path / "bag", version=5)


def test_a_stamp_that_no_message_holds_is_the_last_one(tmp_path: Path) -> None:
    frame, cues = next(iter(clip()))
    recorder = BagRecorder(tmp_path / "bag")
    recorder.write(replace(frame, stamp=2.0**31), replace(cues, stamp=2.0**31))
    recorder.close()
    with AnyReader([tmp_path / "bag"]) as bag:
        stamps = {
            (message.header.stamp.sec, message.header.stamp.nanosec)
            for connection, _, data in bag.messages()
            if hasattr(message := bag.deserialize(data, connection.msgtype), "header")
        }
    assert stamps == {(2**31 - 1, 999_999_999)}
