"""Other nodes that publish people under the same names."""

from __future__ import annotations

import time

from rclpy.node import Node

PATIENCE_S = 30.0  # the graph lists a killed node for up to 20 s


class Rivals:
    """Watches who else publishes one of this node's topics about people: ids of two nodes cannot be told apart."""

    def __init__(self, node: Node, topic: str, patience_s: float = PATIENCE_S) -> None:
        self._node, self._topic, self._patience_s = node, topic, patience_s
        self._since: float | None = None

    def problem(self) -> str:
        """Who publishes the topic beside this node, for longer than the patience; '' for nobody."""
        own, now = self._node.get_fully_qualified_name(), time.monotonic()
        names = [
            f"{info.node_namespace.rstrip('/')}/{info.node_name}"
            for info in self._node.get_publishers_info_by_topic(self._topic)
        ]
        if own in names:
            names.remove(own)
        if not names:
            self._since = None
            return ""
        self._since = self._since or now
        if now - self._since < self._patience_s:
            return ""
        return (
            f"'{self._topic}' is published by {', '.join(sorted(set(names)))} too, and ids of people mix: give each "
            "node a humans_ns of its own"
        )
