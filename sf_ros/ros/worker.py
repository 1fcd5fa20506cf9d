"""The thread that runs the newest image through the pipeline and publishes the cues."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import numpy as np
from rclpy.node import Node

from sf_ros.core.camera import Camera
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Frame, FrameCues
from sf_ros.msgs.builder import MessageSettings
from sf_ros.msgs.hri import PublisherState
from sf_ros.msgs.images import ImageError, compressed_to_rgb, depth_to_metres, to_rgb
from sf_ros.msgs.messages import messages
from sf_ros.msgs.topics import body_id, face_id
from sf_ros.perception.pipeline import RESTART_S, Pipeline
from sf_ros.ros.diagnostics import Health
from sf_ros.ros.image_topics import publish_images
from sf_ros.ros.parameters import NodeConfig
from sf_ros.ros.persons import ExternalPersons
from sf_ros.ros.publishers import Publishers, message_type

WARNING_PERIOD_S = 10.0  # between two log lines with the same warning
MAX_LATENCY_S = 60.0  # stamps further from this machine's clock are from another clock
DEPTH_IMAGES = 5  # newest depth images kept, to find the one nearest to a camera image
MODEL_STAGES = ("detect", "vision", "llm")  # stages that do not count as overhead


class Worker:
    """Processes images from `start` to `stop`, while the node is active.

    `offer`, `add_depth`, `configure` and `camera` may be used by other threads. Pipeline and publishers belong to the
    worker's thread until it stops.
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
        self.camera: Camera | None = None  # None until a valid camera_info arrives
        self._node, self._pipeline, self._outputs, self._health = node, pipeline, outputs, health
        self._config, self._settings, self._external = config, settings, external
        self._new_config: tuple[RuntimeConfig, MessageSettings] | None = None
        self._newest: Any = None
        self._stopping = False
        self._wake = threading.Condition()
        self._depths: deque[Any] = deque(maxlen=DEPTH_IMAGES)
        self._state = PublisherState()
        self._last_stamp_ns: int | None = None
        self._warned_unstamped = False
        self._thread = threading.Thread(target=self._run, name="perception", daemon=True)

    def start(self) -> None:
        """Start the thread, which waits for images."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the current image, then reset tracks and per-person topics."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()
        self._pipeline.reset()
        self._outputs.reset()

    def offer(self, message: Any) -> None:
        """Take a camera image; it replaces one that is still waiting."""
        with self._wake:
            if self._newest is not None:
                self._health.drop()
            self._newest = message
            self._wake.notify()

    def add_depth(self, message: Any) -> None:
        """Take a depth image, for the camera image nearest in time."""
        with self._wake:
            self._depths.append(message)

    def configure(self, runtime: RuntimeConfig, settings: MessageSettings) -> None:
        """Use another configuration from the next image on."""
        with self._wake:
            self._new_config = runtime, settings

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping or self._newest is not None)
                if self._stopping:
                    return
                message, self._newest = self._newest, None
                new_config, self._new_config = self._new_config, None
            if new_config is not None:
                runtime, self._settings = new_config
                self._pipeline.configure(runtime)
            log = self._node.get_logger()
            try:
                self._process(message)
            except ImageError as error:
                self._health.fault(str(error), image=True)
                log.warning(f"Image skipped: {error}", throttle_duration_sec=WARNING_PERIOD_S)
            except Exception as error:  # an error in one frame must not end the node
                if not self._node.context.ok():
                    return  # Ctrl-C shut ROS down during this frame
                text = f"{type(error).__name__}: {error}"
                self._health.fault(text)
                log.error(f"Frame lost: {text}", throttle_duration_sec=WARNING_PERIOD_S)

    def _process(self, message: Any) -> None:
        """Run one image through the pipeline and publish its cues."""
        start = time.perf_counter()
        stamp_ns = self._stamp_ns(message.header)
        if not self._is_new(stamp_ns):
            self._health.repeat()
            return
        image = compressed_to_rgb(message) if self._config.compressed else to_rgb(message)
        depth = self._depth_at(stamp_ns)
        converted = time.perf_counter()
        frame_id = message.header.frame_id
        cues = self._pipeline.step(Frame(image, stamp_ns * 1e-9, self._health.frames, frame_id, self.camera, depth))
        answered = time.perf_counter()
        self._publish(stamp_ns, cues)
        published = time.perf_counter()
        publish_images(self._outputs, self._settings.names, message.header, image, cues, self._config.crop_size)
        timings = dict(cues.timings_ms)
        timings["convert"] = (converted - start) * 1e3
        timings["publish"] = (published - answered) * 1e3
        timings["overhead"] = (published - start) * 1e3 - sum(timings.get(stage, 0.0) for stage in MODEL_STAGES)
        latency_s = (self._node.get_clock().now().nanoseconds - stamp_ns) * 1e-9
        self._health.frame(cues, timings, latency_s if abs(latency_s) < MAX_LATENCY_S else None)

    def _is_new(self, stamp_ns: int) -> bool:
        """Whether a stamp is newer than the last one, or so much older that a recording was restarted."""
        if self._last_stamp_ns is not None:
            back_s = (self._last_stamp_ns - stamp_ns) * 1e-9
            if 0 <= back_s <= RESTART_S:
                return False
            if back_s > RESTART_S:
                self._node.get_logger().info(f"Time jumped back by {back_s:.1f} s; tracks reset.")
                self._state = PublisherState()
        self._last_stamp_ns = stamp_ns
        return True

    def _publish(self, stamp_ns: int, cues: FrameCues) -> None:
        tracks = [person.person.track_id for person in cues.people]
        person_ids = self._external.of(tracks) if self._external is not None else None
        items, self._state = messages(
            cues,
            message_type,
            self._settings,
            self._state,
            stamp_of=lambda seconds: stamp_ns - round((cues.stamp - seconds) * 1e9),
            person_ids=person_ids,
        )
        faces = [face_id(person.person.track_id) for person in cues.people if person.person.face]
        self._outputs.send(items, [*faces, *map(body_id, tracks), *self._state.last_seen], cues.stamp)

    def _depth_at(self, stamp_ns: int) -> np.ndarray | None:
        """The depth image nearest in time, in metres; None where none is within `depth_slop_s` or it is broken."""
        with self._wake:
            nearest = min(self._depths, key=lambda m: abs(_nanoseconds(m.header) - stamp_ns), default=None)
        if nearest is None or abs(_nanoseconds(nearest.header) - stamp_ns) > self._config.depth_slop_s * 1e9:
            return None
        try:
            return depth_to_metres(nearest)
        except ImageError as error:
            self._health.fault(str(error), image=True)
            self._node.get_logger().warning(f"Depth skipped: {error}", throttle_duration_sec=WARNING_PERIOD_S)
            return None

    def _stamp_ns(self, header: Any) -> int:
        """The header's stamp; where the driver left it at 0, the current time, which is written to the header."""
        if stamp_ns := _nanoseconds(header):
            return stamp_ns
        if not self._warned_unstamped:
            self._warned_unstamped = True
            self._node.get_logger().warning("Images have no stamp; using the time of arrival.")
        now = self._node.get_clock().now()
        header.stamp = now.to_msg()
        return int(now.nanoseconds)


def _nanoseconds(header: Any) -> int:
    return int(header.stamp.sec * 1_000_000_000 + header.stamp.nanosec)
