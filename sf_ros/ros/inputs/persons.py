"""Person ids from another node (REP-155): which of its persons owns a face or body of this node."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from rclpy.node import Node

from sf_ros.msgs.topics import QOS, Names, body_id, face_id
from sf_ros.ros.inputs.subscription import Input
from sf_ros.ros.problems import Problems
from sf_ros.ros.publishers import message_type

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")  # one token of a topic's name in ROS 2
MAX_PERSONS = 64  # each takes two subscriptions
FORGET_S = 5.0  # without being tracked; lists that flicker cost no new subscriptions
LINKS = ("person_face_id", "person_body_id")  # a face, where both are known, says more than a body


class ExternalPersons:
    """Subscribes to `persons/tracked` and to each person's face and body id, latched or not."""

    def __init__(self, node: Node, names: Names, problems: Problems, on_error: Callable[[str], None]) -> None:
        self._node, self._names, self._problems, self._on_error = node, names, problems, on_error
        self._links: dict[str, dict[str, str]] = {}  # person -> {'person_face_id': ..., 'person_body_id': ...}
        self._inputs: dict[str, list[Input]] = {}  # person -> subscriptions
        self._seen: dict[str, float] = {}  # person -> time of the last list with it
        self._present: frozenset[str] = frozenset()  # in the newest list
        self._tracked = self._subscribe("hri_msgs/msg/IdsList", names.topic("persons_tracked"), self._update)

    def of(self, track_ids: Iterable[int]) -> dict[int, str]:
        """Track id -> person id, for the tracks whose face or body belongs to a person; each person has one track."""
        # Copies: the executor's thread changes these dictionaries.
        present, tracks = self._present, list(track_ids)
        links = {person: dict(parts) for person, parts in list(self._links.items()) if person in present}
        persons: dict[int, str] = {}
        for key, name in zip(LINKS, (face_id, body_id), strict=True):
            owners = {parts[key]: person for person, parts in sorted(links.items(), reverse=True) if parts.get(key)}
            for track in tracks:
                owner = owners.get(name(track))
                if owner is not None and track not in persons and owner not in persons.values():
                    persons[track] = owner
        return persons

    def check(self) -> None:
        """Follow the publishers' durability, and forget persons who are no longer tracked."""
        now = time.monotonic()
        for person in [name for name, seen in self._seen.items() if now - seen > FORGET_S]:
            if person not in self._present:
                self._remove(person)
        for each in (self._tracked, *(each for inputs in list(self._inputs.values()) for each in inputs)):
            each.check()

    def close(self) -> None:
        """Destroy all subscriptions."""
        self._tracked.close()
        for person in list(self._inputs):
            self._remove(person)

    def _update(self, message: Any) -> None:
        valid = sorted(person for person in set(message.ids) if NAME.fullmatch(person))
        self._report(message.ids, valid)
        # Those who are known already go first.
        tracked = sorted(valid, key=lambda person: person not in self._inputs)[:MAX_PERSONS]
        self._present, now = frozenset(tracked), time.monotonic()
        self._seen.update(dict.fromkeys(tracked, now))
        for person in tracked:
            if person not in self._inputs:
                if len(self._inputs) >= MAX_PERSONS:
                    self._remove(min(set(self._inputs) - self._present, key=self._seen.__getitem__))
                self._links[person] = {}
                self._inputs[person] = [
                    self._subscribe("std_msgs/msg/String", self._names.topic(key, person), self._set_link(person, key))
                    for key in LINKS
                ]

    def _report(self, ids: Iterable[str], valid: list[str]) -> None:
        problem = (
            f"{len(valid)} persons are tracked; the node follows {MAX_PERSONS}" if len(valid) > MAX_PERSONS else ""
        )
        if invalid := next((person for person in ids if NAME.fullmatch(person) is None), None):
            problem = f"person id {invalid[:40]!r} cannot be part of a topic's name in ROS 2; it is ignored"
        elif "" in ids:
            problem = "a person's id is empty; it is ignored"
        self._problems.set("persons", problem)

    def _set_link(self, person: str, key: str) -> Callable[[Any], None]:
        def set_link(message: Any) -> None:
            if person in self._links:
                self._links[person][key] = message.data

        return set_link

    def _remove(self, person: str) -> None:
        for each in self._inputs.pop(person):
            each.close()
        self._links.pop(person, None)
        self._seen.pop(person, None)

    def _subscribe(self, kind: str, topic: str, callback: Callable[[Any], None]) -> Input:
        return Input(self._node, message_type(kind), topic, callback, QOS["stream"], self._on_error, override=False)
