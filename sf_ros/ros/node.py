"""The lifecycle node: newest camera image in, social cues out. `ros2 launch sf_ros perception.launch.py` starts it."""

from __future__ import annotations

import contextlib
import functools
import gc
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sf_ros.core.bundle import BundleError
from sf_ros.core.camera import CalibrationError, Camera
from sf_ros.engines import threads
from sf_ros.msgs.topics import PICTURES, QOS, SPATIAL, Qos
from sf_ros.perception.detectors.yolo import DetectorError
from sf_ros.perception.pipeline import Pipeline, load_pipeline
from sf_ros.ros.diagnostics import Health
from sf_ros.ros.parameters import Parameter, configs, parameters
from sf_ros.ros.persons import ExternalPersons
from sf_ros.ros.publishers import Publishers, describe, profile
from sf_ros.ros.worker import REPEAT_WARNING_S, Worker

CHECK_S = 0.5  # between looks at whether images come
REPORT_S = 1.0  # between diagnostics
Result = TransitionCallbackReturn
Transition = Callable[["PerceptionNode", LifecycleState], TransitionCallbackReturn]


def _logged(transition: Transition) -> Transition:
    """rclpy turns an exception in a transition into ERROR and keeps it to itself: log it first."""

    @functools.wraps(transition)
    def logged(node: PerceptionNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            if node.context.ok():  # else Ctrl-C: ROS was gone before the transition was through
                node.get_logger().error(f"{transition.__name__}: {type(error).__name__}: {error}")
            raise

    return logged


class PerceptionNode(LifecycleNode):
    """Configure loads and verifies the bundle; activate starts the flow; deactivate and cleanup give everything back.

    The image callback only hands the image to the worker, so that parameters and services answer while the model runs.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("sf_ros", **options)
        self._known = parameters()
        for parameter in self._known.values():
            self.declare_parameter(parameter.name, parameter.default, descriptor(parameter))
        self.add_on_set_parameters_callback(self._on_parameters)
        self._refuse_impossible_transitions()
        self._health = Health(active=False)
        self._pipeline: Pipeline | None = None
        self._outputs: Publishers | None = None
        self._worker: Worker | None = None
        self._external: ExternalPersons | None = None
        self._inputs: list[Any] = []
        self._watch: Any = None
        # By a clock that simulated time does not stop. A node without timers can miss the signal to shut down.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._pulse = self.create_timer(REPORT_S, self._report, clock=self._steady)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 1)

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    @_logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and verify the bundle; FAILURE with the reason in the log when that cannot be."""
        try:
            self._config, runtime = configs({name: self.get_parameter(name).value for name in self._known})
            self._settings = self._config.messages(self.get_fully_qualified_name(), runtime)
            self._pipeline = load_pipeline(self._config.bundle or None, runtime)
        except (BundleError, DetectorError, ValueError, OSError) as error:
            self.get_logger().error(f"Cannot configure: {' '.join(str(error).split())}")
            self._release()
            return Result.FAILURE
        if not self.context.ok():  # Ctrl-C while it loaded
            self._release()
            return Result.FAILURE
        if runtime.device == "auto" and not _gpu():
            self.get_logger().warning("No GPU that torch can use: running on the CPU.")
        fixed = self._settings.fixed_topics() | self._settings.names.fixed(PICTURES | SPATIAL)
        self._outputs = Publishers(self, fixed, self._config.appear_after_frames, self._config.vanish_after_s)
        points = ", ".join(f"{name} {value:.2f}" for name, value in self._pipeline.thresholds.items() if value > 0)
        told = f" Its operating points: {points}." if points else ""
        self.get_logger().info(f"Configured with bundle '{self._config.bundle or 'demo'}'.{told}")
        return Result.SUCCESS

    @_logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and start working."""
        assert self._pipeline is not None and self._outputs is not None
        config = self._config
        self._health = Health(config.no_image_after_s)
        if config.persons == "external":
            self._external = ExternalPersons(self, self._settings.names)
        self._worker = Worker(self, self._pipeline, self._outputs, self._health, config, self._settings, self._external)
        self._info: CameraInfo | None = None
        image = self.resolve_topic_name("image")
        self._image_topic = f"{image}/compressed" if config.compressed else image
        kind = CompressedImage if config.compressed else Image
        self._listen(kind, self._image_topic, self._on_image, profile(Qos(config.image_reliability, "volatile", 1)))
        self._listen(CameraInfo, "camera_info", self._on_info, profile(QOS["camera"]))
        if config.use_depth:
            self._listen(Image, "depth", self._worker.add_depth, profile(QOS["camera"]))
        self._worker.start()
        self._warned_s = -REPEAT_WARNING_S
        self._watch = self.create_timer(CHECK_S, self._check_camera, clock=self._steady)
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
        self.close()
        return Result.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an exception in a transition: back to unconfigured."""
        self.close()
        return Result.SUCCESS

    def close(self) -> None:
        """Stop whatever runs, without a transition."""
        self._stop()
        self._release()

    def _stop(self) -> None:
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        if self._watch is not None:
            self.destroy_timer(self._watch)
        if self._worker is not None:
            self._worker.stop()
        if self._external is not None:
            self._external.close()
        self._watch = self._worker = self._external = None
        self._health = Health(active=False)

    def _release(self) -> None:
        if self._outputs is not None:
            self._outputs.close()
        self._pipeline = self._outputs = None
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _refuse_impossible_transitions(self) -> None:
        """rclpy lets the error of a transition that the state does not allow end the process: answer the caller."""
        (service,) = (s for s in self.services if s.srv_name.endswith("/change_state"))
        change = service.callback

        def answer(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
            try:
                return change(request, response)
            except RuntimeError as error:  # rcl's; those of our transitions are rclpy's to handle
                if self.context.ok():
                    self.get_logger().error(f"Transition {request.transition.id} refused: {error}")
                response.success = False
                return response

        service.callback = answer

    # --- callbacks of the executor -----------------------------------------------------------------------------------

    def _on_image(self, message: Any) -> None:
        self._health.image()
        if self._worker is not None:
            self._worker.offer(message)

    def _on_info(self, message: CameraInfo) -> None:
        old = self._info
        if self._worker is None or (old is not None and _same_calibration(old, message)):
            return
        self._info = message
        try:
            self._worker.camera = _camera(message, self._config.rectified)
            self._health.note = ""
        except CalibrationError as error:
            self._worker.camera, self._health.note = None, str(error)
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
            self._settings = config.messages(self.get_fully_qualified_name(), runtime)
            if self._worker is not None:
                self._worker.configure(runtime, self._settings)
            else:
                self._pipeline.configure(runtime)
        return SetParametersResult(successful=True)

    def _check_camera(self) -> None:
        now = self._steady.now().nanoseconds * 1e-9
        if (silent := self._health.silent_s()) is None:
            self._warned_s = -REPEAT_WARNING_S
        elif now - self._warned_s >= REPEAT_WARNING_S:
            self._warned_s = now
            wanted = "any reliability" if self._config.image_reliability == "best_effort" else "RELIABLE ones only"
            self.get_logger().warning(
                f"No image for {silent:.0f} s on '{self._image_topic}' (this node takes {wanted}): "
                f"{describe(self, self._image_topic)}."
            )

    def _report(self) -> None:
        level, line, values = self._health.report()
        camera = self._worker.camera if self._worker is not None else None
        status = DiagnosticStatus(
            level=bytes([level]),
            name=f"/social_perception{self.get_fully_qualified_name()}",
            message=line,
            hardware_id=camera.frame_id if camera else "",
            values=[KeyValue(key=key, value=value) for key, value in values.items()],
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

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


def _same_calibration(one: CameraInfo, other: CameraInfo) -> bool:
    fields = ("k", "d", "p", "width", "height", "distortion_model")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in fields)


def _camera(info: CameraInfo, rectified: bool) -> Camera:
    """CalibrationError where no geometry can rest on it. K of rectified images is the left 3 x 3 of P (3 x 4)."""
    k, d = (list(np.reshape(info.p, (3, 4))[:, :3].ravel()), []) if rectified else (info.k, info.d)
    return Camera.from_info(info.width, info.height, k, d, info.distortion_model, info.header.frame_id)


def _gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available())


class _Stopped(KeyboardInterrupt):
    """Ctrl-C. Where KeyboardInterrupt itself falls into an import, Python ends by the signal even if it is caught."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    threads.prepare()
    signal.signal(signal.SIGINT, _stop)  # rclpy's own handler calls it
    rclpy.init(args=args)
    node: PerceptionNode | None = None
    try:
        with contextlib.suppress(KeyboardInterrupt):  # which may come while another exception is looked at
            try:
                node = PerceptionNode()
                rclpy.spin(node)
            except Exception:
                if rclpy.ok():  # else a signal ended ROS, perhaps while the node was being made
                    raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # impatience must not break off the end, a frame away
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
