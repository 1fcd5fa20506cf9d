"""What the message builders share: settings, the frame's header, ids and topic names."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard, TypeVar

from sf_ros.core.cues import CUES, CueConfig
from sf_ros.core.fields import known
from sf_ros.core.types import CueValue, FrameCues
from sf_ros.msgs.topics import ALL_TOPICS, LABEL_TASKS, TOPICS, Names, Topic, body_id, person_id

StampOf = Callable[[float], int]  # a frame's time in the pipeline, seconds -> the stamp of its image, nanoseconds
MessageTypes = Callable[[str], Any]  # 'hri_msgs/msg/Gaze' -> class: rosidl_runtime_py's get_message, or a typestore's
Value = TypeVar("Value", bound=CueValue)

CONTEMPT = ("skeptical", "annoyed", "disgusted", "")
LAST_NS = 2**31 * 1_000_000_000 - 1  # seconds of a builtin_interfaces/Time are int32
PERSONS = ("internal", "external", "off")


@dataclass(frozen=True)
class MessageSettings:
    """Names and choices of the ROS side."""

    names: Names = field(default_factory=Names)
    persons: str = "internal"  # internal: a person per track; external: ids of another node; off: no persons
    contempt: str = "skeptical"  # hri_msgs/Expression published for contempt; '': nothing
    loose_gestures: bool = True  # also map HaGRIDv2 classes that resemble a Gesture constant only in shape
    cues: Mapping[str, CueConfig] = field(default_factory=lambda: {name: cue.defaults for name, cue in CUES.items()})
    label_tasks: tuple[str, ...] = LABEL_TASKS  # tasks whose class names are announced
    max_age_s: float = 2.0  # older cues are not published on REP-155 topics, which have no field for the age

    def __post_init__(self) -> None:
        known(self.contempt, CONTEMPT, "expression for contempt")
        known(self.persons, PERSONS, "persons mode")

    def fixed_topics(self) -> dict[str, Topic]:
        """By full name, the topics without an id that are published with these settings.

        With external persons, `persons/tracked` and `persons/known` belong to the node that publishes the persons.
        """
        prefixes = {"internal": (), "external": ("persons_",), "off": ("persons_", "gazing", "groups")}[self.persons]
        published = {key: topic for key, topic in TOPICS.items() if not key.startswith(prefixes)}
        return self.names.fixed(published, self.label_tasks)


class TopicMessage(NamedTuple):
    """One message to publish. `subject` is the face, body, person or task id of a per-id topic, else ''."""

    topic: str
    type: str
    build: Callable[[], Any]
    qos: str  # key of QOS
    subject: str = ""

    @property
    def message(self) -> Any:
        """Builds the message. Most topics have no subscriber most of the time, and then it is never built."""
        return self.build()


def time_of(types: MessageTypes, stamp_ns: int) -> Any:
    """A builtin_interfaces/Time; the nearest one that its fields can hold (1970 to 2038)."""
    sec, nanosec = divmod(min(max(stamp_ns, 0), LAST_NS), 1_000_000_000)
    return types("builtin_interfaces/msg/Time")(sec=sec, nanosec=nanosec)


class MessageBuilder:
    """Builds messages about one frame. `types` are rclpy's message classes or those of a rosbags typestore."""

    def __init__(
        self,
        cues: FrameCues,
        types: MessageTypes,
        settings: MessageSettings,
        stamp_of: StampOf,
        person_ids: Mapping[int, str],
    ) -> None:
        self.cues, self.types, self.settings = cues, types, settings
        self._stamp_of, self._person_ids = stamp_of, person_ids
        self._headers: dict[float, Any] = {}  # by age: cues answered together have the same
        self.header = self.header_of(0.0)

    def header_of(self, age_s: float) -> Any:
        """The header of the frame, or of the frame in which a cue of that age was answered."""
        if age_s not in self._headers:
            stamp = time_of(self.types, self._stamp_of(self.cues.stamp - age_s))
            self._headers[age_s] = self.types("std_msgs/msg/Header")(stamp=stamp, frame_id=self.cues.frame_id)
        return self._headers[age_s]

    def send(self, key: str, subject: str = "", /, **fields: Any) -> TopicMessage:
        """A message on an entry of ALL_TOPICS, built from `fields`."""
        topic = ALL_TOPICS[key]
        build = functools.partial(self.types(topic.type), **fields)
        return TopicMessage(self.settings.names.topic(key, subject), topic.type, build, topic.qos, subject)

    def send_lazily(self, key: str, build: Callable[[], Any]) -> TopicMessage:
        """A message on an entry of ALL_TOPICS, whose fields are computed by `build` as well."""
        topic = ALL_TOPICS[key]
        return TopicMessage(self.settings.names.topic(key), topic.type, build, topic.qos)

    def person(self, track_id: int) -> str | None:
        """Person id of a track; None where persons are external and none of them has this track."""
        return self._person_ids.get(track_id) if self.settings.persons == "external" else person_id(track_id)

    def person_or_body(self, track_id: int) -> str:
        """Person id of a track, or its body id where the person is unknown."""
        return self.person(track_id) or body_id(track_id)

    def fresh(self, value: Value | None) -> TypeGuard[Value]:
        """Whether a cue is recent enough for the topics of REP-155."""
        return value is not None and value.age_s <= self.settings.max_age_s
