"""Person ids that somebody else gives (REP-155): faces and bodies of ours -> persons of theirs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rclpy.node import Node
from rclpy.subscription import Subscription

from sf_ros.msgs.topics import QOS, Names, body_id, face_id
from sf_ros.ros.publishers import message_type, profile


class ExternalPersons:
    """Follows `persons/tracked` and each person's latched face and body id."""

    def __init__(self, node: Node, names: Names) -> None:
        self._node, self._names = node, names
        self._links: dict[str, dict[str, str]] = {}  # person -> {'person_face_id': ..., 'person_body_id': ...}
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._tracked = self._subscribe("hri_msgs/msg/IdsList", names.topic("persons_tracked"), self._update)

    def of(self, track_ids: Iterable[int]) -> dict[int, str]:
        """Track id -> person id, for the tracks whose face or body somebody claimed."""
        owners = {part: person for person, links in list(self._links.items()) for part in list(links.values()) if part}
        found = {track: owners.get(face_id(track)) or owners.get(body_id(track)) for track in track_ids}
        return {track: person for track, person in found.items() if person}

    def close(self) -> None:
        """Stop listening."""
        self._node.destroy_subscription(self._tracked)
        for person in list(self._subscriptions):
            self._drop(person)

    def _update(self, message: Any) -> None:
        now = set(message.ids)
        for person in set(self._subscriptions) - now:
            self._drop(person)
        for person in now - set(self._subscriptions):
            self._links[person] = {}
            self._subscriptions[person] = [
                self._subscribe("std_msgs/msg/String", self._names.topic(key, person), self._note(person, key))
                for key in ("person_face_id", "person_body_id")
            ]

    def _note(self, person: str, key: str) -> Any:
        def note(message: Any) -> None:
            if person in self._links:
                self._links[person][key] = message.data

        return note

    def _drop(self, person: str) -> None:
        for subscription in self._subscriptions.pop(person):
            self._node.destroy_subscription(subscription)
        self._links.pop(person, None)

    def _subscribe(self, kind: str, topic: str, callback: Any) -> Subscription:
        return self._node.create_subscription(message_type(kind), topic, callback, profile(QOS["latched"]))
