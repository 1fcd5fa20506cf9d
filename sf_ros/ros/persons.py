"""Person ids from another node (REP-155): which of its persons owns a face or body of this node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rclpy.node import Node
from rclpy.subscription import Subscription

from sf_ros.msgs.topics import QOS, Names, body_id, face_id
from sf_ros.ros.publishers import message_type, profile


class ExternalPersons:
    """Subscribes to `persons/tracked` and to each person's latched face and body id."""

    def __init__(self, node: Node, names: Names) -> None:
        self._node, self._names = node, names
        self._links: dict[str, dict[str, str]] = {}  # person -> {'person_face_id': ..., 'person_body_id': ...}
        self._subscriptions: dict[str, list[Subscription]] = {}
        self._tracked = self._subscribe("hri_msgs/msg/IdsList", names.topic("persons_tracked"), self._update)

    def of(self, track_ids: Iterable[int]) -> dict[int, str]:
        """Track id -> person id, for the tracks whose face or body belongs to a person."""
        # Copies: the executor's thread changes these dictionaries.
        owners = {part: person for person, links in list(self._links.items()) for part in list(links.values()) if part}
        persons = {track: owners.get(face_id(track)) or owners.get(body_id(track)) for track in track_ids}
        return {track: person for track, person in persons.items() if person}

    def close(self) -> None:
        """Destroy all subscriptions."""
        self._node.destroy_subscription(self._tracked)
        for person in list(self._subscriptions):
            self._remove(person)

    def _update(self, message: Any) -> None:
        tracked = set(message.ids)
        for person in set(self._subscriptions) - tracked:
            self._remove(person)
        for person in tracked - set(self._subscriptions):
            self._links[person] = {}
            self._subscriptions[person] = [
                self._subscribe("std_msgs/msg/String", self._names.topic(key, person), self._set_link(person, key))
                for key in ("person_face_id", "person_body_id")
            ]

    def _set_link(self, person: str, key: str) -> Callable[[Any], None]:
        def set_link(message: Any) -> None:
            if person in self._links:
                self._links[person][key] = message.data

        return set_link

    def _remove(self, person: str) -> None:
        for subscription in self._subscriptions.pop(person):
            self._node.destroy_subscription(subscription)
        self._links.pop(person, None)

    def _subscribe(self, kind: str, topic: str, callback: Callable[[Any], None]) -> Subscription:
        return self._node.create_subscription(message_type(kind), topic, callback, profile(QOS["latched"]))
