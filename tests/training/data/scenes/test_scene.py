"""Sampled scenes: labels are consistent, and nothing but the intended evidence reveals them."""

from __future__ import annotations

import numpy as np
import pytest

from training.data.scenes.gaze_targets import is_unambiguous_target
from training.data.scenes.pairs import DOMAIN_OF, RELATIONS
from training.data.scenes.person import state as people
from training.data.scenes.person.arms import TWO_HANDED
from training.data.scenes.person.state import angles, unit, wrap
from training.data.scenes.scene import gesture_with_free_hands, sample_scene
from training.data.scenes.setting import objects, rooms


def test_an_unknown_focus_is_refused():
    with pytest.raises(ValueError, match="unknown focus 'gazes'"):
        sample_scene(np.random.default_rng(0), "train", "gazes")


def test_the_relation_of_a_pair_implies_its_domain(scenes):
    for state, _, annotation in scenes:
        count = len(state.people)
        assert len(state.pairs) == count * (count - 1) // 2
        for _, _, domain, relation in annotation.relations:
            assert DOMAIN_OF[relation] == domain


def test_eyes_turn_less_than_45_degrees_sideways(scenes):
    for state, _, _ in scenes:
        for person in state.people:
            yaw, _ = np.rad2deg(angles(person.head_rotation.T @ person.gaze_direction))
            assert abs(yaw) < 45


@pytest.mark.parametrize(
    "pools",
    [
        objects.OBJECT_KINDS, objects.OBJECT_COLORS, people.CASUAL, people.CLOTH_COLORS, rooms.WALL_PATTERNS,
        rooms.ROOM_KINDS, rooms.WALL_COLORS, rooms.FLOOR_COLORS, rooms.WOOD_COLORS,
    ],
)  # fmt: skip
def test_assets_of_the_test_split_never_occur_in_training(pools):
    assert not set(pools["train"]) & set(pools["test"])
    assert pools["train"] == pools["val"]


def test_head_pose_does_not_reveal_looking_at_me():
    """Two-sample Kolmogorov-Smirnov distance of head turns, yes against no, below its 0.1 % bound."""
    turns: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for seed in range(220):
        for person in sample_scene(np.random.default_rng([9, seed]), "train", "looking_at_me").people:
            heading = angles(person.head_rotation @ [0, 0, -1.0])
            turns[person.gaze_target == "camera"].append(wrap(heading - angles(person.to_lens)))
    yes, no = np.array(turns[True]), np.array(turns[False])
    assert min(len(yes), len(no)) > 120
    bound = 1.95 * np.sqrt((len(yes) + len(no)) / (len(yes) * len(no)))
    for axis in (0, 1):
        for sign in (1, 0):  # the turn itself, and its size
            a, b = (np.sort(t[:, axis] if sign else abs(t[:, axis])) for t in (yes, no))
            grid = np.concatenate([a, b])
            below_a, below_b = (np.searchsorted(t, grid, "right") / len(t) for t in (a, b))
            assert np.abs(below_a - below_b).max() < bound
    far = np.abs(yes[:, 0]) > np.deg2rad(10)
    assert 0.3 < far.mean() < 0.7  # half of the people who look at the camera have turned heads


def test_gaze_targets_are_unambiguous():
    looked = 0
    for seed in range(40):
        state = sample_scene(np.random.default_rng([6, seed]), "test", "gaze")
        for person in state.people:
            if person.gaze_target.startswith(("person:", "object:")):
                heads = [other.head_center for other in state.people if other is not person]
                things = np.array([*heads, *(item.center for item in state.objects)])
                others = things[np.linalg.norm(things - person.gaze_point, axis=1) > 1e-9]
                assert len(others) == len(things) - 1
                assert is_unambiguous_target(state.camera, person, person.gaze_point, others)
                looked += 1
    assert looked > 40


def test_one_free_hand_gestures_and_the_other_stays():
    gestured = 0
    for seed in range(120):
        state = sample_scene(np.random.default_rng([8, seed]), "train", "any", count=2)
        for person in state.people:
            free = state.free_hands(person)
            if len(free) == 2 or person.gesture == "none":
                continue
            assert len(free) == 1 and person.gesture not in TWO_HANDED
            before = person.arms
            gesture_with_free_hands(np.random.default_rng(seed), state.camera, person, free)
            for hand, old in zip(person.arms.hands, before.hands, strict=True):
                assert (hand.side in free) != (hand.joints is old.joints)
            gestured += 1
    assert gestured >= 5


def test_gesture_scenes_have_one_handed_and_averted_people():
    one_handed = away = 0
    for seed in range(120):
        state = sample_scene(np.random.default_rng([9, seed]), "train", "gesture")
        one_handed += sum(len(state.free_hands(p)) == 1 and p.gesture != "none" for p in state.people)
        away += sum(p.gaze_target.startswith(("person:", "object:")) and p.gesture != "none" for p in state.people)
    assert one_handed >= 10
    assert away >= 10


def test_distance_and_furniture_do_not_reveal_the_relation():
    """Boxes alone must not show what two people are to each other."""
    apart, hidden = ({relation: [] for relation in RELATIONS} for _ in range(2))
    for seed in range(400):
        state = sample_scene(np.random.default_rng([12, seed]), "train", "relation")
        if len(state.people) == 2:
            ((_, relation),) = state.pairs.values()
            left, right = (person.shoulders[0] for person in state.people)
            apart[relation].append(abs(left - right))
            hidden[relation].append(any(piece.kind in ("table", "desk", "counter") for piece in state.room.furniture))
    mean = {relation: np.mean(values) for relation, values in apart.items()}
    touching = ("friends", "family", "couple")
    assert max(mean[relation] for relation in RELATIONS if relation not in touching) < min(mean[r] for r in touching)
    assert min(np.mean(values) for values in hidden.values()) > 0.4


@pytest.mark.parametrize("focus", ["any", "gaze"])
def test_gaze_targets_are_above_and_below_the_head(focus):
    """Targets before and after the head in raster order must both be common: causal masks treat them differently."""
    below = []
    for seed in range(60):
        state = sample_scene(np.random.default_rng([11, seed]), "train", focus)
        for person in state.people:
            if person.gaze_target != "camera" and person.gaze_point[2] > 0:
                eye, target = state.camera.project(np.stack([person.head_center, person.gaze_point]))
                below.append(target[1] > eye[1])
    assert len(below) > 50 and 0.35 < np.mean(below) < 0.8


def test_a_target_in_line_with_another_is_ambiguous():
    state = sample_scene(np.random.default_rng(1), "train", "gaze", count=1)
    (person,) = state.people
    point = person.head_center + [0.5, 0.0, 0.0]
    beyond, across = person.head_center + [0.9, 0.05, 0.0], person.head_center + [0.0, 0.5, 0.0]
    assert is_unambiguous_target(state.camera, person, point, across[None])
    assert not is_unambiguous_target(state.camera, person, point, np.stack([across, beyond]))


def test_people_of_a_scene_mostly_look_at_different_targets():
    same, pairs = 0, 0
    for seed in range(40):
        state = sample_scene(np.random.default_rng([5, seed]), "val", "gaze")
        points = [p.gaze_point for p in state.people if p.gaze_target != "camera"]
        for i, first in enumerate(points):
            for second in points[i + 1 :]:
                pairs += 1
                same += np.linalg.norm(first - second) < 0.05
    assert pairs > 20 and same < 0.2 * pairs


def test_an_arm_reaches_a_target_within_its_length():
    person = sample_scene(np.random.default_rng(0), "train", "relation", 2).people[0]
    target = person.to_camera(np.array([0.1, 0.2, -0.3]))
    people.reach(person, "left", target)
    elbow, wrist = person.arms.elbows["left"], person.arms.wrists["left"]
    assert person.to_camera(wrist) == pytest.approx(target)
    assert np.linalg.norm(wrist - elbow) == pytest.approx(people.FOREARM_M)
    assert np.linalg.norm(elbow - [people.SHOULDER_M, 0, 0]) == pytest.approx(people.UPPER_ARM_M)


def test_rotation_is_the_inverse_of_angles():
    direction = unit(np.array([0.4, 0.2, -0.7]))
    assert people.rotation(*angles(direction), 0.3) @ [0, 0, -1.0] == pytest.approx(direction)
    assert people.rotation(np.pi / 2, 0, 0) @ [0, 0, -1.0] == pytest.approx([1, 0, 0])  # positive yaw: image right
