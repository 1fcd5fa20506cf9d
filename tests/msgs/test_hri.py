"""REP-155 topics: boxes, matches, links, expressions, gestures, gazing and groups."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from rosbags.typesys import get_types_from_msg

from sf_ros.core.cues import CUES, TASKS
from sf_ros.core.types import Gaze, Label, PairCues
from sf_ros.msgs.builder import MessageSettings
from sf_ros.msgs.hri import EXPRESSIONS, FORGET_AFTER_S, GESTURES, PublisherState
from sf_ros.msgs.messages import departure, messages
from sf_ros.msgs.typestore import typestore
from tests.msgs.frames import ANN, BEN, EMPTY, FULL, JAZZY, TYPES, frame, label, on, only, person, sent


def test_boxes_are_clipped_and_normalised():
    body = only(sent(FULL), "/humans/bodies/b00001/roi")
    assert (body.xmin, body.ymin, body.xmax, body.ymax) == pytest.approx((0.0, 0.1, 0.25, 1.0))
    assert body.c == pytest.approx(0.9)
    face = only(sent(FULL), "/humans/faces/f00001/roi")
    assert (face.xmin, face.ymin, face.xmax, face.ymax) == pytest.approx((0.05, 0.1, 0.15, 0.25))


def test_lists_matches_and_links_agree():
    items = sent(FULL)
    assert only(items, "/humans/faces/tracked").ids == ["f00001"]
    assert only(items, "/humans/bodies/tracked").ids == ["b00001", "b00002"]
    assert (
        only(items, "/humans/persons/tracked").ids == only(items, "/humans/persons/known").ids == ["p00001", "p00002"]
    )
    assert only(items, "/humans/persons/p00001/anonymous").data is True
    assert only(items, "/humans/persons/p00001/face_id").data == "f00001"
    assert only(items, "/humans/persons/p00002/face_id").data == ""
    assert only(items, "/humans/persons/p00002/body_id").data == "b00002"
    kind: Any = TYPES("hri_msgs/msg/IdsMatch")
    matches = {(m.id1, m.id1_type, m.id2, m.id2_type): m.confidence for m in on(items, "/humans/candidate_matches")}
    assert matches == {
        ("f00001", kind.FACE, "b00001", kind.BODY): pytest.approx(0.8),
        ("p00001", kind.PERSON, "b00001", kind.BODY): pytest.approx(0.9),
        ("p00001", kind.PERSON, "f00001", kind.FACE): pytest.approx(0.8),
        ("p00002", kind.PERSON, "b00002", kind.BODY): pytest.approx(0.7),
    }


def test_latched_links_are_sent_only_when_they_change():
    first, state = messages(FULL, TYPES)
    second, state = messages(FULL, TYPES, state=state)
    latched = re.compile(r"/humans/persons/p\d+/(?!engagement)|~/labels/")
    assert any(latched.match(item.topic) for item in first)
    assert not any(latched.match(item.topic) for item in second)
    hidden = frame(person(replace(ANN, face=None)), person(BEN))
    third, _ = messages(hidden, TYPES, state=state)
    assert {item.topic: item.message.data for item in third if latched.match(item.topic)} == {
        "/humans/persons/p00001/face_id": ""
    }


def test_person_out_of_sight_is_known_for_a_while():
    _, state = messages(FULL, TYPES)
    soon, state = messages(replace(EMPTY, stamp=EMPTY.stamp + FORGET_AFTER_S - 1), TYPES, state=state)
    assert only(soon, "/humans/persons/tracked").ids == []
    assert only(soon, "/humans/persons/known").ids == ["p00001", "p00002"]
    assert only(soon, "/humans/persons/p00001/body_id").data == ""
    late, _ = messages(replace(EMPTY, stamp=EMPTY.stamp + FORGET_AFTER_S + 1), TYPES, state=state)
    assert only(late, "/humans/persons/known").ids == []


def test_robot_is_the_empty_receiver_of_gazing():
    gazing = on(sent(FULL), "/humans/interactions/gazing")
    assert [(g.sender, g.receiver) for g in gazing] == [("p00001", "p00002"), ("p00002", "")]


def test_looking_at_the_robot_excludes_other_receivers():
    both = person(ANN, gaze=Gaze((0.6, 0.5), 0.7, target_id=2), looking_at_me=label("looking_at_me", "yes"))
    gazing = on(sent(frame(both, person(BEN))), "/humans/interactions/gazing")
    assert [(g.sender, g.receiver) for g in gazing] == [("p00001", "")]


def test_weak_yes_is_not_gazing():
    weak = frame(person(ANN, looking_at_me=Label("yes", 0.2, (0.2, 0.8))))
    assert on(sent(weak), "/humans/interactions/gazing") == []
    defaults = {name: cue.defaults for name, cue in CUES.items()}
    lower = MessageSettings(cues={**defaults, "looking_at_me": replace(defaults["looking_at_me"], leave=0.1)})
    assert on(sent(weak, lower), "/humans/interactions/gazing")


def test_old_cues_are_not_on_rep_155_topics():
    old = person(
        ANN,
        gaze=Gaze((0.6, 0.5), 0.7, age_s=5, target_id=2),
        looking_at_me=label("looking_at_me", "yes", age_s=5),
        expression=label("expression", "anger", age_s=5),
        gesture=label("gesture", "like", age_s=5),
    )
    items = sent(frame(old))
    names = {item.topic for item in items if item.topic.startswith("/humans")}
    assert "/humans/faces/f00001/roi" in names
    assert not any(name.endswith(("/expression", "/gesture", "/gaze_target", "/gazing")) for name in names)
    assert len(only(items, "~/expressions").detections) == len(only(items, "~/gaze_targets").detections) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    zip(
        TASKS["expression"].labels,
        ("neutral", "happy", "sad", "surprised", "scared", "disgusted", "angry", "skeptical"),
        strict=True,
    ),
)
def test_expressions_are_the_texts_of_hri_msgs(name: str, text: str):
    items = sent(frame(person(ANN, expression=label("expression", name, 0.8))))
    message = only(items, "/humans/faces/f00001/expression")
    assert (message.expression, message.confidence) == (text, pytest.approx(0.8))


def test_contempt_is_published_as_configured():
    cues = frame(person(ANN, expression=label("expression", "contempt")))
    topic = "/humans/faces/f00001/expression"
    assert only(sent(cues, MessageSettings(contempt="annoyed")), topic).expression == "annoyed"
    assert on(sent(cues, MessageSettings(contempt="")), topic) == []
    assert only(sent(cues), "~/expressions").detections[0].results[0].hypothesis.class_id == "contempt"
    with pytest.raises(ValueError, match="Did you mean 'annoyed'"):
        MessageSettings(contempt="anoyed")


@pytest.mark.parametrize(
    ("name", "exact", "loose"),
    [
        ("fist", 7, 7),
        ("palm", 8, 8),
        ("one", 9, 9),
        ("dislike", 10, 10),
        ("like", 11, 11),
        ("peace", 12, 12),
        ("stop", 0, 8),
        ("peace_inverted", 0, 12),
        ("hand_heart", 0, 13),
        ("call", 0, 0),
    ],
)
def test_gestures_are_the_constants_of_hri_msgs(name: str, exact: int, loose: int):
    cues = frame(person(BEN, gesture=label("gesture", name)))
    for loose_gestures, number in ((False, exact), (True, loose)):
        items = sent(cues, MessageSettings(loose_gestures=loose_gestures))
        message = only(items, "/humans/bodies/b00002/gesture")
        assert (message.gesture, message.handedness) == (number, 0)
        assert only(items, "~/gestures").detections[0].results[0].hypothesis.class_id == name


def test_every_gesture_is_other_before_hand_shapes_existed():
    old = typestore()  # with Gesture of hri_msgs 2.1.0
    old.types.pop("hri_msgs/msg/Gesture"), old.fielddefs.pop("hri_msgs/msg/Gesture")
    text = "std_msgs/Header header\nuint8 OTHER=0\nuint8 HANDS_ON_FACE=1\nuint8 WAVING=6\nuint8 gesture\n"
    old.register(get_types_from_msg(text, "hri_msgs/msg/Gesture"))
    for name in TASKS["gesture"].labels:
        cues = frame(person(BEN, gesture=label("gesture", name)))
        message = only(messages(cues, old.types.__getitem__)[0], "/humans/bodies/b00002/gesture")
        assert message.gesture == 0
        assert not hasattr(message, "handedness")


def test_engagement_is_published_for_every_known_person():
    level = JAZZY.types["hri_msgs/msg/EngagementLevel"]
    looking = person(BEN, looking_at_me=label("looking_at_me", "yes", 0.9))
    state = PublisherState()
    seen = []
    for second, people in enumerate([(person(ANN), looking)] * 4 + [()] * 4):
        cues = replace(frame(*people), stamp=float(second))
        items, state = messages(cues, TYPES, state=state)
        assert only(items, "/humans/persons/p00001/engagement_status").level == level.UNKNOWN
        seen.append(only(items, "/humans/persons/p00002/engagement_status").level)
    assert seen == [level.DISENGAGED, level.ENGAGING, level.ENGAGED, level.ENGAGED] + (
        [level.ENGAGED, level.DISENGAGING, level.DISENGAGED, level.DISENGAGED]
    )
    left, _ = departure(9 * 10**9, "lens", TYPES, MessageSettings(), state)
    assert only(left, "/humans/persons/p00002/engagement_status").level == level.DISENGAGED


@pytest.mark.parametrize("persons", ["external", "off"])
def test_engagement_belongs_to_the_node_that_publishes_persons(persons: str):
    items, _ = messages(FULL, TYPES, MessageSettings(persons=persons), person_ids={1: "ann"})
    assert not any("engagement" in item.topic for item in items)


def test_engagement_is_left_out_where_the_message_is_missing():
    types = {name: kind for name, kind in JAZZY.types.items() if not name.endswith("EngagementLevel")}
    items, _ = messages(FULL, types.__getitem__)
    assert items and not any("engagement" in item.topic for item in items)


def test_tables_cover_every_label_with_existing_constants():
    assert tuple(GESTURES) == TASKS["gesture"].labels
    assert tuple(EXPRESSIONS) == TASKS["expression"].labels
    assert all(hasattr(JAZZY.types["hri_msgs/msg/Gesture"], constant) for constant in GESTURES.values())
    constants = [constant for constant in EXPRESSIONS.values() if constant]
    assert all(hasattr(JAZZY.types["hri_msgs/msg/Expression"], constant) for constant in constants)


def test_empty_label_is_not_published():
    unknown = Label("", 0.3, ())
    items = sent(frame(person(ANN, expression=unknown, gesture=unknown)))
    assert not any(item.topic.endswith(("1/expression", "1/gesture")) for item in items)
    assert only(items, "~/gestures").detections[0].results == []


def test_groups_are_connected_components():
    people = [person(replace(BEN, track_id=track)) for track in range(1, 7)]
    domains = {
        (1, 2): "domain/intimate",
        (2, 4): "domain/not_intimate",
        (4, 5): "domain/none",
        (3, 6): "domain/intimate",
    }
    pairs = tuple(PairCues(ids, {"domain": label("domain", name)}) for ids, name in domains.items())
    groups = on(sent(frame(*people, pairs=pairs)), "/humans/interactions/groups")
    assert {tuple(g.members) for g in groups} == {("p00001", "p00002", "p00004"), ("p00003", "p00006")}


def test_dissolved_group_is_sent_once_without_members():
    first, state = messages(FULL, TYPES)
    (group,) = on(first, "/humans/interactions/groups")
    second, state = messages(EMPTY, TYPES, state=state)
    assert [(g.group_id, g.members) for g in on(second, "/humans/interactions/groups")] == [(group.group_id, [])]
    third, _ = messages(EMPTY, TYPES, state=state)
    assert on(third, "/humans/interactions/groups") == []


def test_persons_off_sends_faces_and_bodies_only():
    items = sent(FULL, MessageSettings(persons="off"))
    assert not any(item.topic.startswith(("/humans/persons", "/humans/interactions")) for item in items)
    assert len(on(items, "/humans/candidate_matches")) == 1  # face and body


def test_external_person_ids_replace_the_nodes_own():
    items = sent(FULL, MessageSettings(persons="external"), person_ids={2: "maria"})
    assert not any(item.topic.startswith("/humans/persons") for item in items)
    assert [(g.sender, g.receiver) for g in on(items, "/humans/interactions/gazing")] == [("maria", "")]
    assert [d.id for d in only(items, "~/persons").detections] == ["b00001", "maria"]
    assert on(items, "/humans/interactions/groups") == []
