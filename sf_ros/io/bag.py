"""Images from a recording: rosbag2 (MCAP, SQLite) or rosbag1, read without ROS."""

from __future__ import annotations

import logging
import math
import sqlite3
import struct
import sys
import zlib
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
import numpy as np
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.rosbag1 import ReaderError as Reader1Error
from rosbags.rosbag2 import ReaderError as Reader2Error
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, TypesysError, get_typestore
from ruamel.yaml.error import YAMLError

from sf_ros.core.bit_depth import BitDepth
from sf_ros.core.camera import same_aspect
from sf_ros.core.text import printable
from sf_ros.core.types import Frame
from sf_ros.io.capture import file_name
from sf_ros.io.source import IMAGES_FPS, MAX_FPS, Source, SourceError
from sf_ros.io.unfinished import UnfinishedMcap, is_unfinished, recordings
from sf_ros.msgs.images import READERS, depth_to_metres

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError
else:
    from backports.zstd import ZstdError  # with rosbags

LOG = logging.getLogger(__name__)
DEPTH = "depth"  # in a topic's name: its images are distances
DEPTH_SLOP_S = 0.1  # largest difference of stamps between an image and its depth image
RESTART_S = 1.0  # a stamp that goes back further than this starts a new recording
STEP_S = 1e-3  # least time between two images
COMPRESSED = "/compressed"  # image_transport's suffix for JPEG topics
# What rosbags raises on a broken or truncated file; it reads with modules of the standard library.
READ_ERRORS = (
    *(AnyReaderError, Reader1Error, Reader2Error, SerdeError, TypesysError, YAMLError),
    *(sqlite3.Error, apsw.Error, struct.error, zlib.error, ZstdError, MemoryError, ArithmeticError),
    *(OSError, EOFError, ValueError, LookupError, RuntimeError, AssertionError, AttributeError, TypeError),
)


class BagSource(Source):
    """The images of one topic in recorded order.

    Stamps and frame ids are those of the headers; without a header time, or where header times repeat or loop, time
    goes on by the recorder's clock. `fps` is the mean over the
    recording. With a `depth_topic`, frames carry the newest depth image within DEPTH_SLOP_S. Messages that cannot be
    decoded are skipped and counted; so is the rest of a truncated file. SourceError without images, or with several
    image topics and no `topic`.
    """

    def __init__(self, path: Path, topic: str | None = None, depth_topic: str | None = None) -> None:
        self._open = ExitStack()
        self._alone = path.suffix.lower() in (".mcap", ".db3")
        try:
            # SQLite takes no name that is not UTF-8.
            name = self._open.enter_context(file_name(path, folder=not path.is_dir()))
            if path.is_file() and path.suffix != path.suffix.lower():  # rosbags knows endings in small letters
                folder = self._open.enter_context(TemporaryDirectory(prefix="sf_ros_"))
                link = Path(folder, "recording").with_suffix(path.suffix.lower())
                link.symlink_to(name)
                name = str(link)
            files: list[Any] = recordings(Path(name)) or [Path(name)]
            self._cut_off = [file for file in files if file.suffix == ".mcap" and is_unfinished(file)]
            files = [UnfinishedMcap(file) if file in self._cut_off else file for file in files]
            self._bag = AnyReader(files, default_typestore=get_typestore(Stores.ROS2_JAZZY))
            self._bag.open()
            self._open.callback(self._bag.close)
        except READ_ERRORS as error:
            self._open.close()
            raise SourceError(
                f"{printable(str(path))}: not a readable recording ({_reason(error)}). Expected a rosbag2 folder "
                "with its metadata.yaml ('ros2 bag reindex' writes one) or .mcap files, an .mcap or .db3 file, or a "
                "rosbag1 .bag."
            ) from error
        try:
            topics = {c.topic for c in self._bag.connections if c.msgtype in READERS and c.msgcount}
            self.topic = image_topic(path, topics, topic)
            if depth_topic is not None and depth_topic not in topics:
                raise SourceError(
                    f"{path}: no images on {depth_topic}. Topics with images: {', '.join(sorted(topics))}."
                )
        except SourceError:
            self.close()
            raise
        self._connections = [c for c in self._bag.connections if c.topic == self.topic and c.msgtype in READERS]
        self._depth = [c for c in self._bag.connections if c.topic == depth_topic and c.msgtype in READERS]
        self._count = sum(connection.msgcount for connection in self._connections)
        seconds = self._bag.duration / 1e9
        fps = (self._count - 1) / seconds if self._count > 1 and seconds > 0 else IMAGES_FPS
        super().__init__(f"{path}, {self.topic}", min(fps, MAX_FPS))

    @property
    def expected(self) -> int | None:
        return self._count

    def __iter__(self) -> Iterator[Frame]:
        taken = read = 0
        depth: tuple[float, np.ndarray] | None = None  # stamp and newest depth image
        bits, clock = BitDepth(self.topic), _Clock(self.topic)
        try:
            for connection, recorded_ns, data in self._bag.messages([*self._connections, *self._depth]):
                is_depth = connection in self._depth
                taken += not is_depth
                try:
                    message: Any = self._bag.deserialize(data, connection.msgtype)
                    stamp = message.header.stamp
                    seconds = stamp.sec + 1e-9 * stamp.nanosec or 1e-9 * recorded_ns
                    if is_depth:
                        depth = seconds, depth_to_metres(message)
                        continue
                    image = READERS[connection.msgtype](message, bits)
                except READ_ERRORS as error:  # ImageError among them
                    self.skip(connection.topic, _reason(error))
                    continue
                read += 1
                near = depth[1] if depth is not None and abs(depth[0] - seconds) <= DEPTH_SLOP_S else None
                if near is not None and not same_aspect(near.shape[1::-1], image.shape[1::-1]):
                    self.skipped["depth of another shape than the image, hence not aligned"] += 1
                    near = None
                time = clock.time(seconds, 1e-9 * recorded_ns)
                yield Frame(image, time, taken - 1, message.header.frame_id or Frame.frame_id, depth=near)
        except READ_ERRORS as error:
            self.skip(self.topic, f"the recording is truncated ({_reason(error)})", max(self._count - taken, 1))
        for file in self._cut_off:
            self.skip(file.name, "the recording is cut off; the rest of it is missing")
        if not read:
            remedy = " Name the recording's folder: only its metadata.yaml tells of compression." * self._alone
            raise SourceError(
                f"{self.name}: none of {self._count} messages is an image. {_first(self.skipped)}.{remedy}"
            )

    def close(self) -> None:
        self._open.close()


class _Clock:
    """The times of images: their stamps where those advance, else they go on by the recorder's clock."""

    def __init__(self, topic: str) -> None:
        self._topic, self._told = topic, False
        self._stamp = self._latest = self._recorded = self._time = -math.inf

    def time(self, stamp: float, recorded: float) -> float:
        """Seconds, more than before; a stamp more than RESTART_S back starts a new recording."""
        step, elapsed = stamp - self._stamp, recorded - self._recorded
        if stamp > self._latest or step < -RESTART_S:
            self._latest = stamp
            self._time = stamp if step < -RESTART_S else max(stamp, self._time + STEP_S)
        else:
            if step <= 0 and not self._told:
                LOG.warning("%s: stamps repeat or go back; time goes on by the recorder's clock.", self._topic)
                self._told = True
            self._time += max(step if step > 0 else elapsed, STEP_S)
        self._stamp, self._recorded = stamp, recorded
        return self._time


def image_topic(path: Path, topics: Collection[str], wanted: str | None) -> str:
    """The wanted topic, or the only camera among those with images. SourceError where that is ambiguous."""
    listed = ", ".join(sorted(topics)) or "none"
    if wanted is not None:
        if wanted not in topics:
            raise SourceError(f"{path}: no images on {wanted}. Topics with images: {listed}.")
        return wanted
    cameras = [topic for topic in topics if DEPTH not in topic.lower() and topic.removesuffix(COMPRESSED) not in
               set(topics) - {topic}]  # fmt: skip
    if not cameras:
        raise SourceError(f"{path}: no images in this recording. Topics with images: {listed}.")
    if len(cameras) > 1:
        raise SourceError(f"{path}: images of several cameras ({', '.join(sorted(cameras))}). Choose one by --topic.")
    return cameras[0]


def _reason(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _first(reasons: Collection[str]) -> str:
    return next(iter(reasons), "It is empty")
