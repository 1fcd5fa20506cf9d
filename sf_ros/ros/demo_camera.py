"""A camera for machines without one: publishes the demo clip (or a video) again and again as sensor_msgs/Image."""

from __future__ import annotations

import sys
from pathlib import Path

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sf_ros.core.types import Frame
from sf_ros.io.sources import SourceError, VideoSource, demo_file
from sf_ros.msgs.images import from_rgb
from sf_ros.msgs.topics import QOS
from sf_ros.ros.publishers import profile


class DemoCamera(Node):
    """Publishes on 'image' at the video's own rate, stamped with the time of publication; SourceError without video."""

    def __init__(self) -> None:
        super().__init__("camera")
        video = str(self.declare_parameter("video", "").value)
        self._frame_id = str(self.declare_parameter("frame_id", "camera").value)
        self._path = Path(video) if video else demo_file("clip.mp4")
        source = VideoSource(self._path)
        rate = float(self.declare_parameter("rate", 0.0).value) or source.fps
        self._frames = iter(source)
        self._out = self.create_publisher(Image, "image", profile(QOS["camera"]))
        self._timer = self.create_timer(1 / rate, self._publish)

    def _publish(self) -> None:
        frame: Frame | None = next(self._frames, None)
        if frame is None:
            self._frames = iter(VideoSource(self._path))
            frame = next(self._frames)
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        self._out.publish(from_rgb(Image, header, frame.image))


def main(args: list[str] | None = None) -> int:
    """Run the camera until Ctrl-C."""
    rclpy.init(args=args)
    try:
        rclpy.spin(DemoCamera())
    except SourceError as error:
        print(f"sf_ros demo_camera: error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
