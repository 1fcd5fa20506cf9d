"""messages(): headers, ids, namespaces, and that every message can be serialised."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sf_ros.core.types import Box, Gaze, Gaze3D, Label, Person
from sf_ros.msgs import topics
from sf_ros.msgs.builder import MessageSettings
from sf_ros.msgs.hri import PublisherState
from sf_ros.msgs.messages import departure, messages
from tests.msgs.frames import EMPTY, FULL, HUMBLE, JAZZY, frame, on, only, person, sent


def test_empty_frame_sends_empty_lists():
    items = sent(EMPTY)
    for kind in ("faces", "bodies", "persons"):
        assert only(items, f"/humans/{kind}/tracked").ids == []
    assert only(items, "/humans/persons/known").ids == []
    for name in ("persons", "gaze_targets", "looking_at_me", "expressions", "gestures", "relationships"):
        assert only(items, f"~/{name}").detections == []
    assert on(items, "/humans/interactions/gazing") == []
    assert {item.topic for item in items} <= set(topics.Names().fixed())


def test_departure_empties_what_a_frame_published():
    _, state = messages(FULL, JAZZY.types.__getitem__)
    assert state.links and state.groups
    settings = MessageSettings()
    items, after = departure(5 * 10**9 + 1, "lens", JAZZY.types.__getitem__, settings, state)
    assert {item.topic for item in sent(EMPTY)} - {f"~/labels/{task}" for task in settings.label_tasks} <= {
        item.topic for item in items
    }
    for item in items:
        message = item.message
        if hasattr(message, "header"):
            assert (message.header.stamp.sec, message.header.stamp.nanosec, message.header.frame_id) == (5, 1, "lens")
        for field in ("ids", "detections", "members", "data"):
            assert not getattr(message, field, None), item.topic
    cleared = {f"/humans/persons/{name}/face_id" for name, (face, _) in state.links.items() if face}
    cleared |= {f"/humans/persons/{name}/body_id" for name in state.links}
    assert cleared <= {item.topic for item in items}
    assert after == PublisherState(labels_sent=True)


def test_headers_are_the_frames_and_detections_have_the_cues_time():
    items = sent(FULL)
    headers = [item.message.header for item in items if hasattr(item.message, "header")]
    assert len(headers) > 20
    assert {(h.stamp.sec, h.stamp.nanosec, h.frame_id) for h in headers} == {(12, 250_000_000, "head_camera")}
    (detection,) = only(items, "~/expressions").detections
    assert (detection.header.stamp.sec, detection.header.stamp.nanosec) == (12, 0)  # 0.25 s old


def test_exact_stamp_is_copied_to_the_nanosecond():
    """A float of today's time is a multiple of 238 ns, and an exact time synchroniser compares nanoseconds."""
    header = only(sent(EMPTY, stamp_of=lambda seconds: 1_700_000_000_123_456_789), "~/persons").header
    assert (header.stamp.sec, header.stamp.nanosec) == (1_700_000_000, 123_456_789)


def test_topic_names_are_valid():
    ids = [f(track) for f in (topics.face_id, topics.body_id, topics.person_id) for track in (0, 7, 123_456)]
    assert len(set(ids)) == 9
    for name in [*ids, *(item.topic for item in sent(FULL))]:
        assert all(re.fullmatch(r"~|[A-Za-z_][A-Za-z0-9_]*", token) for token in name.lstrip("/").split("/"))


def test_namespaces_are_settings():
    items = sent(FULL, MessageSettings(names=topics.Names(humans="/left/humans", node="/eyes")))
    assert {item.topic.split("/")[1] for item in items} == {"left", "eyes"}


@pytest.mark.parametrize("store", [HUMBLE, JAZZY], ids=["humble", "jazzy"])
def test_every_message_is_read_back_as_written(store: Any):
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


def test_fields_are_python_types():
    """rclpy refuses numpy's float32 and integers; cues may be made of them."""
    half: Any = np.float32(0.5)
    track: Any = np.int64(1)
    box = Box(*np.array([10, 20, 90, 100], np.float32))
    cues = person(
        Person(track, box, half, box, half),
        gaze=Gaze((half, half), half),
        looking_at_me=Label("no", half, (half, half), half),
    )
    point = np.array([0, 0, 1], np.float32)
    cues = replace(cues, gaze_3d=Gaze3D(point, half, point, point * 2, np.eye(3, dtype=np.float32)))
    types = set()

    def visit(value: Any) -> None:
        if hasattr(value, "__msgtype__"):
            for name, _ in JAZZY.fielddefs[value.__msgtype__][1]:
                visit(getattr(value, name))
        elif isinstance(value, list):
            for item in value:
                visit(item)
        else:
            types.add(type(value))

    for item in sent(replace(frame(cues), stamp=np.float64(3.5))):
        visit(item.message)
    assert types == {bool, float, int, str, np.ndarray}  # the array is a pose's covariance
