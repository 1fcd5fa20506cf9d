"""A long run against a real ROS 2:  python tests/ros/soak.py [--minutes 10] [--fps 30] [--everything]

Starts the node in its own process, publishes the demo clip and then an empty room at a camera's rate with the current
time as stamp, so that people come and go, subscribes to ~/persons (or to every topic about people except images) and
measures the node's memory, the latency from stamp to arrival and its diagnostics. Prints a line per minute and, last,
one JSON object; exit status 1 when memory grew, latency was not bounded or an image is not accounted for. Needs ROS.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rosidl_runtime_py.utilities import get_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from sf_ros.core.demo import demo_file
from sf_ros.io.video import VideoSource
from sf_ros.msgs.images import from_rgb
from sf_ros.msgs.topics import QOS
from sf_ros.ros.publishers import profile

WARM_UP_S = 60.0
GROWTH_MB = 20.0  # allowed from the first minute after warming up to the last; less is noise of the allocator
# Reliable, so that the middleware loses no image when all cores are busy.
PARAMETERS = ("-p", "device:=cpu", "-p", "image_reliability:=reliable")
LATENCY_S = 0.5  # p95 limit
EMPTY_S = 4.0  # of an empty room after the clip: everybody is forgotten
COUNTS = ("frames", "dropped", "repeated stamps", "bad images", "failed", "lost before arrival")  # of images


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--everything", action="store_true", help="subscribe to every topic of the node except images")
    arguments = parser.parse_args()
    with VideoSource(demo_file("clip.mp4")) as source:
        images = [frame.image for frame in source]
    images += [np.full_like(images[0], 96)] * round(EMPTY_S * arguments.fps)
    process = subprocess.Popen([sys.executable, "-m", "sf_ros.ros.node", "--ros-args", *PARAMETERS])
    rclpy.init()
    try:
        result = measure(process, images, arguments.minutes * 60, arguments.fps, arguments.everything)
    finally:
        rclpy.try_shutdown()
        process.terminate()
        process.wait(30)
    result["exit status of the node"] = process.returncode
    print(json.dumps(result))
    return 0 if result["passed"] else 1


def measure(
    process: subprocess.Popen[bytes], images: list[np.ndarray], seconds: float, fps: float, everything: bool
) -> dict[str, Any]:
    """Publish and subscribe for some seconds; returns the measurements."""
    client = rclpy.create_node("soak")
    latencies: list[tuple[float, float]] = []  # time of arrival, seconds since the stamp
    reports: list[dict[str, str]] = []

    def arrived(message: Detection2DArray) -> None:
        now, stamp = client.get_clock().now().nanoseconds, message.header.stamp
        latencies.append((time.monotonic(), (now - stamp.sec * 10**9 - stamp.nanosec) * 1e-9))

    def reported(message: DiagnosticArray) -> None:
        reports.append({value.key: value.value for value in message.status[0].values})

    client.create_subscription(Detection2DArray, "/sf_ros/persons", arrived, profile(QOS["stream"]))
    client.create_subscription(DiagnosticArray, "/diagnostics", reported, 10)
    subscribed = {"/sf_ros/persons"}
    camera = client.create_publisher(Image, "/image", profile(QOS["stream"]))
    executor = SingleThreadedExecutor()
    executor.add_node(client)
    threading.Thread(target=_spin, args=(executor,), daemon=True).start()
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        change(client, transition)

    start = time.monotonic()
    memory: list[tuple[float, float]] = []  # seconds, MB
    published = 0
    while (now := time.monotonic() - start) < seconds:
        header = Header(stamp=client.get_clock().now().to_msg(), frame_id="camera")
        camera.publish(from_rgb(Image, header, images[published % len(images)]))
        published += 1
        if published % round(fps) == 0:
            if everything:
                listen(client, subscribed)
            memory.append((now, resident_mb(process.pid)))
        if published % round(60 * fps) == 0:
            print(minute(round(now / 60), memory, latencies, reports[-1], start), file=sys.stderr, flush=True)
        time.sleep(max(start + published / fps - time.monotonic(), 0.0))
    time.sleep(2.0)

    warm = [mb for at, mb in memory if at >= min(WARM_UP_S, seconds / 2)]
    part = max(len(warm) // 10, 1)
    growth = float(np.median(warm[-part:]) - np.median(warm[:part]))
    latencies_s = [wait for _, wait in latencies]
    last = reports[-1]
    counts = {name: int(last[name]) for name in COUNTS}
    result = {
        "minutes": round(seconds / 60, 1),
        "published": published,
        "received, as reported by the node": int(last["received"]),
        "answered, dropped and so on": counts,
        "topics subscribed to": len(subscribed),
        "fps": round(counts["frames"] / seconds, 2),
        "latency_ms": {str(q): round(1e3 * float(np.percentile(latencies_s, q)), 1) for q in (50, 95, 99, 100)},
        "memory_mb": {"after warming up": round(float(np.median(warm[:part]))), "growth": round(growth, 1)},
        "diagnostics": {key: value for key, value in last.items() if key.endswith(("p50", "p95", "errors"))},
    }
    result["passed"] = (
        growth < GROWTH_MB
        and float(np.percentile(latencies_s, 95)) < LATENCY_S
        and sum(counts.values()) == published
        and last["errors"] == "0"
    )
    return result


def listen(client: Any, subscribed: set[str]) -> None:
    """Subscribe to new topics, without deserialising; topics of people who left stay subscribed."""
    for topic, kinds in client.get_topic_names_and_types():
        if topic.startswith(("/humans/", "/sf_ros/")) and topic not in subscribed and not kinds[0].endswith("Image"):
            subscribed.add(topic)
            client.create_subscription(get_message(kinds[0]), topic, _ignore, profile(QOS["stream"]), raw=True)


def _ignore(message: bytes) -> None:
    """Callback of a subscription that only causes load."""


def _spin(executor: SingleThreadedExecutor) -> None:
    with contextlib.suppress(ExternalShutdownException):
        executor.spin()


def change(client: Any, transition: int) -> None:
    """A lifecycle transition of the node; SystemExit where it fails."""
    service = client.create_client(ChangeState, "/sf_ros/change_state")
    if not service.wait_for_service(60):
        raise SystemExit("error: the node did not come up within 60 s.")
    request = ChangeState.Request()
    request.transition.id = transition
    future = service.call_async(request)
    while not future.done():
        time.sleep(0.05)
    if not future.result().success:
        raise SystemExit("error: the node refused a transition; see its log.")


def minute(
    number: int,
    memory: list[tuple[float, float]],
    latencies: list[tuple[float, float]],
    report: dict[str, str],
    start: float,
) -> str:
    """The summary line of one minute."""
    latencies_s = [wait for at, wait in latencies if at - start > 60 * (number - 1)]
    return (
        f"minute {number:2}: {len(latencies_s) / 60:.1f} frames/s, "
        f"latency p50 {1e3 * np.percentile(latencies_s, 50):.0f} ms, "
        f"p95 {1e3 * np.percentile(latencies_s, 95):.0f} ms, longest {1e3 * max(latencies_s):.0f} ms; "
        f"memory {memory[-1][1]:.0f} MB; dropped {report['dropped']}, overhead p95 {report['overhead ms p95']} ms"
    )


def resident_mb(pid: int) -> float:
    """Resident memory of a process in megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1e3
    return 0.0


if __name__ == "__main__":
    sys.exit(main())
