"""The node under test with a client, in one process or two. Needs ROS."""

from __future__ import annotations

import fcntl
import itertools
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from sf_ros.msgs.images import from_rgb, to_jpeg
from sf_ros.msgs.topics import QOS

WAIT_S = 20.0
DOMAINS = range(1, 102)  # on Linux, domains 0 to 101 have free ports; 0 is everybody's
LOCKS = Path(tempfile.gettempdir()) / f"sf_ros_domains_{os.getuid()}"
# In turn: a domain that was left may still know of its old nodes.
_turn = itertools.cycle([*DOMAINS[os.getpid() % len(DOMAINS) :], *DOMAINS[: os.getpid() % len(DOMAINS)]])
_held: dict[int, IO[str]] = {}  # domain -> its locked file


def take_domain() -> int:
    """A domain that no other rig of this machine has: nodes of the same name must not see each other.

    A lock ends with its process, however that ends. RuntimeError where every domain is taken.
    """
    LOCKS.mkdir(exist_ok=True)
    for domain in itertools.islice(_turn, len(DOMAINS)):
        if domain in _held or str(domain) == os.environ.get("ROS_DOMAIN_ID"):
            continue
        file = (LOCKS / str(domain)).open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
        else:
            _held[domain] = file
            return domain
    raise RuntimeError(f"{LOCKS}: all {len(DOMAINS)} ROS domains are taken by other tests.")


def leave_domain(domain: int) -> None:
    """Let others have a domain that was taken here."""
    if file := _held.pop(domain, None):
        file.close()


class Rig:
    """The node, and a client that publishes its images and subscribes to its topics; each is spun by a thread."""

    def __init__(self, namespace: str = "", domain: int | None = None, **parameters: Any) -> None:
        import rclpy
        from rclpy.parameter import Parameter

        from sf_ros.ros.node import PerceptionNode

        self.context, self.domain = rclpy.Context(), take_domain() if domain is None else domain
        self._owns_domain = domain is None
        rclpy.init(context=self.context, domain_id=self.domain)
        self._spinning: list[tuple[Any, threading.Thread]] = []
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        self.node = PerceptionNode(namespace=namespace, context=self.context, parameter_overrides=overrides)
        self.name = self.node.get_fully_qualified_name()
        self._spin(self.node)
        self.connect()

    def connect(self) -> None:
        """Create the client."""
        import rclpy

        self.client = rclpy.create_node("client", context=self.context)
        self.received: dict[str, list[Any]] = defaultdict(list)
        self._spin(self.client)

    def disconnect(self) -> None:
        """Destroy the client with its publishers and subscriptions."""
        executor, thread = self._spinning.pop()
        executor.shutdown()
        thread.join(5)
        self.client.destroy_node()

    def close(self) -> None:
        """End both nodes."""
        self.disconnect()
        self.node.close()
        executor, thread = self._spinning.pop()
        executor.shutdown()
        thread.join(5)
        self.node.destroy_node()
        self.context.try_shutdown()
        if self._owns_domain:
            leave_domain(self.domain)

    def _spin(self, node: Any) -> None:
        from rclpy.executors import SingleThreadedExecutor

        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(node)
        self._spinning.append((executor, threading.Thread(target=executor.spin, daemon=True)))
        self._spinning[-1][1].start()

    def go(self, transition: str) -> bool:
        """Request a transition by the service; whether it succeeded."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request()
        request.transition.id = getattr(Transition, f"TRANSITION_{transition.upper()}")
        return self.call(ChangeState, f"{self.name}/change_state", request).success

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """The response of a service."""
        client = self.client.create_client(kind, name)
        assert client.wait_for_service(WAIT_S)
        future = client.call_async(request)
        assert until(future.done, 60), f"no answer from {name}"
        self.client.destroy_client(client)
        return future.result()

    def set(self, **values: Any) -> list[Any]:
        """Set parameters by the service; the result of each."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        changes = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        return self.call(
            SetParameters, f"{self.name}/set_parameters", SetParameters.Request(parameters=changes)
        ).results

    def listen(self, topic: str, kind: str, qos: str = "stream", raw: bool = False) -> None:
        """Collect the messages of a topic in `received`."""
        from sf_ros.ros.publishers import message_type, profile

        self.client.create_subscription(
            message_type(kind), topic, self.received[topic].append, profile(QOS[qos]), raw=raw
        )

    def camera(self, kind: str = "sensor_msgs/msg/Image", topic: str = "image") -> Any:
        """A publisher of images to which the node subscribes."""
        from sf_ros.ros.publishers import message_type, profile

        publisher = self.client.create_publisher(message_type(kind), topic, profile(QOS["camera"]))
        assert until(lambda: publisher.get_subscription_count() > 0)
        return publisher

    def show(self, camera: Any, images: list[np.ndarray], first_s: int = 100, fps: float = 15.0) -> list[int]:
        """Publish images one by one as the node processes them; returns their stamps in nanoseconds."""
        stamps = []
        for number, image in enumerate(images):
            stamps.append(first_s * 10**9 + round(number * 1e9 / fps))
            frames = self.node._health.frames
            camera.publish(image_message(image, stamps[-1]))
            assert until(lambda frames=frames: self.node._health.frames > frames), f"frame {number} was lost"
        return stamps


def image_message(image: np.ndarray, stamp_ns: int, jpeg: bool = False) -> Any:
    """A raw or JPEG image message with a stamp."""
    from sensor_msgs.msg import CompressedImage, Image
    from std_msgs.msg import Header

    header = Header(frame_id="lens")
    header.stamp.sec, header.stamp.nanosec = divmod(stamp_ns, 10**9)
    return to_jpeg(CompressedImage, header, image) if jpeg else from_rgb(Image, header, image)


def until(condition: Callable[[], Any], seconds: float = WAIT_S) -> bool:
    """Whether a condition becomes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


def resources(node: Any) -> list[str]:
    """Topics that a node publishes or subscribes to, and its timers, from the node itself: the ROS graph may lag."""
    timers = [f"timer of {timer.timer_period_ns} ns" for timer in node.timers]
    return sorted([*(p.topic_name for p in node.publishers), *(s.topic_name for s in node.subscriptions), *timers])


def stamp_ns(message: Any) -> int:
    """The stamp of a message's header in nanoseconds."""
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


@contextmanager
def node_process(namespace: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """The node in its own process once it is up, and a client of its change_state service; stdout is its log.

    It has its own namespace: the middleware may list a node for a while after its end.
    """
    import rclpy
    from lifecycle_msgs.srv import ChangeState

    namespace = f"{namespace}_{os.getpid()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "sf_ros.ros.node", "--ros-args", "-r", f"__ns:=/{namespace}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ,
    )
    context = rclpy.Context()
    rclpy.init(context=context)
    try:
        client = rclpy.create_node("client", context=context)
        change = client.create_client(ChangeState, f"/{namespace}/sf_ros/change_state")
        assert change.wait_for_service(60)
        yield process, change
    finally:
        context.try_shutdown()
        process.kill()
