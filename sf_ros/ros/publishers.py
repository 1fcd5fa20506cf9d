"""ROS 2 publishers, for fixed topics and for topics that exist while a person is in view."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosidl_runtime_py.utilities import get_message

from sf_ros.msgs.builder import TopicMessage
from sf_ros.msgs.topics import QOS, Qos, Topic

try:
    from rclpy.event_handler import PublisherEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks

message_type = cache(get_message)  # 'hri_msgs/msg/Gaze' -> class


def profile(qos: Qos) -> QoSProfile:
    """The rclpy profile of a QoS."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=qos.depth,
        reliability=ReliabilityPolicy[qos.reliability.upper()],
        durability=DurabilityPolicy[qos.durability.upper()],
    )


class Publishers:
    """Publishers of the fixed topics, and of the topics of each face, body and person (subject) in view.

    Messages without a subscriber are neither built nor published, except on latched topics. A subject's topics are
    created in the `appear_after`-th frame with it and removed `vanish_after_s` after its last one. Earlier latched
    messages are published when their topic is created. Times are of a steady clock, in seconds.
    """

    def __init__(self, node: Node, fixed: dict[str, Topic], appear_after: int, vanish_after_s: float) -> None:
        self._node, self._appear_after, self._vanish_after_s = node, appear_after, vanish_after_s
        self._fixed = {name: self._create(name, topic.type, topic.qos) for name, topic in fixed.items()}
        self._of: dict[str, dict[str, Publisher]] = {}  # subject -> topic -> publisher
        self._seen: dict[str, tuple[int, float]] = {}  # subject -> frames present, time of the last
        self._pending: dict[str, TopicMessage] = {}  # latched topic not yet created -> its newest message

    def send(self, items: Iterable[TopicMessage], present: Iterable[str], now_s: float) -> None:
        """Publish the messages of one frame; `present` are all subjects in it, with messages or without."""
        for subject in present:
            self._seen[subject] = self._seen.get(subject, (0, 0.0))[0] + 1, now_s
        for item in items:
            publisher = self._fixed.get(item.topic) or self.of(item.subject, item.topic, item.type, item.qos)
            latched = QOS[item.qos].durability == "transient_local"
            if publisher is None:
                if latched:
                    self._pending[item.topic] = item
            elif latched or publisher.get_subscription_count():
                publisher.publish(item.message)
        for topic, item in list(self._pending.items()):
            if (publisher := self.of(item.subject, item.topic, item.type, item.qos)) is not None:
                publisher.publish(item.message)
                del self._pending[topic]
        self.expire(now_s)

    def expire(self, now_s: float) -> None:
        """Remove the topics of the subjects whose last frame is too long ago."""
        for subject, (_, last) in list(self._seen.items()):
            if now_s - last > self._vanish_after_s:
                self._forget(subject)

    def of(self, subject: str, topic: str, kind: str, qos: str) -> Publisher | None:
        """The publisher of a subject's topic, created if necessary; None before the `appear_after`-th frame."""
        if self._seen.get(subject, (0, 0.0))[0] < self._appear_after:
            return None
        topics = self._of.setdefault(subject, {})
        if topic not in topics:
            topics[topic] = self._create(topic, kind, qos)
        return topics[topic]

    def wanted(self, topic: str) -> Publisher | None:
        """The publisher of a fixed topic with subscribers; None without."""
        publisher = self._fixed[topic]
        return publisher if publisher.get_subscription_count() else None

    def reset(self) -> None:
        """Remove the topics of all subjects."""
        for subject in list(self._seen):
            self._forget(subject)
        self._pending.clear()

    def close(self) -> None:
        """Destroy every publisher."""
        self.reset()
        for publisher in self._fixed.values():
            self._node.destroy_publisher(publisher)
        self._fixed.clear()

    def _create(self, topic: str, kind: str, qos: str) -> Publisher:
        # The default event callbacks would wake the executor for every topic that is created or removed.
        no_events = PublisherEventCallbacks(use_default_callbacks=False)
        return self._node.create_publisher(message_type(kind), topic, profile(QOS[qos]), event_callbacks=no_events)

    def _forget(self, subject: str) -> None:
        for publisher in self._of.pop(subject, {}).values():
            self._node.destroy_publisher(publisher)
        self._seen.pop(subject, None)
        self._pending = {topic: item for topic, item in self._pending.items() if item.subject != subject}
