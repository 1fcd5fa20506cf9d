"""The lifecycle node: newest camera image in, social cues out. `ros2 launch sf_ros perception.launch.py` starts it."""

from __future__ import annotations

import functools
import gc
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from tf2_msgs.msg import TFMessage

from sf_ros.core.bundle import BundleError
from sf_ros.core.camera import CalibrationError, Camera
from sf_ros.core.types import Box, Frame, FrameCues
from sf_ros.diagnostics import Health
from sf_ros.images import ImageError, compressed_to_rgb, depth_to_metres, from_rgb, to_jpeg, to_rgb
from sf_ros.messages import MessageSettings, Told, messages
from sf_ros.parameters import Parameter, configs, parameters
from sf_ros.persons import ExternalPersons
from sf_ros.publishers import Publishers, describe, message_type, profile
from sf_ros.runtime.detector import DetectorError
from sf_ros.runtime.draw import draw
from sf_ros.runtime.pipeline import RESTART_S, Pipeline, load_pipeline
from sf_ros.spatial import spatial_messages
from sf_ros.topics import PICTURES, QOS, Qos, body_id, face_id

CHECK_S = 0.5  # between looks at whether images come
REPORT_S = 1.0  # between diagnostics
REPEAT_WARNING_S = 10.0
MAX_LATENCY_S = 60.0  # stamps further from our clock than this are from another one
DEPTH_KEPT = 5  # newest depth images kept for the camera image they belong to
Result = TransitionCallbackReturn
Transition = Callable[["PerceptionNode", LifecycleState], TransitionCallbackReturn]


def _logged(transition: Transition) -> Transition:
    """rclpy turns an exception in a transition into ERROR and keeps it to itself: log it first."""

    @functools.wraps(transition)
    def logged(node: PerceptionNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            node.get_logger().error(f"{transition.__name__}: {type(error).__name__}: {error}")
            raise

    return logged


class PerceptionNode(LifecycleNode):
    """Configure loads and verifies the bundle; activate starts the flow; deactivate and cleanup give everything back.

    The image callback only keeps the newest image; a worker thread runs the pipeline, so that parameters and services
    answer while the model runs.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("sf_ros", **options)
        self._known = parameters()
        for parameter in self._known.values():
            self.declare_parameter(parameter.name, parameter.default, descriptor(parameter))
        self.add_on_set_parameters_callback(self._on_parameters)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._health = Health()
        self._pipeline: Pipeline | None = None
        self._worker: threading.Thread | None = None
        self._wake = threading.Condition()
        self._stopping = False
        self._newest: Any = None
        self._inputs: list[Any] = []
        self._timers_here: list[Any] = []
        self._external: ExternalPersons | None = None
        self._camera: Camera | None = None
        self._info: Any = None
        self._last_stamp_ns: int | None = None
        # A node without timers can miss the signal to shut down.
        self._pulse = self.create_timer(REPORT_S, self._report, clock=self._steady)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 1)

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    @_logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and verify the bundle; FAILURE with the reason in the log when that cannot be."""
        try:
            self._config, runtime = configs({name: self.get_parameter(name).value for name in self._known})
            self._settings: MessageSettings = self._config.messages(self.get_fully_qualified_name(), runtime)
            self._pipeline = load_pipeline(self._config.bundle or None, runtime)
        except (BundleError, DetectorError, ValueError, OSError) as error:
            self.get_logger().error(f"Cannot configure: {' '.join(str(error).split())}")
            self._release()
            return Result.FAILURE
        if runtime.device == "auto" and not _gpu():
            self.get_logger().warning("No GPU that torch can use: running on the CPU.")
        names = self._settings.names
        pictures = {names.topic(key): PICTURES[key] for key in ("overlay", "overlay_compressed")}
        self._outputs = Publishers(
            self, names.fixed() | pictures, self._config.appear_after_frames, self._config.vanish_after_s
        )
        self._tf = self.create_publisher(TFMessage, "/tf", 100)
        self._health = Health(self._config.no_image_after_s)
        self.get_logger().info(f"Configured with bundle '{self._config.bundle or 'demo'}'.")
        return Result.SUCCESS

    @_logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and start working."""
        self._told, self._last_stamp_ns = Told(), None
        self._camera, self._info = None, None
        self._depths: deque[Any] = deque(maxlen=DEPTH_KEPT)
        self._newest, self._stopping, self._unstamped = None, False, False
        if self._config.persons == "external":
            self._external = ExternalPersons(self, self._settings.names)
        image = self.resolve_topic_name("image")
        self._image_topic = f"{image}/compressed" if self._config.compressed else image
        kind = CompressedImage if self._config.compressed else Image
        qos = profile(Qos(self._config.image_reliability, "volatile", 1))
        self._listen(kind, self._image_topic, self._on_image, qos)
        self._listen(CameraInfo, "camera_info", self._on_info, profile(QOS["camera"]))
        if self._config.use_depth:
            self._listen(Image, "depth", self._depths.append, profile(QOS["camera"]))
        self._health.start(self._now_s())
        self._worker = threading.Thread(target=self._work, name="perception", daemon=True)
        self._worker.start()
        self._timers_here = [self.create_timer(CHECK_S, self._check_camera, clock=self._steady)]
        self._warned_s = -REPEAT_WARNING_S
        return super().on_activate(state)

    @_logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working and forget everybody; what was loaded stays."""
        self._stop()
        return super().on_deactivate(state)

    @_logged
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back the models, publishers and memory."""
        self._release()
        return Result.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """As deactivate and cleanup, from any state."""
        self._stop()
        self._release()
        return Result.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an exception in a transition: back to unconfigured."""
        self._stop()
        self._release()
        return Result.SUCCESS

    def close(self) -> None:
        """Stop whatever runs, without a transition."""
        self._stop()
        self._release()

    def _stop(self) -> None:
        with self._wake:
            self._stopping, self._newest = True, None
            self._wake.notify()
        if self._worker is not None:
            self._worker.join()
            self._worker = None
        for timer in self._timers_here:
            self.destroy_timer(timer)
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._timers_here, self._inputs = [], []
        if self._external is not None:
            self._external.close()
            self._external = None
        if self._pipeline is not None:
            self._pipeline.reset()
            self._outputs.reset()
        self._health.stop()

    def _release(self) -> None:
        if self._pipeline is not None:
            self._outputs.close()
            self.destroy_publisher(self._tf)
        self._pipeline = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    # --- callbacks of the executor -----------------------------------------------------------------------------------

    def _on_image(self, message: Any) -> None:
        self._health.image(self._now_s())
        with self._wake:
            if self._newest is not None:
                self._health.dropped += 1
            self._newest = message
            self._wake.notify()

    def _on_info(self, message: CameraInfo) -> None:
        old = self._info
        if old is not None and all(
            np.array_equal(getattr(old, name), getattr(message, name)) for name in ("k", "d", "p", "width", "height")
        ):
            return
        self._info = message
        try:
            k, d = (message.k, message.d) if not self._config.rectified else (_without_column(message.p), ())
            self._camera = Camera.from_info(
                message.width, message.height, k, d, message.distortion_model, message.header.frame_id
            )
            self._health.note = ""
        except CalibrationError as error:
            self._camera, self._health.note = None, str(error)
            self.get_logger().warning(f"{error} Gaze stays in the image.")

    def _on_parameters(self, changes: list[RosParameter]) -> SetParametersResult:
        """Check all changes together; apply the live ones at once, refuse the others while something is loaded."""
        ours = {p.name: p.value for p in changes if p.name in self._known}
        fixed = [name for name in ours if not self._known[name].live]
        if fixed and self._pipeline is not None:
            reason = f"'{fixed[0]}' takes effect when the node is configured: clean it up first."
            return SetParametersResult(successful=False, reason=reason)
        current = {n: self.get_parameter(n).value for n in self._known if self.has_parameter(n)}
        try:
            config, runtime = configs(current | ours)
        except (ValueError, TypeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._pipeline is not None and ours:
            self._pipeline.configure(runtime)
            self._settings = config.messages(self.get_fully_qualified_name(), runtime)
        return SetParametersResult(successful=True)

    def _check_camera(self) -> None:
        now = self._now_s()
        if (silent := self._health.silent_for(now)) is None:
            self._warned_s = -REPEAT_WARNING_S
        elif now - self._warned_s >= REPEAT_WARNING_S:
            self._warned_s = now
            wanted = "any reliability" if self._config.image_reliability == "best_effort" else "RELIABLE ones only"
            self.get_logger().warning(
                f"No image for {silent:.0f} s on '{self._image_topic}' (this node takes {wanted}): "
                f"{describe(self, self._image_topic)}."
            )

    def _report(self) -> None:
        level, line, values = self._health.report(self._now_s())
        status = DiagnosticStatus(
            level=bytes([level]),
            name=f"/social_perception{self.get_fully_qualified_name()}",
            message=line,
            hardware_id=self._camera.frame_id if self._camera else "",
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    # --- the worker --------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping or self._newest is not None)
                if self._stopping:
                    return
                message, self._newest = self._newest, None
            try:
                self._handle(message)
            except ImageError as error:
                self._health.fault(self._now_s(), str(error), image=True)
                self.get_logger().warning(f"Image skipped: {error}", throttle_duration_sec=REPEAT_WARNING_S)
            except Exception as error:  # the node must outlive whatever one frame does to it
                self._health.fault(self._now_s(), f"{type(error).__name__}: {error}")
                self.get_logger().error(
                    f"Frame lost: {type(error).__name__}: {error}", throttle_duration_sec=REPEAT_WARNING_S
                )

    def _handle(self, message: Any) -> None:
        """One image through the pipeline, and everything it tells onto the topics."""
        assert self._pipeline is not None
        stamp_ns = self._stamp_ns(message.header)
        if self._last_stamp_ns is not None:
            back_s = (self._last_stamp_ns - stamp_ns) * 1e-9
            if 0 <= back_s <= RESTART_S:
                self._health.repeated += 1
                return
            if back_s > RESTART_S:
                self.get_logger().info(f"Stamps went back by {back_s:.1f} s: everybody is new.")
                self._told = Told()
        self._last_stamp_ns = stamp_ns
        image = compressed_to_rgb(message) if self._config.compressed else to_rgb(message)
        cues = self._pipeline.step(Frame(image, stamp_ns * 1e-9, self._health.frames, message.header.frame_id))
        self._publish(message.header, stamp_ns, image, cues)
        latency_s = (self.get_clock().now().nanoseconds - stamp_ns) * 1e-9
        self._health.frame(self._now_s(), cues, latency_s if abs(latency_s) < MAX_LATENCY_S else None)

    def _publish(self, header: Any, stamp_ns: int, image: np.ndarray, cues: FrameCues) -> None:
        tracks = [person.person.track_id for person in cues.people]
        ids = self._external.of(tracks) if self._external is not None else None
        items, self._told = messages(cues, message_type, self._settings, self._told, stamp_ns=stamp_ns, person_ids=ids)
        faces = [face_id(p.person.track_id) for p in cues.people if p.person.face]
        transforms: list[Any] = []
        if self._camera is not None:
            found, transforms = spatial_messages(
                cues, message_type, self._settings, self._camera, self._depth_at(stamp_ns), header
            )
            items += found
        bodies = [body_id(track) for track in tracks]
        self._outputs.send(items, [*faces, *bodies, *self._told.seen], cues.stamp)
        if transforms:
            self._tf.publish(TFMessage(transforms=transforms))
        self._publish_pictures(header, image, cues)

    def _publish_pictures(self, header: Any, image: np.ndarray, cues: FrameCues) -> None:
        """Overlay and crops, drawn only while somebody wants them."""
        names = self._settings.names
        raw = self._outputs.wanted(names.topic("overlay"))
        jpeg = self._outputs.wanted(names.topic("overlay_compressed"))
        if raw is not None or jpeg is not None:
            picture = draw(image, cues)
            if raw is not None:
                raw.publish(from_rgb(Image, header, picture))
            if jpeg is not None:
                jpeg.publish(to_jpeg(CompressedImage, header, picture))
        for person in cues.people:
            track = person.person.track_id
            for key, name, box in (
                ("face_cropped", face_id(track), person.person.face),
                ("body_cropped", body_id(track), person.person.body),
            ):
                topic = PICTURES[key]
                publisher = self._outputs.of(name, names.topic(key, name), topic.type, topic.qos) if box else None
                if publisher is not None and box is not None and publisher.get_subscription_count():
                    publisher.publish(from_rgb(Image, header, crop(image, box, self._config.crop_size)))

    def _depth_at(self, stamp_ns: int) -> np.ndarray | None:
        """The depth image nearest in time, in metres; None where none is near enough or it is broken."""
        near = min(self._depths, key=lambda m: abs(_stamp(m.header) - stamp_ns), default=None)
        if near is None or abs(_stamp(near.header) - stamp_ns) > self._config.depth_slop_s * 1e9:
            return None
        try:
            return depth_to_metres(near)
        except ImageError as error:
            self._health.fault(self._now_s(), str(error), image=True)
            self.get_logger().warning(f"Depth skipped: {error}", throttle_duration_sec=REPEAT_WARNING_S)
            return None

    def _stamp_ns(self, header: Any) -> int:
        """The header's time, or now where the driver left it at 0."""
        stamp_ns = _stamp(header)
        if stamp_ns:
            return stamp_ns
        if not self._unstamped:
            self._unstamped = True
            self.get_logger().warning(f"Images on '{self._image_topic}' have no stamp: taking the time of arrival.")
        now = self.get_clock().now()
        header.stamp = now.to_msg()
        return now.nanoseconds

    def _now_s(self) -> float:
        return self._steady.now().nanoseconds * 1e-9

    def _listen(self, kind: Any, topic: str, callback: Any, qos: QoSProfile) -> None:
        options = QoSOverridingOptions.with_default_policies()
        self._inputs.append(self.create_subscription(kind, topic, callback, qos, qos_overriding_options=options))


def descriptor(parameter: Parameter) -> ParameterDescriptor:
    """What `ros2 param describe` shows."""
    found = ParameterDescriptor(description=parameter.meaning)
    if not parameter.live:
        found.additional_constraints = "Takes effect when the node is configured."
    if parameter.low is None or parameter.high is None or isinstance(parameter.default, bool | str):
        return found
    if isinstance(parameter.default, int):
        found.integer_range = [IntegerRange(from_value=int(parameter.low), to_value=int(parameter.high), step=0)]
    else:
        found.floating_point_range = [
            FloatingPointRange(from_value=float(parameter.low), to_value=float(parameter.high), step=0.0)
        ]
    return found


def crop(image: np.ndarray, box: Box, size: int) -> np.ndarray:
    """What a box shows (RGB uint8), scaled to fit a square of `size` pixels and padded with black (REP-155)."""
    inside = box.clipped(image.shape[1], image.shape[0])
    out = np.zeros((size, size, 3), np.uint8)
    if inside is None:
        return out
    x1, y1, x2, y2 = (int(v) for v in inside.as_tuple())
    part = image[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
    scale = size / max(part.shape[:2])
    width, height = (max(round(side * scale), 1) for side in (part.shape[1], part.shape[0]))
    top, left = (size - height) // 2, (size - width) // 2
    out[top : top + height, left : left + width] = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
    return out


def _stamp(header: Any) -> int:
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec


def _without_column(p: Any) -> list[float]:
    """K of rectified images: the left 3 x 3 of the 3 x 4 projection matrix."""
    return [float(v) for v in np.asarray(p, float).reshape(3, 4)[:, :3].ravel()]


def _gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available())


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    # Read by OpenMP when torch is imported: its waiting threads must not keep the cores from onnxruntime's.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    rclpy.init(args=args)
    node = PerceptionNode()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.close()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
