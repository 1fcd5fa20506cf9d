"""The bond with nav2's lifecycle manager. Needs ROS with the package bond."""

from __future__ import annotations

import pytest

from tests.ros.rig import Rig, until

pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
pytest.importorskip("bond", reason="needs ROS 2's package bond")
pytestmark = pytest.mark.ros


def test_heartbeats_last_from_activation_to_deactivation(active: Rig) -> None:
    active.listen("/bond", "bond/msg/Status")
    received = active.received["/bond"]
    assert until(lambda: len(received) >= 4)
    assert {(m.id, m.active, m.heartbeat_timeout, m.heartbeat_period) for m in received} == {
        ("sf_ros", True, 4.0, 0.25)
    }
    assert active.go("deactivate")
    assert until(lambda: not received[-1].active)
    first = received[0].instance_id
    received.clear()
    assert active.go("activate")
    assert until(lambda: len(received) >= 2)
    assert {m.active for m in received} == {True} and {m.instance_id for m in received}.isdisjoint({first})


@pytest.mark.parametrize("active", [{"bond_period_s": 0.0}], indirect=True)
def test_bond_may_be_switched_off(active: Rig) -> None:
    assert "/bond" not in [publisher.topic_name for publisher in active.node.publishers]
