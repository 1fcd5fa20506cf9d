"""hri_msgs on the topics of REP-155: faces, bodies, persons, who looks at whom, groups. Every header is the frame's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sf_ros.core.attention import looks_at_camera
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box, PersonCues
from sf_ros.msgs.builder import MessageBuilder, TopicMessage
from sf_ros.msgs.engagement import Engagement, next_engagement
from sf_ros.msgs.topics import body_id, face_id, person_id

# AffectNet class -> constant of hri_msgs/Expression, which has none for contempt (MessageSettings.contempt).
EXPRESSIONS: dict[str, str | None] = {
    "neutral": "NEUTRAL",
    "happiness": "HAPPY",
    "sadness": "SAD",
    "surprise": "SURPRISED",
    "fear": "SCARED",
    "disgust": "DISGUSTED",
    "anger": "ANGRY",
    "contempt": None,
}
# HaGRIDv2 class -> constant of hri_msgs/Gesture (2.2.0 or newer). The other classes are OTHER. Of hand shapes, 2.1.0
# has none.
GESTURES_EXACT = {
    "fist": "CLOSED_FIST",
    "palm": "OPEN_PALM",
    "one": "POINTING_UP",
    "dislike": "THUMB_DOWN",
    "like": "THUMB_UP",
    "peace": "VICTORY",
}
GESTURES_LOOSE = {"stop": "OPEN_PALM", "peace_inverted": "VICTORY", "hand_heart": "LOVE", "hand_heart2": "LOVE"}
GESTURES = dict.fromkeys(TASKS["gesture"].labels, "OTHER") | GESTURES_EXACT | GESTURES_LOOSE

FORGET_AFTER_S = 10.0  # a person out of sight stays in persons/known for this long
Links = Mapping[str, tuple[str, str]]  # person id -> its face id and body id, or ''
Groups = Mapping[str, tuple[str, ...]]  # group id -> person ids


@dataclass(frozen=True)
class PublisherState:
    """What was published in earlier frames: latched messages are sent when they change, and a lost group once."""

    links: Links = field(default_factory=dict)
    last_seen: Mapping[str, float] = field(default_factory=dict)  # person id -> stamp of its last frame
    groups: Groups = field(default_factory=dict)
    engagement: Mapping[str, Engagement] = field(default_factory=dict)  # by person id
    labels_sent: bool = False


def next_state(builder: MessageBuilder, state: PublisherState) -> PublisherState:
    """The state after this frame. A person out of sight keeps its id for FORGET_AFTER_S, without links."""
    now = builder.cues.stamp
    last_seen = {name: stamp for name, stamp in state.last_seen.items() if abs(now - stamp) <= FORGET_AFTER_S}
    links = dict.fromkeys(last_seen, ("", ""))
    looking: dict[str, bool | None] = {}
    for cues in builder.cues.people:
        track = cues.person.track_id
        if (name := builder.person(track)) is not None:
            last_seen[name] = now
            links[name] = (face_id(track) if cues.person.face else "", body_id(track))
            looking[name] = _looking(builder, cues)
    engagement = {name: next_engagement(state.engagement.get(name), looking.get(name), now) for name in last_seen}
    return PublisherState(links, last_seen, _groups(builder), engagement, labels_sent=True)


def hri_messages(builder: MessageBuilder, before: PublisherState, after: PublisherState) -> Iterator[TopicMessage]:
    """The messages of REP-155 about one frame. Lists are sent in every frame, empty ones as well."""
    yield from _faces(builder)
    yield from _bodies(builder)
    yield from _matches(builder)
    if builder.settings.persons == "internal":
        yield from _persons(builder, before.links, after)
        yield from _engagement(builder, before.engagement, after.engagement)
    if builder.settings.persons != "off":
        yield from _gazing(builder)
        yield from _changed_groups(builder, before.groups, after.groups)


def _faces(builder: MessageBuilder) -> Iterator[TopicMessage]:
    """Face ids, boxes, expressions and gaze points."""
    header, people = builder.header, [cues for cues in builder.cues.people if cues.person.face]
    yield builder.send("faces_tracked", header=header, ids=[face_id(cues.person.track_id) for cues in people])
    for cues in people:
        name, expression, gaze = face_id(cues.person.track_id), cues.label("expression"), cues.gaze
        assert cues.person.face is not None
        yield from _roi(builder, "face_roi", cues.person.face, cues.person.face_score, name)
        if builder.fresh(expression) and (constant := _expression(builder, expression.name)):
            # Valence and arousal are not estimated; 0 is the message's default.
            values = {"valence": 0.0, "arousal": 0.0, "confidence": _unit(expression.confidence)}
            yield builder.send("face_expression", name, header=header, expression=constant, **values)
        if builder.fresh(gaze):
            x, y = (_unit(value) for value in gaze.point_norm)
            yield builder.send("face_gaze_target", name, header=header, x=x, y=y, c=_unit(gaze.confidence))


def _bodies(builder: MessageBuilder) -> Iterator[TopicMessage]:
    """Body ids, boxes and gestures."""
    people = builder.cues.people
    yield builder.send("bodies_tracked", header=builder.header, ids=[body_id(c.person.track_id) for c in people])
    for cues in people:
        name, gesture = body_id(cues.person.track_id), cues.label("gesture")
        yield from _roi(builder, "body_roi", cues.person.body, cues.person.score, name)
        if builder.fresh(gesture) and gesture.name in GESTURES:
            yield _gesture(builder, name, gesture.name)


def _matches(builder: MessageBuilder) -> Iterator[TopicMessage]:
    """Which face belongs to which body and, with internal persons, to which person."""
    kind = builder.types("hri_msgs/msg/IdsMatch")
    for cues in builder.cues.people:
        track = cues.person.track_id
        parts = [(body_id(track), kind.BODY, cues.person.score)]
        if cues.person.face:
            parts.append((face_id(track), kind.FACE, cues.person.face_score))
            yield _match(builder, parts[1], parts[0])
        if builder.settings.persons == "internal":
            for part in parts:
                yield _match(builder, (person_id(track), kind.PERSON, 1.0), part)


def _persons(builder: MessageBuilder, before: Links, after: PublisherState) -> Iterator[TopicMessage]:
    """Tracked and known persons; links, which are latched, only where they are new or changed."""
    tracked = [person_id(cues.person.track_id) for cues in builder.cues.people]
    yield builder.send("persons_tracked", header=builder.header, ids=tracked)
    yield builder.send("persons_known", header=builder.header, ids=sorted(after.last_seen))
    for name, (face, body) in after.links.items():
        if name not in before:
            yield builder.send("person_anonymous", name, data=True)
        old_face, old_body = before.get(name, (None, None))
        if face != old_face:
            yield builder.send("person_face_id", name, data=face)
        if body != old_body:
            yield builder.send("person_body_id", name, data=body)


def _engagement(
    builder: MessageBuilder, before: Mapping[str, Engagement], after: Mapping[str, Engagement]
) -> Iterator[TopicMessage]:
    """The engagement of every known person; who is no longer known is disengaged, and said to be so once."""
    try:
        kind = builder.types("hri_msgs/msg/EngagementLevel")
    except (ImportError, AttributeError, KeyError):  # another hri_msgs may lack it
        return
    for name, engagement in {**dict.fromkeys(before, Engagement("DISENGAGED")), **after}.items():
        level = getattr(kind, engagement.level)
        yield builder.send("engagement", name, header=builder.header, level=level)


def _looking(builder: MessageBuilder, cues: PersonCues) -> bool | None:
    """Whether a person looks at the robot; None where no answer is recent enough."""
    # `leave`, not `enter`: the smoother has applied the hysteresis between them.
    minimum = builder.settings.cues["looking_at_me"].leave
    return looks_at_camera(cues, minimum) if builder.fresh(cues.label("looking_at_me")) else None


def _gazing(builder: MessageBuilder) -> Iterator[TopicMessage]:
    """Who looks at whom. An empty receiver is the robot; who looks at the robot has no other receiver."""
    for cues in builder.cues.people:
        gaze = cues.gaze
        receiver: str | None = None
        if _looking(builder, cues):
            receiver = ""
        elif builder.fresh(gaze) and gaze.target_id is not None:
            receiver = builder.person(gaze.target_id)
        sender = builder.person(cues.person.track_id)
        if sender is not None and receiver is not None:
            yield builder.send("gazing", header=builder.header, sender=sender, receiver=receiver)


def _groups(builder: MessageBuilder) -> dict[str, tuple[str, ...]]:
    """Connected components of the pairs with a relationship, named after their first member."""
    minimum = builder.settings.cues["relation"].leave
    members: dict[str, set[str]] = {}
    for cues in builder.cues.pairs:
        domain = cues.label("domain")
        if domain is None or domain.name in ("", "domain/none") or domain.confidence < minimum:
            continue
        pair = {name for name in map(builder.person, cues.track_ids) if name is not None}
        if len(pair) == 2:
            joined = pair.union(*(members.get(name, ()) for name in pair))
            members.update(dict.fromkeys(joined, joined))
    return {f"group_{min(names)}": tuple(sorted(names)) for names in members.values()}


def _changed_groups(builder: MessageBuilder, before: Groups, after: Groups) -> Iterator[TopicMessage]:
    """Every group of this frame; a group that dissolved is sent once more, without members."""
    for name, members in {**dict.fromkeys(before, ()), **after}.items():
        yield builder.send("groups", header=builder.header, group_id=name, members=list(members))


def _roi(builder: MessageBuilder, key: str, box: Box, score: float, subject: str) -> Iterator[TopicMessage]:
    width, height = builder.cues.width, builder.cues.height
    if inside := box.clipped(width, height):
        left, top, right, bottom = (float(value) for value in inside.as_tuple())
        edges = {"xmin": left / width, "ymin": top / height, "xmax": right / width, "ymax": bottom / height}
        yield builder.send(key, subject, header=builder.header, c=_unit(score), **edges)


def _match(builder: MessageBuilder, first: tuple[str, int, float], second: tuple[str, int, float]) -> TopicMessage:
    (id1, id1_type, score1), (id2, id2_type, score2) = first, second
    fields: dict[str, Any] = {"id1": id1, "id1_type": id1_type, "id2": id2, "id2_type": id2_type}
    return builder.send("candidate_matches", confidence=_unit(min(score1, score2)), **fields)


def _expression(builder: MessageBuilder, label: str) -> str:
    """The text of hri_msgs/Expression for a label; '' where nothing is to be sent."""
    constant = EXPRESSIONS.get(label)
    if constant is None:
        return builder.settings.contempt if label == "contempt" else ""
    return str(getattr(builder.types("hri_msgs/msg/Expression"), constant))


def _gesture(builder: MessageBuilder, subject: str, label: str) -> TopicMessage:
    """A gesture in the constants of the installed message; which hand it is, the classes do not say.

    Hand shapes and `handedness` exist since hri_msgs 2.2.0; before, every gesture is OTHER.
    """
    kind = builder.types("hri_msgs/msg/Gesture")
    table = GESTURES if builder.settings.loose_gestures else GESTURES_EXACT
    value = getattr(kind, table.get(label, "OTHER"), kind.OTHER)
    newer_fields = {"handedness": kind.INDEPENDENT} if hasattr(kind, "THUMB_UP") else {}
    return builder.send("body_gesture", subject, header=builder.header, gesture=value, **newer_fields)


def _unit(value: float) -> float:
    """Into 0..1, the range of normalised values and confidences in hri_msgs."""
    return min(max(float(value), 0.0), 1.0)
