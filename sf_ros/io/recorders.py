"""FrameCues -> JSON lines, an annotated video and a rosbag2, which ROS tools open without this package."""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import cv2
from rosbags.interfaces import Connection, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.interfaces import Qos as BagQos
from rosbags.rosbag2 import StoragePlugin, Writer

from sf_ros.core.cues import CUE_OF, CUES
from sf_ros.core.types import Frame, FrameCues
from sf_ros.io.capture import file_name, quiet
from sf_ros.io.containers import listing
from sf_ros.io.cues_json import from_json, to_json
from sf_ros.io.draw import draw
from sf_ros.msgs.builder import MessageSettings, time_of
from sf_ros.msgs.hri import PublisherState
from sf_ros.msgs.images import ImageError, jpeg
from sf_ros.msgs.messages import messages
from sf_ros.msgs.topics import LABEL_TASKS, QOS, Names, Qos
from sf_ros.msgs.typestore import typestore

IMAGE_TOPIC = "/camera/image/compressed"
IMAGE_TYPE = "sensor_msgs/msg/CompressedImage"
NODE = "/sf_ros"  # namespace of the node's private topics in a bag
MAX_PENDING = 8  # frames accepted and not written yet
FREE_SPACE = "The disk may be full: free some space, or choose another folder."
OUTPUTS = ("cues.jsonl", "annotated.mp4", "bag")
_INFINITE = QosTime(9_223_372_036, 854_775_807)  # RMW_DURATION_INFINITE, as rosbag2 writes it


class RecorderError(RuntimeError):
    """A recording that cannot be written or read, with the file and a remedy."""


class Recorder(Protocol):
    """Writes every frame with its cues; close() finishes the file, also after an error, and may be called twice."""

    def write(self, frame: Frame, cues: FrameCues) -> None: ...

    def close(self) -> None: ...


class CuesRecorder:
    """One JSON object per frame, as documented in `cues_json`. A killed process leaves complete frames."""

    def __init__(self, path: str | Path) -> None:
        self._path, self._bytes = Path(path), 0
        self._file = self._path.open("w", encoding="utf-8", buffering=1)

    def write(self, frame: Frame, cues: FrameCues) -> None:
        self._bytes += self._file.write(json.dumps(to_json(cues)) + "\n")  # JSON is ASCII: characters are bytes

    def close(self) -> None:
        self._file.close()
        if (size := self._path.stat().st_size) != self._bytes:
            raise RecorderError(f"{self._path}: {size} of {self._bytes} bytes are on the disk. {FREE_SPACE}")


class VideoRecorder:
    """The overlay of every frame as MPEG-4 part 2, in the size of the first frame.

    ValueError where fps is not above 0; RecorderError where OpenCV cannot write the file. OpenCV tells nobody about a
    full disk: close() reads what was written and raises RecorderError where frames are missing.
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        if not fps > 0:
            raise ValueError(f"{path}: fps is {fps}; it must be above 0.")
        self.path, self.fps = Path(path), fps
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._written = 0

    def write(self, frame: Frame, cues: FrameCues) -> None:
        if self._writer is None:
            self._size = (frame.width, frame.height)
            with file_name(self.path, folder=True) as name, quiet():
                self._writer = cv2.VideoWriter(name, cv2.VideoWriter.fourcc(*"mp4v"), self.fps, self._size)
            if not self._writer.isOpened():
                self._writer = None
                raise RecorderError(
                    f"{self.path}: OpenCV cannot write MPEG-4 video of {frame.width}x{frame.height} here. Check that "
                    "the folder is writable and that cv2.getBuildInformation() lists FFMPEG."
                )
        overlay = cv2.cvtColor(draw(frame.image, cues), cv2.COLOR_RGB2BGR)
        if (frame.width, frame.height) != self._size:
            overlay = cv2.resize(overlay, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(overlay)
        self._written += 1

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.release()
        video = listing(self.path)
        stored = 0 if video is None else video.stored
        if stored < self._written:
            raise RecorderError(f"{self.path}: {stored} of {self._written} frames are on the disk. {FREE_SPACE}")


class BagRecorder:
    """A rosbag2 in MCAP with the topics of the ROS node and their QoS, and the images as JPEG.

    Version 9 is the format of Jazzy, 8 that of Humble. RecorderError where `path` exists. A killed process leaves a
    file without an index, which `mcap recover` reads.
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


class Recorders:
    """Several recorders as one. A thread writes while the caller works on the next frame.

    A write error is raised by a later write or by close. As a context manager, it writes all pending frames and then
    closes every recorder, also where another one fails.
    """

    def __init__(self, *recorders: Recorder) -> None:
        self._recorders = recorders
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recorders")
        self._pending: deque[Future[None]] = deque()

    def write(self, frame: Frame, cues: FrameCues) -> None:
        """Queue a frame; blocks while more than MAX_PENDING frames are not written yet."""
        self._pending.append(self._thread.submit(self._write, frame, cues))
        while self._pending and (len(self._pending) > MAX_PENDING or self._pending[0].done()):
            self._pending.popleft().result()

    def close(self) -> None:
        with ExitStack() as stack:
            for recorder in self._recorders:
                stack.callback(recorder.close)
            stack.callback(self._thread.shutdown)  # runs first
            while self._pending:
                self._pending.popleft().result()

    def _write(self, frame: Frame, cues: FrameCues) -> None:
        for recorder in self._recorders:
            recorder.write(frame, cues)

    def __enter__(self) -> Recorders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_recorders(
    out_dir: str | Path, fps: float, *, replace: bool = False, cues: Collection[str] = tuple(CUES)
) -> Recorders:
    """Recorders of cues.jsonl, annotated.mp4 and bag/ in one folder, of frames with these cues.

    RecorderError where one of them exists; with `replace`, these three and nothing else are removed first.
    """
    folder = Path(out_dir)
    old = [folder / name for name in OUTPUTS if os.path.lexists(folder / name)]
    if old and not replace:
        raise RecorderError(f"{old[0]}: a recording exists already. Name another folder, or replace it (--replace).")
    for path in old:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if folder.exists() and not folder.is_dir():
        raise RecorderError(f"{folder}: a file; expected a folder for the recording. Name another one.")
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:  # closes the first recorder where a later one cannot open
        opened: list[Recorder] = [CuesRecorder(folder / OUTPUTS[0])]
        stack.callback(opened[0].close)
        opened += [VideoRecorder(folder / OUTPUTS[1], fps), BagRecorder(folder / OUTPUTS[2], cues=cues)]
        stack.pop_all()
    return Recorders(*opened)


def read_cues(path: str | Path) -> list[FrameCues]:
    """The inverse of CuesRecorder, up to its rounding and without heatmaps.

    A last line truncated by a killed process is skipped; RecorderError names any other line that is not a frame.
    """
    text = Path(path).read_text(encoding="utf-8")
    lines = text.splitlines()
    if lines and not text.endswith("\n"):
        lines.pop()
    return list(_frames(path, lines))


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


def _frames(path: str | Path, lines: list[str]) -> Iterator[FrameCues]:
    for number, line in enumerate(lines, 1):
        try:
            yield from_json(json.loads(line))
        except (KeyError, TypeError, ValueError) as error:
            raise RecorderError(f"{path}, line {number}: not a frame ({type(error).__name__}: {error}).") from error
