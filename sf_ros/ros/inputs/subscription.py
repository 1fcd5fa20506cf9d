"""A subscription that no message ends, that follows its publishers' durability and says why it receives nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_policy_name_from_kind
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from sf_ros.msgs.topics import Qos
from sf_ros.ros.publishers import profile

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

LISTED = 4  # publishers of a topic


class Input:
    """One subscription. `check` is called now and then by the executor.

    A volatile subscription gets nothing of what a latched publisher sent before, and a transient-local one nothing at
    all from a volatile publisher: with `follow`, durability and reliability are such that all publishers are received.
    """

    def __init__(
        self,
        node: Node,
        kind: Any,
        topic: str,
        callback: Callable[[Any], None],
        qos: Qos,
        on_error: Callable[[str], None],
        *,
        follow: bool = True,
        override: bool = True,
        on_lost: Callable[[int], None] | None = None,
    ) -> None:
        """on_error: gets exceptions of `callback`; on_lost: how many were lost. override: by qos_overrides."""
        self.topic = node.resolve_topic_name(topic)
        self.received_s: float | None = None  # of time.monotonic, of the last message
        self._node, self._kind, self._callback, self._on_error = node, kind, callback, on_error
        self._follow, self._override, self._on_lost = follow, override, on_lost
        self._wanted = self._qos = qos
        self._since_s = time.monotonic()
        self._incompatible = ""
        self._own: QoSProfile | None = None  # of the first subscription, with the user's overrides
        self._subscription = self._subscribe()
        self.check()

    def check(self) -> None:
        """Subscribe anew where the publishers became latched, or no longer are."""
        if self._follow and (qos := self._of_publishers()) != self._qos:
            self._node.destroy_subscription(self._subscription)
            self._qos, self._incompatible = qos, ""
            self._subscription = self._subscribe()

    def close(self) -> None:
        """Destroy the subscription."""
        self._node.destroy_subscription(self._subscription)

    def silent_s(self) -> float:
        """Seconds since the last message, or since the start."""
        return time.monotonic() - (self._since_s if self.received_s is None else self.received_s)

    def describe(self) -> str:
        """The topic, what this node accepts there, its publishers with type and QoS, and what is wrong with them."""
        accepted = "any reliability" if self._profile.reliability == ReliabilityPolicy.BEST_EFFORT else "RELIABLE only"
        if self._profile.durability == DurabilityPolicy.TRANSIENT_LOCAL:
            accepted += ", TRANSIENT_LOCAL only"
        infos: list[Any] = self._node.get_publishers_info_by_topic(self.topic)
        kind = self._kind.__module__.split(".")[0] + "/msg/" + self._kind.__name__
        wrong = self._incompatible
        if infos and all(info.topic_type != kind for info in infos):
            wrong = f"another type than {kind}"
        publishers = list(dict.fromkeys(map(_publisher, infos)))
        if len(publishers) > LISTED:
            publishers[LISTED:] = [f"{len(publishers) - LISTED} more"]
        published = f"published by {', '.join(publishers)}" if infos else "no publisher"
        return f"'{self.topic}' (this node accepts {accepted}): {published}{': ' + wrong if wrong else ''}"

    def _of_publishers(self) -> Qos:
        """The QoS that receives from all publishers, and where all are latched also what they sent before."""
        kinds = [info.qos_profile for info in self._node.get_publishers_info_by_topic(self.topic)]
        if not kinds:
            return self._qos
        latched = all(kind.durability == DurabilityPolicy.TRANSIENT_LOCAL for kind in kinds)
        reliable = all(kind.reliability == ReliabilityPolicy.RELIABLE for kind in kinds)
        # What was sent before goes to reliable subscriptions alone.
        reliability = "reliable" if reliable and (latched or self._wanted.reliability == "reliable") else "best_effort"
        return Qos(reliability, "transient_local" if latched else "volatile", self._wanted.depth)

    def _subscribe(self) -> Subscription:
        self._profile = profile(self._qos)
        options = None
        if self._override and self._own is None:
            options = QoSOverridingOptions.with_default_policies()  # changes the profile
        elif self._own is not None:
            self._profile.history, self._profile.depth = self._own.history, self._own.depth
            if self._own.reliability != profile(self._wanted).reliability:  # the user's choice
                self._profile.reliability = self._own.reliability

        def create(events: SubscriptionEventCallbacks) -> Subscription:
            return self._node.create_subscription(
                self._kind,
                self.topic,
                self._receive,
                self._profile,
                event_callbacks=events,
                qos_overriding_options=options,
            )

        on_qos = self._on_incompatible_qos
        try:
            made = create(
                SubscriptionEventCallbacks(
                    incompatible_qos=on_qos, message_lost=self._lost, use_default_callbacks=False
                )
            )
        except UnsupportedEventTypeError:
            made = create(SubscriptionEventCallbacks(incompatible_qos=on_qos, use_default_callbacks=False))
        self._own = self._own or self._profile
        return made

    def _receive(self, message: Any) -> None:
        self.received_s = time.monotonic()
        try:
            self._callback(message)
        except Exception as error:  # no message of anybody ends the node
            self._on_error(f"A message on '{self.topic}' was skipped: {type(error).__name__}: {error}")

    def _on_incompatible_qos(self, event: Any) -> None:
        self._incompatible = f"incompatible {qos_policy_name_from_kind(event.last_policy_kind)}"

    def _lost(self, event: Any) -> None:
        if self._on_lost is not None:
            self._on_lost(event.total_count_change)


def _publisher(info: Any) -> str:
    qos = info.qos_profile
    name = f"{info.node_namespace.rstrip('/')}/{info.node_name}"
    return f"{name} ({info.topic_type}, {qos.reliability.name}, {qos.durability.name})"
