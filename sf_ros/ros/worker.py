"""The thread that runs the newest image through the pipeline and publishes the cues."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from rclpy.node import Node

from sf_ros.core.bit_depth import BitDepth
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Frame, FrameCues
from sf_ros.msgs.builder import MessageSettings
from sf_ros.msgs.hri import PublisherState
from sf_ros.msgs.images import ImageError, compressed_to_rgb, image_to_rgb
from sf_ros.msgs.messages import departure, messages
from sf_ros.msgs.topics import body_id, face_id
from sf_ros.perception.pipeline import Pipeline
from sf_ros.ros.diagnostics import Health
from sf_ros.ros.image_topics import publish_images
from sf_ros.ros.inputs.calibration import Calibration
from sf_ros.ros.inputs.depth import DepthImages
from sf_ros.ros.inputs.persons import ExternalPersons
from sf_ros.ros.inputs.source import ImageSource
from sf_ros.ros.inputs.stamps import ImageClock, clock_problem, nanoseconds
from sf_ros.ros.parameters import NodeConfig
from sf_ros.ros.problems import Problems
from sf_ros.ros.publishers import Publishers, message_type

WARNING_PERIOD_S = 10.0  # between two log lines with the same warning
MAX_LATENCY_S = 60.0  # a longer one is a difference of clocks
TICK_S = 0.1  # between looks at the clock while no image arrives
MODEL_STAGES = ("detect", "vision", "llm")  # stages that do not count as overhead


class _Arrival(NamedTuple):
    """An image, and when it was received: of a steady clock and of the node's, nanoseconds."""

    message: Any
    received: int
    now: int


class _Published(NamedTuple):
    """The last frame: when it was published (steady clock, seconds), its image's stamp, arrival and frame id."""

    at_s: float
    stamp: int
    now: int
    frame_id: str


class Worker:
    """Processes images from `start` to `stop`, while the node is active. Without images, people leave by the clock.

    `offer` and `configure` may be used by other threads. Pipeline and publishers belong to the worker's thread until it
    stops.
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
        *,
        problems: Problems,
        calibration: Calibration,
        depths: DepthImages | None = None,
    ) -> None:
        self._problems, self._calibration, self._depths = problems, calibration, depths
        self._node, self._pipeline, self._outputs, self._health = node, pipeline, outputs, health
        self._config, self._settings, self._external = config, settings, external
        self._new_config: tuple[RuntimeConfig, MessageSettings] | None = None
        self._newest: _Arrival | None = None
        self._stopping = False
        self._wake = threading.Condition()
        self._state = PublisherState()
        self._published: _Published | None = None  # None before the first frame, and after people have left
        self._clock, self._source = ImageClock(), ImageSource()
        self._bits = BitDepth("image", config.image_bits, node.get_logger().warning)
        self._thread = threading.Thread(target=self._run, name="perception", daemon=True)

    def start(self) -> None:
        """Start the thread, which waits for images."""
        self._thread.start()

    def stop(self) -> None:
        """Finish the current image, then let people leave, and reset tracks and per-person topics."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join()
        if self._node.context.ok():
            self._guarded(self._leave)
        self._pipeline.reset()
        self._outputs.reset()

    def offer(self, message: Any) -> None:
        """Take a camera image; it replaces one that is still waiting."""
        arrival = _Arrival(message, time.monotonic_ns(), self._node.get_clock().now().nanoseconds)
        with self._wake:
            if self._newest is not None:
                self._health.drop()
            self._newest = arrival
            self._wake.notify()

    def configure(self, runtime: RuntimeConfig, settings: MessageSettings) -> None:
        """Use another configuration from the next image on."""
        with self._wake:
            self._new_config = runtime, settings

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping or self._newest is not None, TICK_S)
                if self._stopping:
                    return
                arrival, self._newest = self._newest, None
                new_config, self._new_config = self._new_config, None
            if new_config is not None:
                runtime, self._settings = new_config
                self._pipeline.configure(runtime)
            if arrival is not None:
                self._guarded(self._process, arrival)
            self._guarded(self._expire, time.monotonic())

    def _guarded(self, step: Callable[..., None], *arguments: Any) -> None:
        """A step whose errors are logged and counted: one in a single frame must not end the node."""
        log = self._node.get_logger()
        try:
            step(*arguments)
        except ImageError as error:
            self._health.fault(str(error), image=True)
            log.warning(f"Image skipped: {error}", throttle_duration_sec=WARNING_PERIOD_S)
        except Exception as error:
            if not self._node.context.ok():
                return  # Ctrl-C shut ROS down during this step
            text = f"{type(error).__name__}: {error}"
            self._health.fault(text, failed=step == self._process)
            log.error(f"Frame lost: {text}", throttle_duration_sec=WARNING_PERIOD_S)

    def _expire(self, now_s: float) -> None:
        """Let people leave who are known from a frame too long ago, and remove the topics of those who left."""
        if self._published is not None and now_s - self._published.at_s > self._config.no_image_after_s:
            self._leave()
        self._outputs.expire(now_s)

    def _leave(self) -> None:
        """Say that everybody has left, at the stamp of the last image plus the time since it arrived."""
        last, self._published = self._published, None
        if last is not None:
            stamp = last.stamp + max(self._node.get_clock().now().nanoseconds - last.now, 0)
            items, self._state = departure(stamp, last.frame_id, message_type, self._settings, self._state)
            self._outputs.send(items, (), time.monotonic())

    def _process(self, arrival: _Arrival) -> None:
        """Run one image through the pipeline and publish its cues."""
        start, message = time.perf_counter(), arrival.message
        own_stamp = nanoseconds(message.header)
        if own_stamp is None and arrival.now > 0:  # before the first /clock message, there is no time to give it
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(arrival.now, 1_000_000_000)
        stamp = arrival.now if own_stamp is None else own_stamp
        moment = self._clock.take(stamp, arrival.received, stamped=own_stamp is not None)
        self._report_clock(stamp, arrival.now)
        if moment is None:
            self._health.repeat()
            return
        if moment.restart:
            self._pipeline.restart()
        to_rgb = compressed_to_rgb if self._config.compressed else image_to_rgb
        image = to_rgb(message, self._bits)
        size, frame_id = (image.shape[1], image.shape[0]), message.header.frame_id
        self._problems.set("source", self._source.problem(size, frame_id, arrival.received * 1e-9))
        camera, depth = self._calibration.camera(size, frame_id), None
        if self._depths is not None:
            depth = self._depths.at(own_stamp, arrival.received, size, frame_id)
        if camera is not None and not frame_id:
            frame_id = message.header.frame_id = camera.frame_id
        unnamed = camera is not None and not frame_id
        self._problems.set("frame", "neither images nor camera_info name a frame: no TF" if unnamed else "")
        converted = time.perf_counter()
        cues = self._pipeline.step(Frame(image, moment.seconds, self._health.frames, frame_id, camera, depth))
        answered = time.perf_counter()
        self._publish(cues)
        self._published = _Published(time.monotonic(), stamp, arrival.now, frame_id)
        published = time.perf_counter()
        publish_images(self._outputs, self._settings.names, message.header, image, cues, self._config.crop_size)
        timings = dict(cues.timings_ms)
        timings["convert"] = (converted - start) * 1e3
        timings["publish"] = (published - answered) * 1e3
        timings["overhead"] = (published - start) * 1e3 - sum(timings.get(stage, 0.0) for stage in MODEL_STAGES)
        # From the sensor's stamp; from its arrival, where the clocks differ.
        latency_s = (self._node.get_clock().now().nanoseconds - stamp) * 1e-9
        if own_stamp is None or self._clock.problem or not 0 <= latency_s < MAX_LATENCY_S:
            latency_s = (time.monotonic_ns() - arrival.received) * 1e-9
        self._health.frame(cues, timings, latency_s)

    def _report_clock(self, stamp: int, now: int) -> None:
        """Stamps that cannot be used are a warning, and so are stamps from the future; a recording is not."""
        other = clock_problem(stamp, now, self._node.get_clock().ros_time_is_active)
        problems = [problem for problem in (self._clock.problem, other) if problem]
        self._problems.set("stamps", "; ".join(problems), warn=bool(self._clock.problem) or stamp >= now)

    def _publish(self, cues: FrameCues) -> None:
        tracks = [person.person.track_id for person in cues.people]
        person_ids = self._external.of(tracks) if self._external is not None else None
        items, self._state = messages(
            cues, message_type, self._settings, self._state, stamp_of=self._clock.stamp_of, person_ids=person_ids
        )
        faces = [face_id(person.person.track_id) for person in cues.people if person.person.face]
        self._outputs.send(items, [*faces, *map(body_id, tracks), *self._state.last_seen], time.monotonic())
