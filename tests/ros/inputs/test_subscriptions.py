"""Subscriptions follow their publishers, say why they are silent, and no message ends the node. Needs ROS."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from sf_ros.msgs.topics import QOS, Names
from sf_ros.ros.diagnostics import Health
from sf_ros.ros.problems import Problems
from tests.ros.rig import leave_domain, take_domain, until

pytestmark = pytest.mark.ros


@pytest.fixture(scope="module")
def nodes() -> Iterator[SimpleNamespace]:
    """`node` receives, `other` publishes."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    context = rclpy.Context()
    domain = take_domain()
    rclpy.init(context=context, domain_id=domain)
    made = SimpleNamespace(node=rclpy.create_node("node", context=context))
    made.other = rclpy.create_node("other", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(made.node)
    executor.add_node(made.other)
    made.executor = executor
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield made
    executor.shutdown()
    thread.join(5)
    context.try_shutdown()
    leave_domain(domain)


def publisher(nodes: SimpleNamespace, kind: Any, topic: str, qos: str) -> Any:
    from sf_ros.ros.publishers import profile

    return nodes.other.create_publisher(kind, topic, profile(QOS[qos]))


def subscription(nodes: SimpleNamespace, kind: Any, topic: str, received: list[Any], **options: Any) -> Any:
    from sf_ros.ros.inputs.subscription import Input

    errors: list[str] = []
    options = {"override": False, **options}
    made = Input(nodes.node, kind, topic, received.append, QOS["camera"], errors.append, **options)
    checked(nodes, made)
    return made


def checked(nodes: SimpleNamespace, made: Any) -> None:
    """Let the executor check it now and then, as the node does."""
    nodes.node.create_timer(0.02, made.check)


def close(nodes: SimpleNamespace, made: Any) -> None:
    """Close it in the executor, as the node does: it may not wait for what another thread destroys."""

    def run() -> None:
        for timer in list(nodes.node.timers):
            nodes.node.destroy_timer(timer)
        made.close()

    assert until(nodes.executor.create_task(run).done)


@pytest.mark.parametrize("override", [False, True])
def test_a_latched_message_sent_before_arrives(nodes: SimpleNamespace, override: bool) -> None:
    from sensor_msgs.msg import CameraInfo

    publisher(nodes, CameraInfo, f"info_{override}", "latched").publish(CameraInfo(width=640))
    received: list[Any] = []
    made = subscription(nodes, CameraInfo, f"info_{override}", received, override=override)
    assert until(lambda: received)
    assert received[0].width == 640 and "TRANSIENT_LOCAL only" in made.describe()
    close(nodes, made)


@pytest.mark.parametrize("qos", ["camera", "stream", "latched"])
def test_any_publisher_is_received(nodes: SimpleNamespace, qos: str) -> None:
    from std_msgs.msg import String

    received: list[Any] = []
    made = subscription(nodes, String, f"any_{qos}", received)
    sender = publisher(nodes, String, f"any_{qos}", qos)
    assert until(lambda: sender.publish(String(data="x")) or received)
    close(nodes, made)


def test_a_driver_that_restarts_without_latching_is_received(nodes: SimpleNamespace) -> None:
    from std_msgs.msg import String

    received: list[Any] = []
    latched = publisher(nodes, String, "restarted", "latched")
    made = subscription(nodes, String, "restarted", received)
    assert until(lambda: latched.publish(String(data="latched")) or received)
    nodes.other.destroy_publisher(latched)
    volatile = publisher(nodes, String, "restarted", "camera")
    assert until(lambda: volatile.publish(String(data="volatile")) or received[-1].data == "volatile")
    close(nodes, made)


def test_silence_is_explained(nodes: SimpleNamespace) -> None:
    from sensor_msgs.msg import CompressedImage, Image

    made = subscription(nodes, Image, "depth", [])
    assert made.describe() == "'/depth' (this node accepts any reliability): no publisher"
    wrong = publisher(nodes, CompressedImage, "depth", "camera")
    assert until(lambda: "published by /other (sensor_msgs/msg/CompressedImage, BEST_EFFORT" in made.describe())
    assert made.describe().endswith(": another type than sensor_msgs/msg/Image")
    nodes.other.destroy_publisher(wrong)
    close(nodes, made)


def test_an_incompatible_publisher_is_named(nodes: SimpleNamespace) -> None:
    from sensor_msgs.msg import Image

    from sf_ros.ros.inputs.subscription import Input

    made = Input(nodes.node, Image, "wanted", print, QOS["stream"], print, follow=False, override=False)
    publisher(nodes, Image, "wanted", "camera")
    assert until(lambda: made.describe().endswith("BEST_EFFORT, VOLATILE): incompatible RELIABILITY"))
    assert "this node accepts RELIABLE only" in made.describe()
    close(nodes, made)


def test_the_users_qos_stays_when_publishers_are_followed(nodes: SimpleNamespace) -> None:
    from rclpy.qos import ReliabilityPolicy
    from sensor_msgs.msg import CameraInfo

    name = "qos_overrides./chosen.subscription.reliability"
    nodes.node.declare_parameter(name, "reliable")
    received: list[Any] = []
    made = subscription(nodes, CameraInfo, "chosen", received, override=True)
    publisher(nodes, CameraInfo, "chosen", "latched").publish(CameraInfo())
    assert until(lambda: received)
    assert made._profile.reliability == ReliabilityPolicy.RELIABLE
    assert nodes.node.get_parameter(name).value == "reliable"
    close(nodes, made)


def test_an_exception_is_told_and_the_next_message_received(nodes: SimpleNamespace) -> None:
    from std_msgs.msg import String

    from sf_ros.ros.inputs.subscription import Input

    received, errors = [], []

    def read(message: String) -> None:
        received.append(int(message.data))

    made = Input(nodes.node, String, "numbers", read, QOS["stream"], errors.append, override=False)
    sender = publisher(nodes, String, "numbers", "stream")
    assert until(sender.get_subscription_count)
    for text in ("1", "one", "2"):
        sender.publish(String(data=text))
    assert until(lambda: received == [1, 2])
    assert errors == ["A message on '/numbers' was skipped: ValueError: invalid literal for int() with base 10: 'one'"]
    close(nodes, made)


@pytest.mark.parametrize("qos", ["camera", "stream", "latched"])
def test_persons_of_another_node_are_understood(nodes: SimpleNamespace, qos: str) -> None:
    """Latched or not; ids that cannot be names in ROS 2, such as REP-155's own example, are ignored by name."""
    from hri_msgs.msg import IdsList
    from std_msgs.msg import String

    from sf_ros.ros.inputs.persons import MAX_PERSONS, ExternalPersons

    names, health, lines, errors = Names(humans=f"/{qos}"), Health(), [], []
    persons = ExternalPersons(nodes.node, names, Problems(health, lines.append), errors.append)
    checked(nodes, persons)
    tracked = publisher(nodes, IdsList, f"/{qos}/persons/tracked", qos)
    links = {
        name: publisher(nodes, String, f"/{qos}/persons/{name}", qos)
        for name in ("anna/face_id", "anna/body_id", "bob/body_id", "eve/face_id")
    }
    strange = ["76c0c", "", "anna", "anna", "a/b", "~", "{node}", "ä", "a" * 500, "x y", "bob", "eve", "a__b"]
    values = {"anna/face_id": "f00001", "anna/body_id": "b00002", "bob/body_id": "b00003", "eve/face_id": "f00001"}

    def of() -> dict[int, str]:
        tracked.publish(IdsList(ids=strange))
        for name, value in values.items():
            links[name].publish(String(data=value))
        return persons.of([1, 2, 3, 4])

    # The face says more than the body, of two with one face the first is taken, and one person is one track.
    assert until(lambda: of() == {1: "anna", 3: "bob"})
    assert lines == ["Person id '76c0c' cannot be part of a topic's name in ROS 2; it is ignored."] and not errors
    assert "76c0c" in health.report()[2]["persons"]
    tracked.publish(IdsList(ids=["anna", *(f"q{i}" for i in range(5000))]))
    assert until(lambda: "the node follows 64" in health.report()[2]["persons"])
    assert until(lambda: len(persons._inputs) == MAX_PERSONS) and persons.of([1]) == {1: "anna"}
    tracked.publish(IdsList(ids=[]))
    assert until(lambda: persons.of([1, 3]) == {})
    close(nodes, persons)
    assert not persons._inputs


def test_another_publisher_of_people_is_named(nodes: SimpleNamespace) -> None:
    """Not at once: the graph lists a killed node for a while."""
    from std_msgs.msg import String

    from sf_ros.ros.inputs.rivals import PATIENCE_S, Rivals

    own = publisher(nodes, String, "/humans/faces/tracked", "stream")
    rivals = Rivals(nodes.other, "/humans/faces/tracked", patience_s=0.0)
    assert until(lambda: nodes.other.count_publishers("/humans/faces/tracked") == 1) and rivals.problem() == ""
    theirs = nodes.node.create_publisher(String, "/humans/faces/tracked", 1)
    assert until(lambda: "published by /node too" in rivals.problem())
    assert "humans_ns of its own" in rivals.problem()
    assert Rivals(nodes.other, "/humans/faces/tracked", PATIENCE_S).problem() == ""
    nodes.node.destroy_publisher(theirs)
    assert until(lambda: rivals.problem() == "")
    nodes.other.destroy_publisher(own)
