"""The lifecycle node: newest camera image in, social cues out. `ros2 launch sf_ros perception.launch.py` starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter

from sf_ros.core.bundle import BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUE_OF
from sf_ros.core.text import command_line
from sf_ros.engines import threads
from sf_ros.msgs.builder import MessageSettings
from sf_ros.msgs.topics import IMAGE_TOPICS, LABEL_TASKS, SPATIAL_TOPICS
from sf_ros.perception.detectors.base import DetectorError
from sf_ros.perception.pipeline import Pipeline, load_pipeline
from sf_ros.ros.bond import Bond, bond_is_installed
from sf_ros.ros.conversions import diagnostic_status
from sf_ros.ros.diagnostics import Health
from sf_ros.ros.inputs.calibration import Calibration
from sf_ros.ros.inputs.camera_topics import CameraTopics
from sf_ros.ros.inputs.depth import DepthImages
from sf_ros.ros.inputs.persons import ExternalPersons
from sf_ros.ros.inputs.rivals import Rivals
from sf_ros.ros.lifecycle import Loader, logged, serve_transitions
from sf_ros.ros.memory import give_back_memory
from sf_ros.ros.parameter_node import ParameterNode
from sf_ros.ros.parameters import NodeConfig, configs
from sf_ros.ros.problems import Problems
from sf_ros.ros.publishers import Publishers
from sf_ros.ros.worker import WARNING_PERIOD_S, Worker

CHECK_PERIOD_S = 0.5  # of checking whether images arrive
REPORT_PERIOD_S = 1.0  # of diagnostics
END_S = 2.0  # for the current image, when the process ends; ros2 launch repeats its signals after 5 s
Result = TransitionCallbackReturn


class PerceptionNode(ParameterNode):
    """Configure loads and verifies the bundle, activate subscribes and starts the worker; the others undo this.

    The image callback only passes the image to the worker's thread: parameters and services respond while a model runs.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("sf_ros", **options)
        self.add_on_set_parameters_callback(self._on_parameters)
        self._loader = Loader(self)
        serve_transitions(self, self._loader)
        self.loading = False  # on_configure runs, in a thread of its own
        self._health = Health(active=False)
        self._pipeline: Pipeline | None = None
        self._outputs: Publishers | None = None
        self._worker: Worker | None = None
        self._external: ExternalPersons | None = None
        self._camera: CameraTopics | None = None
        self._calibration: Calibration | None = None
        self._check_timer: Any = None
        self._bond: Bond | None = None
        # Simulated time must not stop these timers. rclpy 7.1 without timers can miss the signal to shut down.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._report_timer = self.create_timer(REPORT_PERIOD_S, self._report, clock=self._steady)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 1)
        if self.get_parameter("autostart").value:
            alone = ReentrantCallbackGroup()
            self._start_timer = self.create_timer(0.0, self._start, clock=self._steady, callback_group=alone)

    # --- lifecycle ---------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Configure and activate, once."""
        self.destroy_timer(self._start_timer)
        try:
            if await self._loader.run(self.trigger_configure) == Result.SUCCESS:
                self.trigger_activate()
        except RuntimeError as error:  # from rcl: somebody else was faster with a transition
            if self.context.ok():
                self.get_logger().warning(f"Not started: {error}")

    @logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load and verify the bundle; FAILURE, with the reason in the log, where that is not possible."""
        self.loading, self._health = True, Health(active=False)
        self._health.note = "configuring"
        try:
            return self._configure()
        finally:
            self.loading = False

    def _configure(self) -> TransitionCallbackReturn:
        log = self.get_logger()
        try:
            self._config, runtime = configs(self.values())
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
        self._config, runtime = configs(self.values())  # live parameters may have changed meanwhile
        pipeline.configure(runtime)
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
        problems = self._problems = Problems(self._health, self.get_logger().warning)
        self._rivals = Rivals(self, self._settings.names.topic("faces_tracked"))
        if config.persons == "external":
            self._external = ExternalPersons(self, self._settings.names, problems, self._on_callback_error)
        calibration = self._calibration = Calibration(config.rectified)
        now = time.monotonic_ns()
        depths = DepthImages(config.depth_slop_s, config.depth_max_m, now) if config.use_depth else None
        self._worker = Worker(
            *(self, self._pipeline, self._outputs, self._health, config, self._settings, self._external),
            problems=problems,
            calibration=calibration,
            depths=depths,
        )
        self._camera = CameraTopics(
            *(self, config, self._health, problems, calibration, depths), self._on_image, self._on_callback_error
        )
        self._worker.start()
        self._check_timer = self.create_timer(CHECK_PERIOD_S, self._check, clock=self._steady)
        if config.bond_period_s and bond_is_installed():
            self._bond = Bond(self, config.bond_period_s, self._steady)
        self.get_logger().info(f"Active: images from '{self._camera.image_topic}', people on '{config.humans_ns}'.")
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
        if self._bond is not None:
            self._bond.close()
        if self._camera is not None:
            self._camera.close()
        if self._check_timer is not None:
            self.destroy_timer(self._check_timer)
        if self._worker is not None:
            self._worker.stop()
        if self._external is not None:
            self._external.close()
        self._camera = self._calibration = self._check_timer = self._worker = self._external = self._bond = None
        self._health = Health(active=False, off=self._pipeline.off if self._pipeline else None)

    def _release(self) -> None:
        if self._outputs is not None:
            self._outputs.close()
        self._pipeline = self._outputs = None
        self._health = Health(active=False)
        give_back_memory()

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

    def _on_callback_error(self, text: str) -> None:
        self._health.fault(text)
        self.get_logger().error(text, throttle_duration_sec=WARNING_PERIOD_S)

    def _on_parameters(self, changes: list[RosParameter]) -> SetParametersResult:
        """Check all changes together; apply live ones now, and refuse the others while a bundle is loaded."""
        declared = self.parameters_by_name
        values = {p.name: p.value for p in changes if p.name in declared}
        not_live = [name for name in values if not declared[name].live]
        if not_live and (self.loading or self._pipeline is not None):
            reason = f"'{not_live[0]}' takes effect when the node is configured; clean up the node first."
            return SetParametersResult(successful=False, reason=reason)
        try:
            config, runtime = configs(self.values() | values)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._pipeline is not None and values:
            self._settings = self._message_settings(config, runtime)
            if self._worker is not None:
                self._worker.configure(runtime, self._settings)
            else:
                self._pipeline.configure(runtime)
        return SetParametersResult(successful=True)

    def _check(self) -> None:
        """Follow the publishers of what the node receives, and report what is missing."""
        if self._camera is not None:
            self._camera.check()
            self._problems.set("people", self._rivals.problem())
        if self._external is not None:
            self._external.check()

    def _report(self) -> None:
        frame_id = self._calibration.frame_id if self._calibration is not None else ""
        status = diagnostic_status(self._health, self.get_fully_qualified_name(), frame_id)
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)


def _has_gpu() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available())


class _Interrupted(KeyboardInterrupt):
    """Ctrl-C. A bare KeyboardInterrupt during an import ends Python by the signal, even where it is caught."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise _Interrupted


@command_line
def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C or SIGTERM. Returns 0, or 2 where a parameter or a file of parameters is wrong."""
    threads.prepare()
    signal.signal(signal.SIGINT, _interrupt)  # rclpy's handler calls it
    node: PerceptionNode | None = None
    try:
        with contextlib.suppress(KeyboardInterrupt):  # it may arrive while another exception is handled
            try:
                rclpy.init(args=args)
            except RuntimeError as error:  # from rcl
                return _failed(error)
            try:
                try:
                    node = PerceptionNode()
                except ValueError as error:
                    return _failed(error)
                rclpy.spin(node)
            except Exception:
                if rclpy.ok():  # else a signal shut ROS down, perhaps during construction
                    raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the shutdown
        if node is not None and not _closed(node) and sys.exc_info()[0] is None:
            os._exit(0)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _closed(node: PerceptionNode) -> bool:
    """Close a node; False where it still loads a bundle or answers an image: a library cannot be told to stop."""
    if node.loading:
        return False
    closing = threading.Thread(target=node.close, daemon=True)
    closing.start()
    closing.join(END_S)
    return not closing.is_alive()


def _failed(error: Exception) -> int:
    print(f"sf_ros perception_node: error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
