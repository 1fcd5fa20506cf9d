"""A bond with nav2's lifecycle manager (ROS package bond): heartbeats that say that the executor is alive."""

from __future__ import annotations

import uuid

from rclpy.clock import Clock
from rclpy.node import Node
from rclpy.qos import QoSProfile

from sf_ros.ros.publishers import message_type

STATUS = "bond/msg/Status"
TOPIC = "bond"  # relative to the node's namespace, as nav2 has it
TIMEOUT_S = 4.0  # without a heartbeat the bond is broken: bond's DEFAULT_HEARTBEAT_TIMEOUT


class Bond:
    """Publishes a heartbeat every `period_s` under the node's name, until `close` says that it ends on purpose."""

    def __init__(self, node: Node, period_s: float, clock: Clock) -> None:
        self._node, self._period_s = node, period_s
        self._instance = str(uuid.uuid4())  # the other side takes two lives of a node for two nodes, else
        self._publisher = node.create_publisher(message_type(STATUS), TOPIC, QoSProfile(depth=5))
        self._timer = node.create_timer(period_s, self._beat, clock=clock)

    def close(self) -> None:
        """Send the last status and destroy timer and publisher."""
        self._node.destroy_timer(self._timer)
        if self._node.context.ok():
            self._beat(active=False)
        self._node.destroy_publisher(self._publisher)

    def _beat(self, active: bool = True) -> None:
        status = message_type(STATUS)(id=self._node.get_name(), instance_id=self._instance, active=active)
        status.header.stamp = self._node.get_clock().now().to_msg()
        status.heartbeat_timeout, status.heartbeat_period = TIMEOUT_S, self._period_s
        self._publisher.publish(status)


def bond_is_installed() -> bool:
    """Whether ROS has the package bond."""
    try:
        message_type(STATUS)
    except (ImportError, AttributeError, ValueError):
        return False
    return True
