"""FrameCues -> ROS messages: pure functions over a message namespace (rclpy's classes or rosbags' alike).

Every header is the frame's, except one: in the arrays under the node's own name, the header of each single detection
has the time of the look it rests on (frame time minus the cue's age).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard, TypeVar

from sf_ros.core.config import CueConfig, known
from sf_ros.core.space import Gaze3D
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box, FrameCues, Gaze, Label
from sf_ros.msgs.arrays import Detections
from sf_ros.msgs.topics import (
    ALL_TOPICS,
    EXPRESSIONS,
    GESTURES,
    GESTURES_EXACT,
    TOPICS,
    Names,
    Topic,
    body_id,
    face_id,
    person_id,
)

Links = Mapping[str, tuple[str, str]]
Groups = Mapping[str, tuple[str, ...]]
Cue = TypeVar("Cue", Label, Gaze)
MessageTypes = Callable[[str], Any]  # 'hri_msgs/msg/Gaze' -> class; rosidl_runtime_py.utilities.get_message is one


CONTEMPT = ("skeptical", "annoyed", "disgusted", "")
PERSONS = ("internal", "external", "off")


@dataclass(frozen=True)
class MessageSettings:
    """Names and choices of the ROS side."""

    names: Names = field(default_factory=Names)
    persons: str = "internal"  # internal: a person per track; external: ids from elsewhere; off: faces and bodies only
    contempt: str = "skeptical"  # what hri_msgs/Expression says instead of contempt; '': nothing
    loose_gestures: bool = True  # also map HaGRIDv2 classes that fit a Gesture constant in shape only
    threshold: float = CueConfig().enter  # announced with the labels
    looking_min: float = CueConfig().leave  # below, nobody is said to gaze at the robot (hysteresis came before)
    group_min: float = CueConfig().leave  # likewise for the relations that make groups
    max_age_s: float = 2.0  # older cues stay off the topics that cannot tell a cue's age (REP-155's)
    gesture_hypotheses: int = 3  # best of 33, listed per person; all labels are listed for the other cues
    forget_after_s: float = 10.0  # unseen persons stay 'known' this long

    def __post_init__(self) -> None:
        known(self.contempt, CONTEMPT, "expression for contempt")
        known(self.persons, PERSONS, "persons mode")

    def fixed_topics(self) -> dict[str, Topic]:
        """Topics without a subject that these settings speak on, by full name; persons are told by one node only."""
        silent = {"internal": (), "external": ("persons_",), "off": ("persons_", "gazing", "groups")}[self.persons]
        return self.names.fixed({key: topic for key, topic in TOPICS.items() if not key.startswith(silent)})


class TopicMessage(NamedTuple):
    """One message to publish. `subject` is the face, body, person or cue a per-id topic is about, else ''."""

    topic: str
    type: str
    build: Callable[[], Any]
    qos: str  # key of QOS
    subject: str = ""

    @property
    def message(self) -> Any:
        """Built when it is asked for: most topics have no subscriber most of the time."""
        return self.build()


@dataclass(frozen=True)
class PublisherState:
    """What subscribers know from earlier frames: kept by the caller between calls, for links, groups and labels."""

    links: Links = field(default_factory=dict)  # person id -> its face id and body id, or ''
    seen: Mapping[str, float] = field(default_factory=dict)  # person id -> stamp of its last frame
    groups: Groups = field(default_factory=dict)  # group id -> person ids
    labels: bool = False  # class names were announced


NO_STATE = PublisherState()
NO_SPACE: Mapping[int, Gaze3D] = {}
DEFAULTS = MessageSettings()


def messages(
    cues: FrameCues,
    types: MessageTypes,
    settings: MessageSettings = DEFAULTS,
    told: PublisherState = NO_STATE,
    *,
    stamp_ns: int | None = None,
    person_ids: Mapping[int, str] | None = None,
    spaces: Mapping[int, Gaze3D] = NO_SPACE,
) -> tuple[list[TopicMessage], PublisherState]:
    """All messages of one frame, and what `told` is for the next one.

    `stamp_ns` is the exact time of the image's header, which `cues.stamp` (float seconds) rounds to about 0.2 us.
    `person_ids` translates track ids where `settings.persons` is external; `spaces` is where people look in metres, by
    track id, as `attention.in_space` found it. Lists are sent also when they are empty.
    """
    stamp_ns = round(cues.stamp * 1e9) if stamp_ns is None else stamp_ns
    frame = _Frame(cues, types, settings, stamp_ns, person_ids or {}, spaces)
    links, seen = _persons(frame, told)
    groups = _groups(frame)
    out = [*frame.faces(), *frame.bodies(), *frame.matches(), *frame.aggregates()]
    if settings.persons == "internal":
        out += frame.persons(told.links, links, seen)
    if settings.persons != "off":
        out += [*frame.gazing(), *frame.groups(told.groups, groups)]
    if not told.labels:
        out += frame.labels()
    return out, PublisherState(links, seen, groups, True)


def topic_message(types: MessageTypes, names: Names, key: str, subject: str = "", /, **fields: Any) -> TopicMessage:
    """The message of an entry of ALL_TOPICS, built of `fields` when it is asked for."""
    topic = ALL_TOPICS[key]
    build = functools.partial(types(topic.type), **fields)
    return TopicMessage(names.topic(key, subject), topic.type, build, topic.qos, subject)


def _persons(frame: _Frame, told: PublisherState) -> tuple[dict[str, tuple[str, str]], dict[str, float]]:
    """Links and last sightings after this frame; a person out of sight keeps its id for a while, without links."""
    now, keep = frame.cues.stamp, frame.settings.forget_after_s
    seen = {name: stamp for name, stamp in told.seen.items() if abs(now - stamp) <= keep}
    links = dict.fromkeys(seen, ("", ""))
    for cues in frame.cues.people:
        track = cues.person.track_id
        if (name := frame.person(track)) is not None:
            seen[name] = now
            links[name] = (face_id(track) if cues.person.face else "", body_id(track))
    return links, seen


def _groups(frame: _Frame) -> dict[str, tuple[str, ...]]:
    """Connected components of the pairs that have a relation, named by their first member."""
    member: dict[str, set[str]] = {}
    for relation in frame.cues.relations:
        domain = relation.domain
        if domain is None or domain.name in ("", "domain/none") or domain.confidence < frame.settings.group_min:
            continue
        pair = {name for name in map(frame.person, relation.track_ids) if name is not None}
        if len(pair) == 2:
            joined = pair.union(*(member.get(name, ()) for name in pair))
            member.update(dict.fromkeys(joined, joined))
    return {f"group_{min(names)}": tuple(sorted(names)) for names in member.values()}


class _Frame:
    """Builds the messages of one frame."""

    def __init__(
        self,
        cues: FrameCues,
        types: MessageTypes,
        settings: MessageSettings,
        stamp_ns: int,
        person_ids: Mapping[int, str],
        spaces: Mapping[int, Gaze3D],
    ) -> None:
        self.cues, self.types, self.settings = cues, types, settings
        self.stamp_ns, self.person_ids, self.spaces = stamp_ns, person_ids, spaces
        self._send = functools.partial(topic_message, types, settings.names)
        self._headers: dict[float, Any] = {}  # by age: the questions of one look have the same
        self.header = self._header(0.0)

    def person(self, track_id: int) -> str | None:
        """Person id of a track; None where persons come from elsewhere and this one is not among them."""
        return self.person_ids.get(track_id) if self.settings.persons == "external" else person_id(track_id)

    def faces(self) -> Iterator[TopicMessage]:
        """Face ids, boxes, expressions and gaze points."""
        faces = [(face_id(c.person.track_id), c.person.face, c) for c in self.cues.people if c.person.face]
        yield self._ids("faces_tracked", [name for name, _, _ in faces])
        for name, box, cues in faces:
            yield from self._roi("face_roi", box, cues.person.face_score, name)
            if self._fresh(cues.expression) and (text := self._expression(cues.expression.name)):
                # Valence and arousal are not estimated; 0 is the message's own default.
                values = {"valence": 0.0, "arousal": 0.0, "confidence": _unit(cues.expression.confidence)}
                yield self._send("face_expression", name, header=self.header, expression=text, **values)
            if self._fresh(cues.gaze):
                x, y = (_unit(value) for value in cues.gaze.point_norm)
                yield self._send("face_gaze_target", name, header=self.header, x=x, y=y, c=_unit(cues.gaze.confidence))

    def bodies(self) -> Iterator[TopicMessage]:
        """Body ids, boxes and gestures."""
        yield self._ids("bodies_tracked", [body_id(c.person.track_id) for c in self.cues.people])
        for cues in self.cues.people:
            name = body_id(cues.person.track_id)
            yield from self._roi("body_roi", cues.person.body, cues.person.score, name)
            if self._fresh(cues.gesture) and cues.gesture.name in GESTURES:
                yield self._gesture(name, cues.gesture.name)

    def matches(self) -> Iterator[TopicMessage]:
        """Which face belongs to which body, and (internal persons) to which person."""
        kind = self.types("hri_msgs/msg/IdsMatch")
        for cues in self.cues.people:
            track = cues.person.track_id
            sides = [(body_id(track), kind.BODY, cues.person.score)]
            if cues.person.face:
                sides.append((face_id(track), kind.FACE, cues.person.face_score))
                yield self._match(sides[1], sides[0])
            if self.settings.persons == "internal":
                for side in sides:
                    yield self._match((person_id(track), kind.PERSON, 1.0), side)

    def persons(self, before: Links, links: Links, seen: Mapping[str, float]) -> Iterator[TopicMessage]:
        """Tracked and known persons; links only where they are new or changed, because they are latched."""
        yield self._ids("persons_tracked", [person_id(c.person.track_id) for c in self.cues.people])
        yield self._ids("persons_known", sorted(seen))
        for name, (face, body) in links.items():
            if name not in before:
                yield self._send("person_anonymous", name, data=True)
            old_face, old_body = before.get(name, (None, None))
            if face != old_face:
                yield self._send("person_face_id", name, data=face)
            if body != old_body:
                yield self._send("person_body_id", name, data=body)

    def gazing(self) -> Iterator[TopicMessage]:
        """Who looks at whom. An empty receiver is the robot; who looks at it looks at nobody in the picture."""
        for cues in self.cues.people:
            looking, gaze = cues.looking_at_me, cues.gaze
            receiver: str | None = None
            if self._fresh(looking) and looking.name == "yes" and looking.confidence >= self.settings.looking_min:
                receiver = ""
            elif self._fresh(gaze) and gaze.target_id is not None:
                receiver = self.person(gaze.target_id)
            sender = self.person(cues.person.track_id)
            if sender is not None and receiver is not None:
                yield self._send("gazing", header=self.header, sender=sender, receiver=receiver)

    def groups(self, before: Groups, now: Groups) -> Iterator[TopicMessage]:
        """Every group of this frame; one that is gone is sent once more, without members."""
        for name, members in {**dict.fromkeys(before, ()), **now}.items():
            yield self._send("groups", header=self.header, group_id=name, members=list(members))

    def aggregates(self) -> Iterator[TopicMessage]:
        """One Detection2DArray per cue, with scores."""

        def build(kind: Any, found: Callable[[], list[Any]]) -> Any:
            return kind(header=self.header, detections=found())

        best = self.settings.gesture_hypotheses
        detections = Detections(self.cues, self.types, self._name, self._header, self.spaces, best)
        for key, found in detections.arrays().items():
            topic = ALL_TOPICS[key]
            array = functools.partial(build, self.types(topic.type), found)
            yield TopicMessage(self.settings.names.topic(key), topic.type, array, topic.qos)

    def labels(self) -> Iterator[TopicMessage]:
        """Class names of every question that has some, by index."""
        kind = self.types("vision_msgs/msg/VisionClass")
        for name, spec in TASKS.items():
            if spec.labels:
                classes = [kind(class_id=index, class_name=label) for index, label in enumerate(spec.labels)]
                threshold = float(self.settings.threshold)
                yield self._send("labels", name, header=self.header, class_map=classes, threshold=threshold)

    def _header(self, age_s: float) -> Any:
        """The frame's header, with the time of a look that is `age_s` old."""
        if age_s not in self._headers:
            sec, nanosec = divmod(max(self.stamp_ns - round(age_s * 1e9), 0), 1_000_000_000)
            stamp = self.types("builtin_interfaces/msg/Time")(sec=sec, nanosec=nanosec)
            self._headers[age_s] = self.types("std_msgs/msg/Header")(stamp=stamp, frame_id=self.cues.frame_id)
        return self._headers[age_s]

    def _ids(self, key: str, names: list[str]) -> TopicMessage:
        return self._send(key, header=self.header, ids=names)

    def _roi(self, key: str, box: Box, score: float, subject: str) -> Iterator[TopicMessage]:
        width, height = self.cues.width, self.cues.height
        if inside := box.clipped(width, height):
            left, top, right, bottom = (float(value) for value in inside.as_tuple())
            edges = {"xmin": left / width, "ymin": top / height, "xmax": right / width, "ymax": bottom / height}
            yield self._send(key, subject, header=self.header, c=_unit(score), **edges)

    def _match(self, one: tuple[str, int, float], two: tuple[str, int, float]) -> TopicMessage:
        (id1, id1_type, score1), (id2, id2_type, score2) = one, two
        fields: dict[str, Any] = {"id1": id1, "id1_type": id1_type, "id2": id2, "id2_type": id2_type}
        return self._send("candidate_matches", confidence=_unit(min(score1, score2)), **fields)

    def _expression(self, label: str) -> str:
        """The string hri_msgs/Expression has for a label, '' where nothing may be sent."""
        constant = EXPRESSIONS.get(label)
        if constant is None:
            return self.settings.contempt if label == "contempt" else ""
        return str(getattr(self.types("hri_msgs/msg/Expression"), constant))

    def _gesture(self, subject: str, label: str) -> TopicMessage:
        """Hand shapes and `handedness` came with hri_msgs 2.2.0; Humble's 2.1.0 gets OTHER."""
        kind = self.types("hri_msgs/msg/Gesture")
        table = GESTURES if self.settings.loose_gestures else GESTURES_EXACT
        value = getattr(kind, table.get(label, "OTHER"), kind.OTHER)
        newer = {"handedness": kind.INDEPENDENT} if hasattr(kind, "THUMB_UP") else {}
        return self._send("body_gesture", subject, header=self.header, gesture=value, **newer)

    def _fresh(self, cue: Cue | None) -> TypeGuard[Cue]:
        return cue is not None and cue.age_s <= self.settings.max_age_s

    def _name(self, track_id: int) -> str:
        """The id used in the arrays: a person's, or the body's where the person is not known."""
        return self.person(track_id) or body_id(track_id)


def _unit(value: float) -> float:
    """Into 0..1, as hri_msgs asks of normalised values and confidences."""
    return min(max(float(value), 0.0), 1.0)
