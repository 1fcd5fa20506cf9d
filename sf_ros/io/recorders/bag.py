"""FrameCues and images as a rosbag2."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.interfaces import Qos as BagQos
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter

from sf_ros.core.cues import CUE_OF, CUES
from sf_ros.core.types import Frame, FrameCues
from sf_ros.io.recorders.base import RecorderError
from sf_ros.msgs.builder import MessageSettings, time_of
from sf_ros.msgs.hri import PublisherState
from sf_ros.msgs.images import ImageError, jpeg
from sf_ros.msgs.messages import messages
from sf_ros.msgs.topics import LABEL_TASKS, QOS, Names, Qos
from sf_ros.msgs.typestore import typestore

IMAGE_TOPIC = "/camera/image/compressed"
IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
NODE = "/sf_ros"  # namespace of the node's private topics in a bag
CHUNK_S = 0.5  # what is written goes to the disk at least this often
_INFINITE = QosTime(9_223_372_036, 854_775_807)  # RMW_DURATION_INFINITE, as rosbag2 writes it


class BagRecorder:
    """A rosbag2 in MCAP with the topics of the ROS node and their QoS, and the images as JPEG.

    Version 9 is the format of Jazzy, 8 that of Humble. RecorderError where `path` exists. A killed process leaves a
    file without its index and at most CHUNK_S short; `open_source` and `mcap recover` read it.
    """

    def __init__(self, path: str | Path, version: int = 9, cues: Collection[str] = tuple(CUES)) -> None:
        """cues: those that are answered; the labels of the others are not announced, as by the node."""
        if version not in (8, 9):
            raise ValueError(f"{path}: rosbag2 version {version}; expected 8 (Humble) or 9 (Jazzy and later).")
        if os.path.lexists(path):
            raise RecorderError(f"{path}: exists already. Choose another folder or remove it.")
        self._store = typestore(humble=version == 8)
        label_tasks = tuple(task for task in LABEL_TASKS if CUE_OF[task] in cues)
        self._settings = MessageSettings(names=Names(node=NODE), label_tasks=label_tasks)
        self._state = PublisherState()
        self._connections: dict[str, Connection] = {}
        self._writer: Writer | None = Writer(path, version=8 if version == 8 else 9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._flushed_s = time.monotonic()
        self._connect(IMAGE_TOPIC, IMAGE_TYPE, QOS["image"])
        for name, topic in self._settings.fixed_topics().items():
            self._connect(name, topic.type, QOS[topic.qos])

    def write(self, frame: Frame, cues: FrameCues) -> None:
        stamp_ns = max(round(cues.stamp * 1e9), 0)
        types = self._store.types.__getitem__
        items, self._state = messages(cues, types, self._settings, self._state)
        self._add(IMAGE_TOPIC, stamp_ns, self._image(frame, stamp_ns))
        for item in items:
            if item.topic not in self._connections:
                self._connect(item.topic, item.type, QOS[item.qos])
            self._add(item.topic, stamp_ns, item.message)
        self._flush()

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except BaseException:
                writer.abort()
                raise

    def _flush(self) -> None:
        """Write the chunk that rosbags collects in memory, every CHUNK_S."""
        now = time.monotonic()
        if self._writer is not None and now - self._flushed_s >= CHUNK_S:
            storage = self._writer.storage
            assert isinstance(storage, McapWriter)
            storage.close_chunk()
            storage.bio.flush()
            self._flushed_s = now

    def _connect(self, topic: str, kind: str, qos: Qos) -> None:
        assert self._writer is not None
        offered = [offered_qos(qos)]
        self._connections[topic] = self._writer.add_connection(
            topic, kind, typestore=self._store, offered_qos_profiles=offered
        )

    def _add(self, topic: str, stamp_ns: int, message: Any) -> None:
        if self._writer is None:
            raise RecorderError(f"{topic}: the bag is closed.")
        connection = self._connections[topic]
        self._writer.write(connection, stamp_ns, self._store.serialize_cdr(message, connection.msgtype))

    def _image(self, frame: Frame, stamp_ns: int) -> Any:
        types = self._store.types
        stamp = time_of(types.__getitem__, stamp_ns)
        header = types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame.frame_id)
        try:
            return types[IMAGE_TYPE](header=header, format="jpeg", data=jpeg(frame.image))
        except ImageError as error:
            raise RecorderError(f"Frame {frame.index}: {error}") from error


def offered_qos(qos: Qos) -> BagQos:
    """The QoS in a bag's metadata, with which playback publishes the topic (latched topics stay latched)."""
    return BagQos(
        history=QosHistory.KEEP_LAST,
        depth=qos.depth,
        reliability=QosReliability[qos.reliability.upper()],
        durability=QosDurability[qos.durability.upper()],
        deadline=_INFINITE,
        lifespan=_INFINITE,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_INFINITE,
        avoid_ros_namespace_conventions=False,
    )
