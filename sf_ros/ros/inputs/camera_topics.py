"""The subscriptions to a camera: images, camera_info and depth, and what is missing on them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sf_ros.msgs.topics import QOS, Qos
from sf_ros.ros.diagnostics import Health
from sf_ros.ros.inputs.calibration import Calibration
from sf_ros.ros.inputs.depth import PATIENCE_S, DepthImages
from sf_ros.ros.inputs.stamps import nanoseconds
from sf_ros.ros.inputs.subscription import Input
from sf_ros.ros.parameters import NodeConfig
from sf_ros.ros.problems import Problems

IMAGES_WAITING = 10  # so that an executor that is late for 0.3 s at 30 Hz counts images instead of never seeing them


class CameraTopics:
    """Subscribed from the start until `close`; `check` is called now and then by the executor."""

    def __init__(
        self,
        node: Node,
        config: NodeConfig,
        health: Health,
        problems: Problems,
        calibration: Calibration,
        depths: DepthImages | None,
        on_image: Callable[[Any], None],
        on_error: Callable[[str], None],
    ) -> None:
        self._health, self._problems = health, problems
        self._calibration, self._depths = calibration, depths
        image = node.resolve_topic_name("image")
        self.image_topic = f"{image}/compressed" if config.compressed else image
        kind = CompressedImage if config.compressed else Image
        qos = Qos(config.image_reliability, "volatile", IMAGES_WAITING)
        self._image = Input(node, kind, self.image_topic, on_image, qos, on_error, follow=False, on_lost=health.lose)
        self._info = Input(node, CameraInfo, "camera_info", calibration.add, QOS["camera"], on_error)
        self._depth = Input(node, Image, "depth", self._add_depth, QOS["camera"], on_error) if depths else None

    def check(self) -> None:
        """Follow the publishers, and report what is missing."""
        for each in self._inputs():
            each.check()
        silent_s = self._health.silent_s()
        missing = f"no image for {silent_s:.0f} s" if silent_s is not None else ""
        self._problems.set("image", missing, repeat=True, detail=f" on {self._image.describe()}" if missing else "")
        self._check_info()
        if self._depth is not None and self._depths is not None:
            silent_s, problem = self._depth.silent_s(), self._depths.problem(time.monotonic_ns())
            if silent_s > PATIENCE_S:
                problem = f"no depth image for {silent_s:.0f} s on {self._depth.describe()}"
            elif problem:
                problem += f" ({self._depth.describe()})"
            self._problems.set("depth", problem)

    def _check_info(self) -> None:
        """A missing or refused camera_info is a warning where depth, and thus gaze in space, was asked for."""
        asked, problem = self._depth is not None, self._calibration.problem
        if problem:
            problem = f"{problem} Gaze is published in the image only ('{self._info.topic}')."
        elif asked and not self._calibration.arrived and self._info.silent_s() > PATIENCE_S:
            problem = f"no camera_info for {self._info.silent_s():.0f} s on {self._info.describe()}"
        self._problems.set("camera_info", problem, warn=asked, state=self._calibration.state)

    def close(self) -> None:
        """Destroy the subscriptions."""
        for each in self._inputs():
            each.close()

    def _inputs(self) -> list[Input]:
        return [self._image, self._info, *([self._depth] if self._depth is not None else [])]

    def _add_depth(self, message: Any) -> None:
        if self._depths is not None:
            self._depths.add(message, nanoseconds(message.header), time.monotonic_ns())
