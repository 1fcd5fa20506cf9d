"""A simulated camera: publishes the demo clip, or another video, in a loop as sensor_msgs/Image."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sf_ros.core.demo import demo_file
from sf_ros.core.text import command_line
from sf_ros.core.types import Frame
from sf_ros.io.source import SourceError
from sf_ros.io.video import VideoSource
from sf_ros.msgs.images import from_rgb
from sf_ros.msgs.topics import QOS
from sf_ros.ros.publishers import profile


class DemoCamera(Node):
    """Publishes on 'image' with the current time as stamp. SourceError where the video cannot be read."""

    def __init__(self) -> None:
        super().__init__("camera")
        video = str(self.declare_parameter("video", "").value)
        self._frame_id = str(self.declare_parameter("frame_id", "camera").value)
        self._path = Path(video) if video else demo_file("clip.mp4")
        source = VideoSource(self._path)
        rate = float(self.declare_parameter("rate", 0.0).value) or source.fps
        self._frames = iter(source)
        self._publisher = self.create_publisher(Image, "image", profile(QOS["camera"]))
        self._timer = self.create_timer(1 / rate, self._publish)

    def _publish(self) -> None:
        frame: Frame | None = next(self._frames, None)
        if frame is None:
            self._frames = iter(VideoSource(self._path))
            frame = next(self._frames)
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        self._publisher.publish(from_rgb(Image, header, frame.image))


@command_line
def main(args: list[str] | None = None) -> int:
    """Run the camera until Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rclpy.init(args=args)
    try:
        rclpy.spin(DemoCamera())
    except SourceError as error:
        print(f"sf_ros demo_camera: error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the shutdown
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
