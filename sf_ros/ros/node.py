"""The lifecycle node: newest camera image in, social cues out. `ros2 launch sf_ros perception.launch.py` starts it."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from types import FrameType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from sf_ros.core.bundle import BundleError
from sf_ros.core.camera import CalibrationError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUE_OF
from sf_ros.engines import threads
from sf_ros.msgs.builder import MessageSettings
from sf_ros.msgs.camera_info import camera_of, same_calibration
from sf_ros.msgs.topics import IMAGE_TOPICS, LABEL_TASKS, QOS, SPATIAL_TOPICS, Qos
from sf_ros.perception.detectors.base import DetectorError
from sf_ros.perception.pipeline import Pipeline, load_pipeline
from sf_ros.ros.conversions import descriptor, diagnostic_status
from sf_ros.ros.diagnostics import Health
from sf_ros.ros.lifecycle import logged, refuse_invalid_transitions
from sf_ros.ros.parameters import NodeConfig, configs, parameters
from sf_ros.ros.persons import ExternalPersons
from sf_ros.ros.publishers import Publishers, describe, profile
from sf_ros.ros.worker import WARNING_PERIOD_S, Worker

CHECK_PERIOD_S = 0.5  # of checking whether images arrive
REPORT_PERIOD_S = 1.0  # of diagnostics
Result = TransitionCallbackReturn


class PerceptionNode(LifecycleNode):
    """Configure loads and verifies the bundle, activate subscribes and starts the worker; the others undo this.

    The image callback only passes the image to the worker's thread: parameters and services respond while a model runs.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("sf_ros", **options)
        self._parameters_by_name = parameters()
        for parameter in self._parameters_by_name.values():
            self.declare_parameter(parameter.name, parameter.default, descriptor(parameter))
        self.add_on_set_parameters_callback(self._on_parameters)
        refuse_invalid_transitions(self)
        self._health = Health(active=False)
        self._pipeline: Pipeline | None = None
        self._outputs: Publishers | None = None
        self._worker: Worker | None = None
        self._external: ExternalPersons | None = None
        self._inputs: list[Any] = []
        self._camera_timer: Any = None
        # Simulated time must not stop these timers. rclpy 7.1 without timers can miss the signal to shut down.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._report_timer = self.create_timer(REPORT_PERIOD_S, self._report, clock=self._steady)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 1)

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    @logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and verify the bundle; FAILURE, with the reason in the log, where that is not possible."""
        log = self.get_logger()
        try:
            values = {name: self.get_parameter(name).value for name in self._parameters_by_name}
            self._config, runtime = configs(values)
            pipeline = self._pipeline = load_pipeline(self._config.bundle or None, runtime)
        except (BundleError, DetectorError, ValueError, OSError) as error:
            log.error(f"Cannot configure: {' '.join(str(error).split())}")
            self._release()
            return Result.FAILURE
        if not self.context.ok():  # Ctrl-C while the bundle was loaded
            self._release()
            return Result.FAILURE
        if runtime.device == "auto" and not _has_gpu():
            log.warning("No GPU that torch can use; running on the CPU.")
        for name, reason in pipeline.off.items():
            log.warning(f"{name} is off: {reason}.")
        self._settings = self._message_settings(self._config, runtime)
        self._health = Health(active=False, off=pipeline.off)
        fixed = self._settings.fixed_topics() | self._settings.names.fixed(IMAGE_TOPICS | SPATIAL_TOPICS)
        self._outputs = Publishers(self, fixed, self._config.appear_after_frames, self._config.vanish_after_s)
        points = ", ".join(f"{task} {value:.2f}" for task, value in pipeline.thresholds.items() if value > 0)
        suffix = f" Operating points: {points}." if points else ""
        log.info(f"Configured with bundle '{self._config.bundle or 'demo'}'.{suffix}")
        return Result.SUCCESS

    @logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and start the worker."""
        assert self._pipeline is not None and self._outputs is not None
        config = self._config
        self._health = Health(config.no_image_after_s, off=self._pipeline.off)
        if config.persons == "external":
            self._external = ExternalPersons(self, self._settings.names)
        self._worker = Worker(self, self._pipeline, self._outputs, self._health, config, self._settings, self._external)
        self._info: CameraInfo | None = None
        image = self.resolve_topic_name("image")
        self._image_topic = f"{image}/compressed" if config.compressed else image
        kind = CompressedImage if config.compressed else Image
        self._subscribe_to(
            kind, self._image_topic, self._on_image, profile(Qos(config.image_reliability, "volatile", 1))
        )
        self._subscribe_to(CameraInfo, "camera_info", self._on_info, profile(QOS["camera"]))
        if config.use_depth:
            self._subscribe_to(Image, "depth", self._worker.add_depth, profile(QOS["camera"]))
        self._worker.start()
        self._warned_s = -WARNING_PERIOD_S
        self._camera_timer = self.create_timer(CHECK_PERIOD_S, self._check_camera, clock=self._steady)
        return super().on_activate(state)

    @logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop the worker and reset tracks; the bundle stays loaded."""
        self._stop()
        return super().on_deactivate(state)

    @logged
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release models, publishers and memory."""
        self._release()
        return Result.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate and clean up, from any state."""
        self.close()
        return Result.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured after an exception in a transition."""
        self.close()
        return Result.SUCCESS

    def close(self) -> None:
        """Stop and release everything, without a transition."""
        self._stop()
        self._release()

    def _stop(self) -> None:
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs = []
        if self._camera_timer is not None:
            self.destroy_timer(self._camera_timer)
        if self._worker is not None:
            self._worker.stop()
        if self._external is not None:
            self._external.close()
        self._camera_timer = self._worker = self._external = None
        self._health = Health(active=False, off=self._pipeline.off if self._pipeline else None)

    def _release(self) -> None:
        if self._outputs is not None:
            self._outputs.close()
        self._pipeline = self._outputs = None
        self._health = Health(active=False)
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _message_settings(self, config: NodeConfig, runtime: RuntimeConfig) -> MessageSettings:
        """The settings of the messages; only labels that the bundle can answer are announced."""
        assert self._pipeline is not None
        tasks = tuple(task for task in LABEL_TASKS if CUE_OF[task] in self._pipeline.cues)
        return config.messages(self.get_fully_qualified_name(), runtime, tasks)

    # --- callbacks of the executor -----------------------------------------------------------------------------------

    def _on_image(self, message: Any) -> None:
        self._health.image()
        if self._worker is not None:
            self._worker.offer(message)

    def _on_info(self, message: CameraInfo) -> None:
        last = self._info
        if self._worker is None or (last is not None and same_calibration(last, message)):
            return
        self._info = message
        try:
            self._worker.camera = camera_of(message, self._config.rectified)
            self._health.note = ""
        except CalibrationError as error:
            self._worker.camera, self._health.note = None, str(error)
            self.get_logger().warning(f"{error} Gaze is published in the image only.")

    def _on_parameters(self, changes: list[RosParameter]) -> SetParametersResult:
        """Check all changes together; apply live ones now, and refuse the others while a bundle is loaded."""
        declared = self._parameters_by_name
        values = {p.name: p.value for p in changes if p.name in declared}
        not_live = [name for name in values if not declared[name].live]
        if not_live and self._pipeline is not None:
            reason = f"'{not_live[0]}' takes effect when the node is configured; clean up the node first."
            return SetParametersResult(successful=False, reason=reason)
        current = {name: self.get_parameter(name).value for name in declared if self.has_parameter(name)}
        try:
            config, runtime = configs(current | values)
        except (ValueError, TypeError) as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._pipeline is not None and values:
            self._settings = self._message_settings(config, runtime)
            if self._worker is not None:
                self._worker.configure(runtime, self._settings)
            else:
                self._pipeline.configure(runtime)
        return SetParametersResult(successful=True)

    def _check_camera(self) -> None:
        now = self._steady.now().nanoseconds * 1e-9
        if (silent := self._health.silent_s()) is None:
            self._warned_s = -WARNING_PERIOD_S
        elif now - self._warned_s >= WARNING_PERIOD_S:
            self._warned_s = now
            accepted = "any reliability" if self._config.image_reliability == "best_effort" else "RELIABLE only"
            self.get_logger().warning(
                f"No image for {silent:.0f} s on '{self._image_topic}' (this node accepts {accepted}): "
                f"{describe(self, self._image_topic)}."
            )

    def _report(self) -> None:
        camera = self._worker.camera if self._worker is not None else None
        status = diagnostic_status(self._health, self.get_fully_qualified_name(), camera)
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _subscribe_to(self, kind: Any, topic: str, callback: Any, qos: QoSProfile) -> None:
        options = QoSOverridingOptions.with_default_policies()
        self._inputs.append(self.create_subscription(kind, topic, callback, qos, qos_overriding_options=options))


def _has_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available())


class _Interrupted(KeyboardInterrupt):
    """Ctrl-C. A bare KeyboardInterrupt during an import ends Python by the signal, even where it is caught."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Interrupted


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    threads.prepare()
    signal.signal(signal.SIGINT, _interrupt)  # rclpy's handler calls it
    rclpy.init(args=args)
    node: PerceptionNode | None = None
    try:
        with contextlib.suppress(KeyboardInterrupt):  # it may arrive while another exception is handled
            try:
                node = PerceptionNode()
                rclpy.spin(node)
            except Exception:
                if rclpy.ok():  # else a signal shut ROS down, perhaps during construction
                    raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the shutdown
        if node is not None:
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
