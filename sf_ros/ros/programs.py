"""What `ros2 run` and `ros2 launch` start: Ctrl-C ends it without a traceback even while its modules are imported."""

from __future__ import annotations

import importlib
import os
import signal


def perception_node() -> int:
    """Run sf_ros.ros.node."""
    return _run("sf_ros.ros.node")


def demo_camera() -> int:
    """Run sf_ros.ros.demo_camera."""
    return _run("sf_ros.ros.demo_camera")


def _run(module: str) -> int:
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))  # until main, which has a handler of its own
    return int(importlib.import_module(module).main())
