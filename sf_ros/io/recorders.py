"""FrameCues -> JSON lines, an annotated video, and a rosbag2 that ROS tools open without this package."""

from __future__ import annotations

import json
import shutil
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import cv2
import numpy as np
from rosbags.interfaces import Connection, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.interfaces import Qos as BagQos
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from sf_ros.core.types import Frame, FrameCues
from sf_ros.io.cues_json import from_json, to_json
from sf_ros.io.draw import draw
from sf_ros.msgs import definitions
from sf_ros.msgs.hri import MessageSettings, PublisherState, messages
from sf_ros.msgs.topics import QOS, Names, Qos

IMAGE_TOPIC = "/camera/image/compressed"
IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
NODE = "/sf_ros"  # what the node's private topics are recorded under
JPEG_QUALITY = 85
MAX_WAITING = 8  # frames taken and not written yet
OUTPUTS = ("cues.jsonl", "annotated.mp4", "bag")
_FOREVER = QosTime(9_223_372_036, 854_775_807)  # RMW_DURATION_INFINITE, as rosbag2 itself writes it


class RecorderError(RuntimeError):
    """A recording that cannot be written or read: says the file and what to do."""


class Recorder(Protocol):
    """Takes every frame with its cues; close() finishes the file, also after an error, and may be called twice."""

    def write(self, frame: Frame, cues: FrameCues) -> None: ...

    def close(self) -> None: ...


class CuesRecorder:
    """One JSON object per frame, as `cues_json` documents it; whole up to the last frame when the process is killed."""

    def __init__(self, path: str | Path) -> None:
        self._file = Path(path).open("w", encoding="utf-8", buffering=1)  # noqa: SIM115  closed by close()

    def write(self, frame: Frame, cues: FrameCues) -> None:
        self._file.write(json.dumps(to_json(cues)) + "\n")

    def close(self) -> None:
        self._file.close()


class VideoRecorder:
    """What `draw` makes of every frame, as MPEG-4 part 2; the first frame decides the size, nothing is enlarged.

    ValueError where fps is not above 0; RecorderError where OpenCV cannot write such a file.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        if not fps > 0:
            raise ValueError(f"{path}: fps is {fps}; it must be above 0.")
        self.path, self.fps = Path(path), fps
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def write(self, frame: Frame, cues: FrameCues) -> None:
        if self._writer is None:
            self._size = (frame.width, frame.height)
            self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, self._size)
            if not self._writer.isOpened():
                self._writer = None
                raise RecorderError(
                    f"{self.path}: OpenCV cannot write MPEG-4 video of {frame.width}x{frame.height} here. Check that "
                    "the folder is writable and that cv2.getBuildInformation() lists FFMPEG."
                )
        picture = cv2.cvtColor(draw(frame.image, cues), cv2.COLOR_RGB2BGR)
        if (frame.width, frame.height) != self._size:
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(picture)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._writer = None


class BagRecorder:
    """A rosbag2 in MCAP with the topics the ROS node has, the pictures as JPEG, and every topic's QoS.

    Version 9 is Jazzy's format; 8 is for Humble, and then Gesture is hri_msgs 2.1.0's too. RecorderError where `path`
    exists already. A process that is killed leaves a file `mcap recover` can read, without an index.
    """

    def __init__(self, path: str | Path, version: int = 9) -> None:
        if version not in (8, 9):
            raise ValueError(f"{path}: rosbag2 version {version}; expected 8 (Humble) or 9 (Jazzy and later).")
        if Path(path).exists():
            raise RecorderError(f"{path}: exists already. Name another folder or remove this one.")
        self._store = typestore(humble=version == 8)
        self._settings = MessageSettings(names=Names(node=NODE))
        self._told = PublisherState()
        self._connections: dict[str, Connection] = {}
        self._writer: Writer | None = Writer(path, version=8 if version == 8 else 9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._connect(IMAGE_TOPIC, IMAGE_TYPE, QOS["image"])
        for name, topic in self._settings.names.fixed().items():
            self._connect(name, topic.type, QOS[topic.qos])

    def write(self, frame: Frame, cues: FrameCues) -> None:
        stamp_ns = max(round(cues.stamp * 1e9), 0)
        sent, self._told = messages(cues, self._store.types.__getitem__, self._settings, self._told, stamp_ns=stamp_ns)
        self._add(IMAGE_TOPIC, stamp_ns, self._image(frame, stamp_ns))
        for item in sent:
            if item.topic not in self._connections:
                self._connect(item.topic, item.type, QOS[item.qos])
            self._add(item.topic, stamp_ns, item.message)

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except BaseException:
                writer.abort()
                raise

    def _connect(self, topic: str, kind: str, qos: Qos) -> None:
        assert self._writer is not None
        offered = [offered_qos(qos)]
        self._connections[topic] = self._writer.add_connection(
            topic, kind, typestore=self._store, offered_qos_profiles=offered
        )

    def _add(self, topic: str, stamp_ns: int, message: Any) -> None:
        if self._writer is None:
            raise RecorderError(f"The bag is closed; nothing more can be written to {topic}.")
        connection = self._connections[topic]
        self._writer.write(connection, stamp_ns, self._store.serialize_cdr(message, connection.msgtype))

    def _image(self, frame: Frame, stamp_ns: int) -> Any:
        types = self._store.types
        done, data = cv2.imencode(
            ".jpg", cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        if not done:
            raise RecorderError(f"Frame {frame.index}: {frame.width}x{frame.height} cannot be encoded as JPEG.")
        sec, nanosec = divmod(stamp_ns, 1_000_000_000)
        stamp = types["builtin_interfaces/msg/Time"](sec=sec, nanosec=nanosec)
        header = types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame.frame_id)
        return types[IMAGE_TYPE](header=header, format="jpeg", data=np.asarray(data, np.uint8).reshape(-1))


class Recorders:
    """Several recorders as one, written by a thread of their own while the caller works on the next frame.

    An error in writing is raised by a later write or by close. A context manager that closes every recorder, after all
    that was given to it is written, whatever happens to the others.
    """

    def __init__(self, *recorders: Recorder) -> None:
        self._recorders = recorders
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recorders")
        self._waiting: deque[Future[None]] = deque()

    def write(self, frame: Frame, cues: FrameCues) -> None:
        """Take a frame; waits while more than MAX_WAITING are not written yet."""
        self._waiting.append(self._thread.submit(self._write, frame, cues))
        while self._waiting and (len(self._waiting) > MAX_WAITING or self._waiting[0].done()):
            self._waiting.popleft().result()

    def close(self) -> None:
        with ExitStack() as stack:
            for recorder in self._recorders:
                stack.callback(recorder.close)
            stack.callback(self._thread.shutdown)  # first of all
            while self._waiting:
                self._waiting.popleft().result()

    def _write(self, frame: Frame, cues: FrameCues) -> None:
        for recorder in self._recorders:
            recorder.write(frame, cues)

    def __enter__(self) -> Recorders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_recorders(out_dir: str | Path, fps: float, *, replace: bool = False) -> Recorders:
    """All three recordings in one folder: cues.jsonl, annotated.mp4 and bag/.

    RecorderError where one of them is there already; with `replace`, those three (and nothing else) are removed first.
    """
    folder = Path(out_dir)
    old = [folder / name for name in OUTPUTS if (folder / name).exists()]
    if old and not replace:
        raise RecorderError(f"{old[0]}: a recording is there already. Name another folder, or allow it to be replaced.")
    for path in old:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:  # what is open already is closed when a later one fails
        opened: list[Recorder] = [CuesRecorder(folder / OUTPUTS[0])]
        stack.callback(opened[0].close)
        opened += [VideoRecorder(folder / OUTPUTS[1], fps), BagRecorder(folder / OUTPUTS[2])]
        stack.pop_all()
    return Recorders(*opened)


def read_cues(path: str | Path) -> list[FrameCues]:
    """The inverse of CuesRecorder, up to its rounding and without heatmaps.

    A last line cut short by a killed process is left out; RecorderError names any other line that is not a frame.
    """
    text = Path(path).read_text(encoding="utf-8")
    lines = text.splitlines()
    if lines and not text.endswith("\n"):
        lines.pop()
    return list(_frames(path, lines))


def typestore(*, humble: bool = False) -> Typestore:
    """The message types of Jazzy (or Humble) with hri_msgs and vision_msgs, for rosbags."""
    store = get_typestore(Stores.ROS2_HUMBLE if humble else Stores.ROS2_JAZZY)
    for name, text in definitions.definitions(humble=humble).items():
        store.register(get_types_from_msg(text, name))
    return store


def offered_qos(qos: Qos) -> BagQos:
    """A QoS as a bag records it, so that playing it back offers the same (latched topics stay latched)."""
    return BagQos(
        history=QosHistory.KEEP_LAST,
        depth=qos.depth,
        reliability=QosReliability[qos.reliability.upper()],
        durability=QosDurability[qos.durability.upper()],
        deadline=_FOREVER,
        lifespan=_FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_FOREVER,
        avoid_ros_namespace_conventions=False,
    )


def _frames(path: str | Path, lines: list[str]) -> Iterator[FrameCues]:
    for number, line in enumerate(lines, 1):
        try:
            yield from_json(json.loads(line))
        except (KeyError, TypeError, ValueError) as error:
            raise RecorderError(f"{path}, line {number}: not a frame ({type(error).__name__}: {error}).") from error
