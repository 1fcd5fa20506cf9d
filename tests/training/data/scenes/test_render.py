"""The annotation of an image follows from the state behind it."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.scenes.pairs import DOMAIN_OF
from training.data.scenes.person import state as people
from training.data.scenes.person.arms import GESTURES
from training.data.scenes.person.head import EXPRESSIONS
from training.data.scenes.person.state import angle_between
from training.data.scenes.render import render
from training.data.scenes.scene import sample_scene
from training.data.scenes.setting import objects


def _rendered(seed: int, focus: str, hide: frozenset[str] = frozenset()):
    rng = np.random.default_rng(seed)
    return render(sample_scene(rng, "train", focus), rng, hide=hide)


@pytest.mark.parametrize("focus", ["any", "relation"])
def test_the_same_seed_renders_the_same_image(focus):
    (first, truth), (second, truth_again), (other, _) = (
        _rendered(3, focus),
        _rendered(3, focus),
        _rendered(4, focus),
    )
    assert np.array_equal(first, second) and truth == truth_again
    assert not np.array_equal(first, other)


def test_images_are_rgb_of_the_annotated_size(scenes):
    for _, image, annotation in scenes:
        assert image.shape == (annotation.height, annotation.width, 3) and image.dtype == np.uint8


def test_every_label_is_in_its_vocabulary(scenes):
    for _, _, annotation in scenes:
        names = {person.track_id for person in annotation.people}
        assert len(names) == len(annotation.people) >= 1
        for person in annotation.people:
            assert person.expression in EXPRESSIONS
            assert person.gesture in (*GESTURES, "none")
            kind, _, name = person.gaze_target.partition(":")
            assert kind in ("camera", "none", "person", "object")
            if kind == "person":
                assert int(name) != person.track_id
            if kind == "object":
                assert name in objects.SHAPES
        for first, second, domain, relation in annotation.relations:
            assert {first, second} <= names and first != second
            assert domain == DOMAIN_OF[relation]


def test_the_gaze_point_is_the_projected_target(scenes):
    checked = 0
    for state, _, annotation in scenes:
        targets = {f"person:{p.track_id}": p.head_center for p in state.people}
        names = [item.name for item in state.objects]
        targets |= {f"object:{i.name}": np.array(i.center) for i in state.objects if names.count(i.name) == 1}
        states = {p.track_id: p for p in state.people}
        for truth in annotation.people:
            person = states[truth.track_id]
            if truth.gaze_point_norm is None:
                continue
            x, y, z = person.gaze_point
            by_hand = ((320 + 520 * x / z) / 640, (240 + 520 * y / z) / 480)
            assert truth.gaze_point_norm == pytest.approx(by_hand)
            assert 0 <= by_hand[0] <= 1 and 0 <= by_hand[1] <= 1
            distance = np.linalg.norm(person.gaze_point - person.eye_point)
            assert person.eye_point + distance * person.gaze_direction == pytest.approx(person.gaze_point)
            if truth.gaze_target in targets:
                assert targets[truth.gaze_target] == pytest.approx(person.gaze_point)
                checked += 1
    assert checked > 10


def test_looking_at_me_means_a_gaze_at_the_camera(scenes):
    answers = set()
    for state, _, annotation in scenes:
        states = {p.track_id: p for p in state.people}
        for truth in annotation.people:
            person = states[truth.track_id]
            off = angle_between(person.gaze_direction, -person.eye_point)
            assert truth.looking_at_me == (truth.gaze_target == "camera") == (off < 1e-6)
            assert truth.looking_at_me or off > np.deg2rad(10)
            answers.add(truth.looking_at_me)
    assert answers == {True, False}


def test_boxes_lie_in_the_image_and_faces_in_bodies(scenes):
    for _, _, annotation in scenes:
        for person in annotation.people:
            boxes = [person.body, person.face, person.eyes_box, person.mouth_box, *person.hand_boxes]
            for x1, y1, x2, y2 in (box for box in boxes if box is not None):
                assert 0 <= x1 < x2 <= annotation.width and 0 <= y1 < y2 <= annotation.height
            if person.face is not None and person.visibility > 0.9:
                (x1, y1, x2, y2), body = person.face, person.body
                assert body[0] - 5 <= x1 and x2 <= body[2] + 5 and body[1] - 5 <= y1 and y2 <= body[3] + 5
            assert 0 < person.visibility <= 1


def test_a_single_person_is_fully_visible():
    rng = np.random.default_rng(2)
    state = sample_scene(rng, "train", "expression", 1)
    state.objects.clear()
    _, annotation = render(state, rng)
    assert annotation.people[0].visibility == pytest.approx(1.0, abs=0.02)


def test_an_object_in_front_lowers_visibility():
    rng = np.random.default_rng(2)
    state = sample_scene(rng, "train", "expression", 1)
    state.objects.clear()
    head = state.people[0].head_center * 0.8
    state.objects.append(objects.sample_object(rng, "train", head, 0.5, name="ball"))
    _, annotation = render(state, rng)
    assert annotation.people[0].face is None and annotation.people[0].visibility < 0.9


@pytest.mark.parametrize("part", ["eyes", "mouth", "hands"])
def test_hiding_a_part_changes_the_image_but_no_label(part):
    (image, truth), (hidden, truth_hidden) = (
        _rendered(11, "gesture"),
        _rendered(11, "gesture", frozenset({part})),
    )
    assert not np.array_equal(image, hidden)
    for person, same in zip(truth.people, truth_hidden.people, strict=True):
        for name in ("track_id", "expression", "gesture", "gaze_target", "gaze_point_norm", "looking_at_me"):
            assert getattr(person, name) == getattr(same, name)
    assert truth.relations == truth_hidden.relations


def test_hidden_hands_do_not_reveal_the_gesture():
    images = []
    for gesture in ("palm", "xsign"):
        rng = np.random.default_rng(1)
        state = sample_scene(rng, "train", "expression", 1)
        person = state.people[0]
        person.arms, person.gesture = people.gesture_arms(gesture, rng, person.scale), gesture
        images.append(render(state, np.random.default_rng(0), hide=frozenset({"hands"}))[0])
    assert np.array_equal(*images)


def test_joints_are_projected_and_show_a_raised_hand():
    rng = np.random.default_rng(0)
    state = sample_scene(rng, "train", "expression", 1)
    state.objects.clear()
    (person,) = state.people
    for drop, raised in ((-0.35, True), (0.3, False)):
        wrist = person.to_camera(np.array([0.3, drop, -0.2]))
        people.reach(person, "left", wrist)
        _, annotation = render(state, np.random.default_rng(0))
        joints = annotation.people[0].joints_px
        x, y, z = wrist
        assert joints["left_wrist"] == pytest.approx((320 + 520 * x / z, 240 + 520 * y / z))
        assert (joints["left_wrist"][1] < joints["left_shoulder"][1]) == raised
        assert joints["head"][1] < min(joints["left_shoulder"][1], joints["right_shoulder"][1])


def test_a_covered_hand_has_a_low_visible_share():
    rng = np.random.default_rng(2)
    state = sample_scene(rng, "train", "expression", 1)
    state.objects.clear()
    (person,) = state.people
    people.reach(person, "left", person.to_camera(np.array([0.35, -0.2, -0.2])))
    hand = 0.8 * person.to_camera(person.arms.wrists["left"])
    _, annotation = render(state, np.random.default_rng(0))
    assert annotation.people[0].hands_visible["left"] > 0.9
    state.objects.append(objects.sample_object(rng, "train", hand, 0.5, name="ball"))
    _, annotation = render(state, np.random.default_rng(0))
    assert annotation.people[0].hands_visible["left"] < 0.3
