"""Lifecycle, parameters and signals of the node. Needs ROS."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sf_ros.core.bundle import BundleError
from sf_ros.core.config import RuntimeConfig
from sf_ros.perception.pipeline import Pipeline
from sf_ros.ros.diagnostics import memory_mb
from tests.perception.fakes import SIZE, FixedAnswers, TwoPeople
from tests.ros.conftest import FRAMES
from tests.ros.rig import WAIT_S, Rig, image_message, node_process, resources, until

pytestmark = pytest.mark.ros


def test_lifecycle_cycles_release_everything(rig: Rig, images: list[np.ndarray]) -> None:
    before, sizes = resources(rig.node), []
    assert "/diagnostics" in before
    for cycle in range(3):
        assert rig.go("configure") and rig.go("activate")
        camera = rig.camera()
        rig.show(camera, images[:10])
        rig.client.destroy_publisher(camera)
        assert rig.go("deactivate") and rig.go("cleanup"), cycle
        assert resources(rig.node) == before
        assert not [t for t in threading.enumerate() if t.name == "perception"]
        sizes.append(memory_mb()["resident"])
    assert sizes[2] - sizes[1] < 60, sizes  # the first cycle loads the libraries


def test_fifteen_cycles_leave_no_memory_threads_or_handles(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an engine of 32 MB that is loaded anew each time."""

    class Engine(FixedAnswers):
        def __init__(self) -> None:
            super().__init__()
            self.weights = np.ones(4_000_000)

    def load(bundle: str | None, config: RuntimeConfig) -> Pipeline:
        return Pipeline(TwoPeople(), Engine(), config)

    monkeypatch.setattr("sf_ros.ros.node.load_pipeline", load)
    image, used = np.zeros((SIZE[1], SIZE[0], 3), np.uint8), []
    for cycle in range(15):
        assert rig.go("configure") and rig.go("activate")
        camera = rig.camera()
        rig.show(camera, [image] * 4)
        rig.client.destroy_publisher(camera)
        assert rig.go("deactivate") and rig.go("cleanup"), cycle
        counts = [len(list(Path("/proc/self", name).iterdir())) for name in ("task", "fd")]
        used.append((*counts, memory_mb()["resident"]))
    assert used[-1][:2] == used[4][:2], used
    assert used[-1][2] - used[4][2] < 12, used


def test_invalid_transitions_are_refused(rig: Rig) -> None:
    assert not rig.go("activate")
    assert not rig.go("cleanup")
    assert rig.go("configure") and not rig.go("configure")
    assert rig.go("activate") and not rig.go("activate")


@pytest.mark.parametrize("rig", [{"bundle": "/nowhere/at/all"}], indirect=True)
def test_bad_bundle_is_a_failure_that_can_be_corrected(rig: Rig) -> None:
    assert not rig.go("configure")
    from rclpy.parameter import Parameter

    assert rig.node.set_parameters([Parameter("bundle", value="")])[0].successful
    assert rig.go("configure")


def test_parameters_change_while_frames_flow(active: Rig, images: list[np.ndarray]) -> None:
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters

    camera, stop = active.camera(), threading.Event()
    active.listen("/sf_ros/gestures", "vision_msgs/msg/Detection2DArray")

    def film() -> None:
        number = 0
        while not stop.is_set():
            camera.publish(image_message(images[number % FRAMES], 200 * 10**9 + number * 33_000_000))
            number += 1
            time.sleep(1 / 30)

    thread = threading.Thread(target=film)
    thread.start()
    try:
        assert until(lambda: active.received["/sf_ros/gestures"] and active.received["/sf_ros/gestures"][-1].detections)
        client = active.client.create_client(SetParameters, "/sf_ros/set_parameters")
        assert client.wait_for_service(WAIT_S)
        waits = []
        for value in (True, False):
            setting = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=value)
            request = SetParameters.Request(parameters=[Parameter(name="gesture.enabled", value=setting)])
            start = time.monotonic()
            future = client.call_async(request)
            assert until(future.done, 5)
            waits.append(time.monotonic() - start)
            assert future.result().results[0].successful
        assert max(waits) < 0.2, waits
        assert until(lambda: not active.received["/sf_ros/gestures"][-1].detections)
        assert active.node._health.dropped > 0 and active.node._health.errors == 0
    finally:
        stop.set()
        thread.join()


def test_invalid_parameters_are_refused_with_a_reason(active: Rig) -> None:
    from rclpy.parameter import Parameter

    def reason(name: str, value: Any) -> str:
        (result,) = active.node.set_parameters([Parameter(name, value=value)])
        assert not result.successful
        return result.reason

    assert "clean up the node first" in reason("bundle", "/other")
    assert "above enter" in reason("gaze.leave", 0.9)
    assert reason("gaze.period_s", 1e9)
    assert active.node.set_parameters([Parameter("gaze.period_s", value=0.7)])[0].successful


def test_node_answers_and_reports_while_it_configures(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from lifecycle_msgs.msg import State, Transition
    from lifecycle_msgs.srv import ChangeState, GetState

    loaded = threading.Event()

    def load(*_: object) -> None:
        assert loaded.wait(60)
        raise BundleError("no such bundle")

    monkeypatch.setattr("sf_ros.ros.node.load_pipeline", load)
    rig.listen("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
    client = rig.client.create_client(ChangeState, "/sf_ros/change_state")
    assert client.wait_for_service(WAIT_S)
    configured = client.call_async(ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE)))
    try:
        reports = rig.received["/diagnostics"]
        assert until(lambda: sum(report.status[0].message == "configuring" for report in list(reports)) >= 2)
        state = rig.call(GetState, "/sf_ros/get_state", GetState.Request()).current_state
        assert state.id == State.TRANSITION_STATE_CONFIGURING
        assert not rig.go("configure") and not configured.done()
        (result,) = rig.set(bundle="/other")
        assert not result.successful and "takes effect when the node is configured" in result.reason
        assert rig.set(budget_ms=50)[0].successful
    finally:
        loaded.set()
    assert until(configured.done) and not configured.result().success
    assert rig.set(bundle="/other")[0].successful


@pytest.mark.parametrize("rig", [{"autostart": True, "bundle": "/nowhere/at/all"}], indirect=True)
def test_autostart_configures_the_node_once(rig: Rig) -> None:
    from rcl_interfaces.msg import Log
    from rclpy.qos import DurabilityPolicy, QoSProfile

    log: list[Log] = []
    latched = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)  # the node may have said it by now
    rig.client.create_subscription(Log, "/rosout", log.append, latched)
    assert until(lambda: any("Cannot configure: /nowhere/at/all" in entry.msg for entry in list(log)))
    assert not rig.go("activate")
    assert until(lambda: rig.set(bundle="")[0].successful)  # it is still configuring when it says why it cannot


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_node_without_a_traceback(sent: signal.Signals) -> None:
    with node_process(f"signal_{sent.value}") as (process, _):
        process.send_signal(sent)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "Traceback" not in output, output


def test_end_of_the_process_does_not_wait_for_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    from sf_ros.ros import node

    monkeypatch.setattr(node, "END_S", 0.2)
    answered = threading.Event()
    assert not node._closed(SimpleNamespace(loading=True))  # type: ignore[arg-type]
    assert not node._closed(SimpleNamespace(loading=False, close=lambda: answered.wait(20)))  # type: ignore[arg-type]
    answered.set()
    assert node._closed(SimpleNamespace(loading=False, close=answered.set))  # type: ignore[arg-type]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_signals_while_configuring_end_the_node(sent: signal.Signals) -> None:
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState

    with node_process(f"configuring_{sent.value}") as (process, change):
        request = ChangeState.Request()
        request.transition.id = Transition.TRANSITION_CONFIGURE
        change.call_async(request)
        time.sleep(1.0)  # far less than it takes to load the models
        process.send_signal(sent)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    for word in ("Traceback", "Configured with", "context is invalid"):
        assert word not in output, output
