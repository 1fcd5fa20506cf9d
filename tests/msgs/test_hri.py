"""FrameCues -> ROS messages, with rosbags' types in rclpy's place."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sf_ros.core import gaze
from sf_ros.core.space import Gaze3D
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Box, FrameCues, Gaze, Label, Person, PersonCues, Relation
from sf_ros.io.recorders import typestore
from sf_ros.msgs import topics
from sf_ros.msgs.hri import MessageSettings, PublisherState, TopicMessage, messages

JAZZY, HUMBLE = typestore(), typestore(humble=True)
TYPES = JAZZY.types.__getitem__
ANN = Person(1, Box(-20, 48, 160, 480), 0.9, Box(32, 48, 96, 120), 0.8)
BEN = Person(2, Box(320, 60, 480, 470), 0.7)
EMPTY = FrameCues(stamp=12.25, index=0, width=640, height=480, frame_id="head_camera")


def label(task: str, name: str, confidence: float = 0.9, age_s: float = 0.0) -> Label:
    names = TASKS[task].labels
    rest = (1 - confidence) / (len(names) - 1)
    return Label(name, confidence, tuple(confidence if n == name else rest for n in names), age_s)


def frame(*people: PersonCues, relations: tuple[Relation, ...] = ()) -> FrameCues:
    return replace(EMPTY, people=people, relations=relations)


def sent(
    cues: FrameCues, settings: MessageSettings | None = None, told: PublisherState | None = None, **options: Any
) -> list[TopicMessage]:
    return messages(cues, TYPES, settings or MessageSettings(), told or PublisherState(), **options)[0]


def on(items: list[TopicMessage], topic: str) -> list[Any]:
    return [item.message for item in items if item.topic == topic]


def one(items: list[TopicMessage], topic: str) -> Any:
    (message,) = on(items, topic)
    return message


FULL = frame(
    PersonCues(
        ANN,
        gaze=Gaze((0.6, 0.5), 0.7, np.zeros((64, 64), np.float32), 0.1, target_id=2),
        looking_at_me=label("looking_at_me", "no"),
        expression=label("expression", "happiness", 0.8, 0.25),
        gesture=label("gesture", "like", 0.6),
    ),
    PersonCues(BEN, looking_at_me=label("looking_at_me", "yes", 0.75)),
    relations=(
        Relation((1, 2), label("domain", "domain/intimate", 0.8, 0.5), label("relation", "relation/family", 0.6)),
    ),
)


def test_an_empty_frame_sends_empty_lists_on_every_fixed_list_topic():
    items = sent(EMPTY)
    for kind in ("faces", "bodies", "persons"):
        assert one(items, f"/humans/{kind}/tracked").ids == []
    assert one(items, "/humans/persons/known").ids == []
    for name in ("persons", "gaze_targets", "looking_at_me", "expressions", "gestures", "relationships"):
        assert one(items, f"~/{name}").detections == []
    assert on(items, "/humans/interactions/gazing") == []
    assert {item.topic for item in items} <= set(topics.Names().fixed())


def test_headers_are_the_frames_and_detections_carry_the_time_of_their_look():
    items = sent(FULL)
    stamped = [item.message.header for item in items if hasattr(item.message, "header")]
    assert len(stamped) > 20
    assert {(h.stamp.sec, h.stamp.nanosec, h.frame_id) for h in stamped} == {(12, 250_000_000, "head_camera")}
    (detection,) = one(items, "~/expressions").detections
    assert (detection.header.stamp.sec, detection.header.stamp.nanosec) == (12, 0)  # looked at 0.25 s earlier


def test_an_exact_stamp_is_copied_to_the_nanosecond():
    """A float of today's time is a multiple of 238 ns, and an exact time synchroniser compares nanoseconds."""
    header = one(sent(EMPTY, stamp_ns=1_700_000_000_123_456_789), "~/persons").header
    assert (header.stamp.sec, header.stamp.nanosec) == (1_700_000_000, 123_456_789)


def test_rois_are_clipped_and_normalised():
    body = one(sent(FULL), "/humans/bodies/b00001/roi")
    assert (body.xmin, body.ymin, body.xmax, body.ymax) == pytest.approx((0.0, 0.1, 0.25, 1.0))
    assert body.c == pytest.approx(0.9)
    face = one(sent(FULL), "/humans/faces/f00001/roi")
    assert (face.xmin, face.ymin, face.xmax, face.ymax) == pytest.approx((0.05, 0.1, 0.15, 0.25))


def test_ids_are_valid_topic_tokens():
    ids = [f(track) for f in (topics.face_id, topics.body_id, topics.person_id) for track in (0, 7, 123_456)]
    assert len(set(ids)) == 9
    for name in [*ids, *(item.topic for item in sent(FULL))]:
        assert all(re.fullmatch(r"~|[A-Za-z_][A-Za-z0-9_]*", token) for token in name.lstrip("/").split("/"))


def test_lists_matches_and_links_name_the_same_people():
    items = sent(FULL)
    assert one(items, "/humans/faces/tracked").ids == ["f00001"]
    assert one(items, "/humans/bodies/tracked").ids == ["b00001", "b00002"]
    assert one(items, "/humans/persons/tracked").ids == one(items, "/humans/persons/known").ids == ["p00001", "p00002"]
    assert one(items, "/humans/persons/p00001/anonymous").data is True
    assert one(items, "/humans/persons/p00001/face_id").data == "f00001"
    assert one(items, "/humans/persons/p00002/face_id").data == ""
    assert one(items, "/humans/persons/p00002/body_id").data == "b00002"
    kind: Any = TYPES("hri_msgs/msg/IdsMatch")
    matches = {(m.id1, m.id1_type, m.id2, m.id2_type): m.confidence for m in on(items, "/humans/candidate_matches")}
    assert matches == {
        ("f00001", kind.FACE, "b00001", kind.BODY): pytest.approx(0.8),
        ("p00001", kind.PERSON, "b00001", kind.BODY): pytest.approx(0.9),
        ("p00001", kind.PERSON, "f00001", kind.FACE): pytest.approx(0.8),
        ("p00002", kind.PERSON, "b00002", kind.BODY): pytest.approx(0.7),
    }


def test_latched_links_are_sent_when_they_change_and_not_again():
    first, told = messages(FULL, TYPES)
    again, told = messages(FULL, TYPES, told=told)
    latched = re.compile(r"/humans/persons/p|~/labels/")
    assert any(latched.match(item.topic) for item in first)
    assert not any(latched.match(item.topic) for item in again)
    hidden = frame(PersonCues(replace(ANN, face=None)), PersonCues(BEN))
    lost, _ = messages(hidden, TYPES, told=told)
    assert {item.topic: item.message.data for item in lost if latched.match(item.topic)} == {
        "/humans/persons/p00001/face_id": ""
    }


def test_a_person_out_of_sight_is_known_for_a_while_and_then_forgotten():
    _, told = messages(FULL, TYPES)
    soon, told = messages(replace(EMPTY, stamp=EMPTY.stamp + 9), TYPES, told=told)
    assert one(soon, "/humans/persons/tracked").ids == []
    assert one(soon, "/humans/persons/known").ids == ["p00001", "p00002"]
    assert one(soon, "/humans/persons/p00001/body_id").data == ""
    late, _ = messages(replace(EMPTY, stamp=EMPTY.stamp + 11), TYPES, told=told)
    assert one(late, "/humans/persons/known").ids == []


def test_gazing_has_the_robot_as_an_empty_receiver_and_persons_by_their_ids():
    gazing = on(sent(FULL), "/humans/interactions/gazing")
    assert [(g.sender, g.receiver) for g in gazing] == [("p00001", "p00002"), ("p00002", "")]


def test_who_looks_at_the_robot_looks_at_nobody_else():
    both = PersonCues(ANN, gaze=Gaze((0.6, 0.5), 0.7, target_id=2), looking_at_me=label("looking_at_me", "yes"))
    gazing = on(sent(frame(both, PersonCues(BEN))), "/humans/interactions/gazing")
    assert [(g.sender, g.receiver) for g in gazing] == [("p00001", "")]


def test_a_weak_yes_is_not_gazing():
    weak = PersonCues(ANN, looking_at_me=Label("yes", 0.2, (0.2, 0.8)))
    assert on(sent(frame(weak)), "/humans/interactions/gazing") == []
    assert on(sent(frame(weak), MessageSettings(looking_min=0.1)), "/humans/interactions/gazing")


def test_stale_cues_stay_off_the_topics_that_cannot_tell_their_age():
    old = PersonCues(
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
    assert len(one(items, "~/expressions").detections) == len(one(items, "~/gaze_targets").detections) == 1


@pytest.mark.parametrize(
    ("name", "text"),
    zip(
        TASKS["expression"].labels,
        ("neutral", "happy", "sad", "surprised", "scared", "disgusted", "angry", "skeptical"),
        strict=True,
    ),
)
def test_expressions_become_the_strings_of_hri_msgs(name: str, text: str):
    message = one(
        sent(frame(PersonCues(ANN, expression=label("expression", name, 0.8)))), "/humans/faces/f00001/expression"
    )
    assert (message.expression, message.confidence) == (text, pytest.approx(0.8))


def test_contempt_is_a_choice_and_never_goes_out_by_its_own_name():
    cues = frame(PersonCues(ANN, expression=label("expression", "contempt")))
    topic = "/humans/faces/f00001/expression"
    assert one(sent(cues, MessageSettings(contempt="annoyed")), topic).expression == "annoyed"
    assert on(sent(cues, MessageSettings(contempt="")), topic) == []
    assert one(sent(cues), "~/expressions").detections[0].results[0].hypothesis.class_id == "contempt"
    with pytest.raises(ValueError, match="Did you mean 'annoyed'"):
        MessageSettings(contempt="anoyed")


@pytest.mark.parametrize(
    ("name", "strict", "loose"),
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
def test_gestures_become_the_constants_of_hri_msgs(name: str, strict: int, loose: int):
    cues = frame(PersonCues(BEN, gesture=label("gesture", name)))
    for setting, number in ((False, strict), (True, loose)):
        items = sent(cues, MessageSettings(loose_gestures=setting))
        message = one(items, "/humans/bodies/b00002/gesture")
        assert (message.gesture, message.handedness) == (number, 0)
        assert one(items, "~/gestures").detections[0].results[0].hypothesis.class_id == name


@pytest.mark.parametrize("name", TASKS["gesture"].labels)
def test_the_gesture_of_humble_has_neither_hand_shapes_nor_handedness(name: str):
    items, _ = messages(frame(PersonCues(BEN, gesture=label("gesture", name))), HUMBLE.types.__getitem__)
    message = one(items, "/humans/bodies/b00002/gesture")
    assert message.gesture == 0
    assert not hasattr(message, "handedness")


def test_an_unknown_or_missing_label_is_not_sent_as_a_gesture_or_expression():
    nothing = Label("", 0.3, ())
    items = sent(frame(PersonCues(ANN, expression=nothing, gesture=nothing)))
    assert not any(item.topic.endswith(("1/expression", "1/gesture")) for item in items)
    assert one(items, "~/gestures").detections[0].results == []


def test_arrays_list_scores_with_the_chosen_label_first():
    items = sent(FULL)
    (expression,) = one(items, "~/expressions").detections
    assert expression.id == "p00001"
    assert expression.results[0].hypothesis.class_id == "happiness"
    assert len(expression.results) == 8
    assert sum(r.hypothesis.score for r in expression.results) == pytest.approx(1.0)
    assert len(one(items, "~/gestures").detections[0].results) == 3
    assert [d.results[0].hypothesis.class_id for d in one(items, "~/looking_at_me").detections] == ["no", "yes"]
    box = one(items, "~/persons").detections[1].bbox
    assert (box.center.position.x, box.center.position.y, box.size_x, box.size_y) == (400, 265, 160, 410)


def test_a_gaze_target_is_a_point_in_pixels_and_names_the_person_looked_at():
    (target,) = one(sent(FULL), "~/gaze_targets").detections
    assert (target.bbox.center.position.x, target.bbox.center.position.y) == pytest.approx((384, 240))
    assert (target.results[0].hypothesis.class_id, target.results[0].hypothesis.score) == ("p00002", 0.7)
    away = sent(frame(PersonCues(ANN, gaze=Gaze((1.2, 0.5), 0.4))))
    assert one(away, "~/gaze_targets").detections[0].results[0].hypothesis.class_id == "scene"
    assert one(away, "/humans/faces/f00001/gaze_target").x == 1.0  # hri_msgs allows nothing outside 0..1


def test_a_gaze_targets_box_is_as_wide_as_its_heat_and_its_pose_as_sure_as_depth():
    heatmap = gaze.encode((0.6, 0.5), 64, 3.0)
    cues = frame(PersonCues(ANN, gaze=Gaze(gaze.decode(heatmap)[0], 1.0, heatmap)))
    (flat,) = one(sent(cues), "~/gaze_targets").detections
    cells = 2 * 3 / 64  # a standard deviation of 3 cells to each side
    assert (flat.bbox.size_x / cues.width, flat.bbox.size_y / cues.height) == pytest.approx((cells, cells), rel=0.05)
    assert not np.any(flat.results[0].pose.covariance) and flat.results[0].pose.pose.position.z == 0  # not measured
    ahead, target, covariance = np.array([0, 0, 1.0]), np.array([0.5, 0.1, 2.0]), np.diag([0.01, 0.02, 0.03])
    space = Gaze3D(ahead, 0.05, np.array([0.5, 0.1, 1.0]), target, covariance)
    (found,) = one(sent(cues, spaces={1: space}), "~/gaze_targets").detections
    pose = found.results[0].pose
    assert (pose.pose.position.x, pose.pose.position.y, pose.pose.position.z) == (0.5, 0.1, 2.0)
    assert pose.pose.orientation.w == pytest.approx(1)  # from the head straight ahead
    both = np.reshape(pose.covariance, (6, 6))
    assert both[:3, :3] == pytest.approx(covariance)
    assert np.diag(both)[3:] == pytest.approx(np.array([1, 1, 0]) * space.direction_rad**2)


def test_a_relationship_is_the_pair_with_both_questions_scores_in_the_union_box():
    (pair,) = one(sent(FULL), "~/relationships").detections
    assert pair.id == "p00001|p00002"
    names = [r.hypothesis.class_id for r in pair.results]
    assert (names[0], names[3], len(names)) == ("domain/intimate", "relation/family", 9)
    assert (pair.bbox.size_x, pair.bbox.size_y) == (500, 432)


def test_a_relation_of_somebody_not_in_the_frame_is_left_out():
    gone = frame(PersonCues(ANN), relations=(Relation((1, 9), label("domain", "domain/intimate")),))
    assert one(sent(gone), "~/relationships").detections == []


def test_groups_are_connected_components_of_the_related():
    people = [PersonCues(replace(BEN, track_id=track)) for track in range(1, 7)]
    pairs = {(1, 2): "domain/intimate", (2, 4): "domain/not_intimate", (4, 5): "domain/none", (3, 6): "domain/intimate"}
    relations = tuple(Relation(ids, label("domain", name)) for ids, name in pairs.items())
    groups = on(sent(frame(*people, relations=relations)), "/humans/interactions/groups")
    assert {tuple(g.members) for g in groups} == {("p00001", "p00002", "p00004"), ("p00003", "p00006")}


def test_a_group_that_is_gone_is_sent_once_without_members():
    first, told = messages(FULL, TYPES)
    (group,) = on(first, "/humans/interactions/groups")
    second, told = messages(EMPTY, TYPES, told=told)
    assert [(g.group_id, g.members) for g in on(second, "/humans/interactions/groups")] == [(group.group_id, [])]
    third, _ = messages(EMPTY, TYPES, told=told)
    assert on(third, "/humans/interactions/groups") == []


def test_labels_list_the_classes_of_every_question_in_order():
    items = sent(FULL)
    asked = {name: spec.labels for name, spec in TASKS.items() if spec.labels}
    for name, labels in asked.items():
        info = one(items, f"~/labels/{name}")
        assert tuple(c.class_name for c in info.class_map) == labels
        assert [c.class_id for c in info.class_map] == list(range(len(labels)))


def test_without_persons_nothing_speaks_of_persons():
    items = sent(FULL, MessageSettings(persons="off"))
    assert not any(item.topic.startswith(("/humans/persons", "/humans/interactions")) for item in items)
    assert len(on(items, "/humans/candidate_matches")) == 1  # face and body


def test_external_person_ids_replace_our_own():
    items = sent(FULL, MessageSettings(persons="external"), person_ids={2: "maria"})
    assert not any(item.topic.startswith("/humans/persons") for item in items)
    assert [(g.sender, g.receiver) for g in on(items, "/humans/interactions/gazing")] == [("maria", "")]
    assert [d.id for d in one(items, "~/persons").detections] == ["b00001", "maria"]
    assert on(items, "/humans/interactions/groups") == []


def test_names_of_the_namespaces_are_settings():
    items = sent(FULL, MessageSettings(names=topics.Names(humans="/left/humans", node="/eyes")))
    assert {item.topic.split("/")[1] for item in items} == {"left", "eyes"}


@pytest.mark.parametrize("store", [HUMBLE, JAZZY], ids=["humble", "jazzy"])
def test_every_message_is_read_back_as_it_was_written(store: Any):
    items, _ = messages(FULL, store.types.__getitem__)
    assert {item.type for item in items} == {topic.type for topic in topics.TOPICS.values()}

    def same(written: Any, read: Any) -> bool:
        if hasattr(written, "__msgtype__"):
            names = [name for name, _ in store.fielddefs[written.__msgtype__][1]]
            alike = all(same(getattr(written, name), getattr(read, name)) for name in names)
            return alike and read.__msgtype__ == written.__msgtype__
        if isinstance(written, list) and written and not isinstance(written[0], str):
            return len(written) == len(read) and all(map(same, written, read))
        if isinstance(written, float | np.ndarray):
            return bool(np.allclose(written, read, rtol=1e-6))  # some fields are float32
        return bool(written == read)

    for item in items:
        data = store.serialize_cdr(item.message, item.type)
        assert same(item.message, store.deserialize_cdr(data, item.type)), item.topic


def test_fields_have_the_python_types_that_rclpy_insists_on():
    """rclpy refuses numpy's float32 and integers; cues may be made of them."""
    half: Any = np.float32(0.5)
    track: Any = np.int64(1)
    some = Label("no", half, (half, half), half)
    box = Box(*np.array([10, 20, 90, 100], np.float32))
    cues = PersonCues(Person(track, box, half, box, half), Gaze((half, half), half), some)
    found = set()

    def visit(value: Any) -> None:
        if hasattr(value, "__msgtype__"):
            for name, _ in JAZZY.fielddefs[value.__msgtype__][1]:
                visit(getattr(value, name))
        elif isinstance(value, list):
            for item in value:
                visit(item)
        else:
            found.add(type(value))

    for item in sent(replace(frame(cues), stamp=np.float64(3.5))):
        visit(item.message)
    assert found == {bool, float, int, str, np.ndarray}  # the array is the pose's covariance
