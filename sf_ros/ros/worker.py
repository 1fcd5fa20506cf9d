"""The thread that takes the newest image through the pipeline and puts what it says onto topics."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import numpy as np
from rclpy.node import Node

from sf_ros.core.attention import in_space
from sf_ros.core.camera import Camera
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.space import Gaze3D
from sf_ros.core.types import Frame, FrameCues
from sf_ros.msgs.hri import MessageSettings, PublisherState, messages
from sf_ros.msgs.images import ImageError, compressed_to_rgb, depth_to_metres, to_rgb
from sf_ros.msgs.spatial import spatial_messages
from sf_ros.msgs.topics import body_id, face_id
from sf_ros.perception.pipeline import RESTART_S, Pipeline
from sf_ros.ros.diagnostics import Health
from sf_ros.ros.image_topics import publish_pictures
from sf_ros.ros.parameters import NodeConfig
from sf_ros.ros.persons import ExternalPersons
from sf_ros.ros.publishers import Publishers, message_type

REPEAT_WARNING_S = 10.0
MAX_LATENCY_S = 60.0  # stamps further from our clock than this are from another one
DEPTH_KEPT = 5  # newest depth images kept for the camera image they belong to
MODELS = ("detect", "vision", "llm")  # stages that are not ours to make faster


class Worker:
    """Runs from `start` to `stop`, while the node is active; the next one knows nobody.

    `offer`, `add_depth`, `configure` and `camera` are for other threads. Until the worker stops, the pipeline and the
    publishers are its own.
    """

    def __init__(
        self,
        node: Node,
        pipeline: Pipeline,
        outputs: Publishers,
        health: Health,
        config: NodeConfig,
        settings: MessageSettings,
        external: ExternalPersons | None = None,
    ) -> None:
        self.camera: Camera | None = None  # once it is calibrated
        self._node, self._pipeline, self._outputs, self._health = node, pipeline, outputs, health
        self._config, self._settings, self._external = config, settings, external
        self._changes: tuple[RuntimeConfig, MessageSettings] | None = None
        self._newest: Any = None
        self._stopping = False
        self._wake = threading.Condition()
        self._depths: deque[Any] = deque(maxlen=DEPTH_KEPT)
        self._told = PublisherState()
        self._last_stamp_ns: int | None = None
        self._unstamped = False
        self._thread = threading.Thread(target=self._run, name="perception", daemon=True)

    def start(self) -> None:
        """Begin to wait for images."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the image at hand, then forget everybody."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()
        self._pipeline.reset()
        self._outputs.reset()

    def offer(self, message: Any) -> None:
        """A camera image: it takes the place of one that still waits."""
        with self._wake:
            if self._newest is not None:
                self._health.drop()
            self._newest = message
            self._wake.notify()

    def add_depth(self, message: Any) -> None:
        """A depth image, for camera images of about its time."""
        with self._wake:
            self._depths.append(message)

    def configure(self, runtime: RuntimeConfig, settings: MessageSettings) -> None:
        """Other rates, thresholds and names from the next image on."""
        with self._wake:
            self._changes = runtime, settings

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping or self._newest is not None)
                if self._stopping:
                    return
                message, self._newest = self._newest, None
                changes, self._changes = self._changes, None
            if changes is not None:
                runtime, self._settings = changes
                self._pipeline.configure(runtime)
            log = self._node.get_logger()
            try:
                self._handle(message)
            except ImageError as error:
                self._health.fault(str(error), image=True)
                log.warning(f"Image skipped: {error}", throttle_duration_sec=REPEAT_WARNING_S)
            except Exception as error:  # the node must outlive whatever one frame does to it
                if not self._node.context.ok():
                    return  # Ctrl-C: ROS was gone before this frame was through
                text = f"{type(error).__name__}: {error}"
                self._health.fault(text)
                log.error(f"Frame lost: {text}", throttle_duration_sec=REPEAT_WARNING_S)

    def _handle(self, message: Any) -> None:
        """One image through the pipeline, and everything it tells onto the topics."""
        start = time.perf_counter()
        stamp_ns = self._stamp_ns(message.header)
        if not self._is_new(stamp_ns):
            self._health.repeat()
            return
        image = compressed_to_rgb(message) if self._config.compressed else to_rgb(message)
        converted = time.perf_counter()
        cues = self._pipeline.step(Frame(image, stamp_ns * 1e-9, self._health.frames, message.header.frame_id))
        answered = time.perf_counter()
        depth = self._depth_at(stamp_ns) if cues.people else None
        cues, spaces = in_space(cues, self.camera, depth, self._settings.looking_min)
        self._publish(message.header, stamp_ns, cues, spaces)
        published = time.perf_counter()
        publish_pictures(self._outputs, self._settings.names, message.header, image, cues, self._config.crop_size)
        timings = dict(cues.timings_ms)
        timings["convert"] = (converted - start) * 1e3
        timings["publish"] = (published - answered) * 1e3
        timings["overhead"] = (published - start) * 1e3 - sum(timings.get(stage, 0.0) for stage in MODELS)
        latency_s = (self._node.get_clock().now().nanoseconds - stamp_ns) * 1e-9
        self._health.frame(cues, timings, latency_s if abs(latency_s) < MAX_LATENCY_S else None)

    def _is_new(self, stamp_ns: int) -> bool:
        """Whether a stamp is newer than the last one, or so much older that a recording began again."""
        if self._last_stamp_ns is not None:
            back_s = (self._last_stamp_ns - stamp_ns) * 1e-9
            if 0 <= back_s <= RESTART_S:
                return False
            if back_s > RESTART_S:
                self._node.get_logger().info(f"Stamps went back by {back_s:.1f} s: everybody is new.")
                self._told = PublisherState()
        self._last_stamp_ns = stamp_ns
        return True

    def _publish(self, header: Any, stamp_ns: int, cues: FrameCues, spaces: dict[int, Gaze3D]) -> None:
        tracks = [person.person.track_id for person in cues.people]
        ids = self._external.of(tracks) if self._external is not None else None
        items, self._told = messages(
            cues, message_type, self._settings, self._told, stamp_ns=stamp_ns, person_ids=ids, spaces=spaces
        )
        items += spatial_messages(cues, message_type, self._settings, spaces, header)
        faces = [face_id(person.person.track_id) for person in cues.people if person.person.face]
        self._outputs.send(items, [*faces, *map(body_id, tracks), *self._told.seen], cues.stamp)

    def _depth_at(self, stamp_ns: int) -> np.ndarray | None:
        """The depth image nearest in time, in metres; None where none is near enough or it is broken."""
        with self._wake:
            near = min(self._depths, key=lambda m: abs(_nanoseconds(m.header) - stamp_ns), default=None)
        if near is None or abs(_nanoseconds(near.header) - stamp_ns) > self._config.depth_slop_s * 1e9:
            return None
        try:
            return depth_to_metres(near)
        except ImageError as error:
            self._health.fault(str(error), image=True)
            self._node.get_logger().warning(f"Depth skipped: {error}", throttle_duration_sec=REPEAT_WARNING_S)
            return None

    def _stamp_ns(self, header: Any) -> int:
        """The header's time; where the driver left it at 0, now, which is then the header's as well."""
        if stamp_ns := _nanoseconds(header):
            return stamp_ns
        if not self._unstamped:
            self._unstamped = True
            self._node.get_logger().warning("Images have no stamp: taking the time of arrival.")
        now = self._node.get_clock().now()
        header.stamp = now.to_msg()
        return int(now.nanoseconds)


def _nanoseconds(header: Any) -> int:
    return int(header.stamp.sec * 1_000_000_000 + header.stamp.nanosec)
