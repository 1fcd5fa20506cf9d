"""A ROS 2 image topic as a Source; rclpy is imported only when one is opened."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

from sf_ros.core.bit_depth import BitDepth
from sf_ros.core.types import Frame
from sf_ros.io.camera import STOPPED_AFTER_S
from sf_ros.io.source import UNKNOWN_FPS, Source, SourceError

LOG = logging.getLogger(__name__)
PREFIX = "topic:"  # of a topic's name on the command line
COMPRESSED = "/compressed"  # suffix of CompressedImage topics (image_transport)
FIRST_S = 10.0  # wait for the first image


class TopicSource(Source):
    """Iterates over a topic's newest images; subscribes best effort, which matches every camera.

    Unreadable images are skipped and counted. SourceError if ROS 2 is missing or no image arrives.
    """

    live = True

    def __init__(self, topic: str, first_s: float = FIRST_S) -> None:
        try:
            import rclpy
            from rclpy.executors import SingleThreadedExecutor
            from rclpy.signals import SignalHandlerOptions
            from sensor_msgs.msg import CompressedImage, Image

            from sf_ros.ros.publishers import profile
        except ImportError as error:
            raise SourceError(
                f"{PREFIX}{topic} needs ROS 2, and {error.name} cannot be imported. Source its setup.bash first, and "
                "use a Python for which it was built; or record images into a folder."
            ) from error
        from sf_ros.msgs.topics import QOS

        super().__init__(topic, UNKNOWN_FPS)
        self._first_s = first_s
        self._compressed = topic.endswith(COMPRESSED)
        self._newest: Any = None
        self._context = rclpy.Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)  # Ctrl-C stays Python's
        self._node = rclpy.create_node("camera_calibration", context=self._context)
        kind = CompressedImage if self._compressed else Image
        self._node.create_subscription(kind, topic, self._take, profile(QOS["camera"]))
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)

    def __iter__(self) -> Iterator[Frame]:
        from sf_ros.msgs.images import ImageError, compressed_to_rgb, image_to_rgb

        index, depth = 0, BitDepth(self.name)
        while True:
            message = self._next(self._first_s if index == 0 else None)
            try:
                image = compressed_to_rgb(message, depth) if self._compressed else image_to_rgb(message, depth)
            except ImageError as error:
                self.skip(self.name, str(error))
                continue
            stamp = message.header.stamp
            yield Frame(image, stamp.sec + 1e-9 * stamp.nanosec or time.time(), index)
            index += 1

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _take(self, message: Any) -> None:
        self.dropped += self._newest is not None
        self._newest = message

    def _next(self, patience_s: float | None) -> Any:
        """The newest message; SourceError if none arrives within `patience_s` (None: waits and logs once)."""
        since, logged = time.monotonic(), False
        while self._newest is None:
            self._executor.spin_once(timeout_sec=STOPPED_AFTER_S / 4)
            waited_s = time.monotonic() - since
            if patience_s is not None and waited_s > patience_s:
                images = [
                    name for name, kinds in self._node.get_topic_names_and_types() if any("Image" in k for k in kinds)
                ]
                raise SourceError(
                    f"No image on {self.name} within {patience_s:g} s. "
                    f"Image topics: {', '.join(images) or 'none'}. "
                    "Check the name, that the camera runs, and ROS_DOMAIN_ID."
                )
            if not logged and waited_s > STOPPED_AFTER_S:
                LOG.warning("%s gave no image for %.0f s; waiting for it to come back.", self.name, STOPPED_AFTER_S)
                logged = True
        message, self._newest = self._newest, None
        return message
