"""Scenes: what is said about a picture follows from the state behind it."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from training.data.scenes import clips
from training.data.scenes.clips import interpolate_arms, sample_clip
from training.data.scenes.gaze_targets import is_unambiguous_target
from training.data.scenes.pairs import DOMAIN_OF, DOMAINS, RELATIONS
from training.data.scenes.person import state as people
from training.data.scenes.person.arms import GESTURES, TWO_HANDED
from training.data.scenes.person.head import EXPRESSIONS
from training.data.scenes.person.state import angle_between, angles, unit, wrap
from training.data.scenes.render import render
from training.data.scenes.scene import FOCUSES, gesture_with_free_hands, sample_scene
from training.data.scenes.setting import objects, rooms
from training.data.scenes.text.captions import COMPASS, caption, gaze_words, pair_phrases, person_phrases

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def scenes():
    """(state, image, annotation) of a few scenes of every focus and split."""
    made = []
    for number, focus in enumerate(FOCUSES):
        for seed in range(5):
            rng = np.random.default_rng([number, seed])
            state = sample_scene(rng, SPLITS[seed % 3], focus)
            made.append((state, *render(state, rng)))
    return made


def _draw(seed: int, focus: str, hide: frozenset[str] = frozenset()):
    rng = np.random.default_rng(seed)
    return render(sample_scene(rng, "train", focus), rng, hide=hide)


@pytest.mark.parametrize("focus", ["any", "relation"])
def test_same_seed_draws_the_same_picture(focus):
    (first, said), (second, said_again), (other, _) = _draw(3, focus), _draw(3, focus), _draw(4, focus)
    assert np.array_equal(first, second) and said == said_again
    assert not np.array_equal(first, other)


def test_pictures_are_rgb_of_the_stated_size(scenes):
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
            assert domain in DOMAINS and relation in RELATIONS


def test_an_unknown_focus_is_refused():
    with pytest.raises(ValueError, match="unknown focus 'gazes'"):
        sample_scene(np.random.default_rng(0), "train", "gazes")


def test_every_pair_has_a_relation_that_implies_its_domain(scenes):
    for state, _, annotation in scenes:
        count = len(state.people)
        assert len(state.pairs) == count * (count - 1) // 2
        for _, _, domain, relation in annotation.relations:
            assert DOMAIN_OF[relation] == domain


def test_gaze_point_is_the_target_in_the_picture_and_on_the_ray_of_the_eyes(scenes):
    checked = 0
    for state, _, annotation in scenes:
        places = {f"person:{p.track_id}": p.head_center for p in state.people}
        names = [item.name for item in state.objects]
        places |= {f"object:{i.name}": np.array(i.center) for i in state.objects if names.count(i.name) == 1}
        states = {p.track_id: p for p in state.people}
        for said in annotation.people:
            person = states[said.track_id]
            if said.gaze_point_norm is None:
                continue
            x, y, z = person.gaze_point
            by_hand = ((320 + 520 * x / z) / 640, (240 + 520 * y / z) / 480)
            assert said.gaze_point_norm == pytest.approx(by_hand)
            assert 0 <= by_hand[0] <= 1 and 0 <= by_hand[1] <= 1
            distance = np.linalg.norm(person.gaze_point - person.eye_point)
            assert person.eye_point + distance * person.gaze_direction == pytest.approx(person.gaze_point)
            if said.gaze_target in places:
                assert places[said.gaze_target] == pytest.approx(person.gaze_point)
                checked += 1
    assert checked > 10


def test_looking_at_me_means_that_the_target_is_the_camera(scenes):
    answers = set()
    for state, _, annotation in scenes:
        states = {p.track_id: p for p in state.people}
        for said in annotation.people:
            person = states[said.track_id]
            off = angle_between(person.gaze_direction, -person.eye_point)
            assert said.looking_at_me == (said.gaze_target == "camera") == (off < 1e-6)
            assert said.looking_at_me or off > np.deg2rad(10)
            answers.add(said.looking_at_me)
    assert answers == {True, False}


def test_eyes_stay_within_what_drawn_eyes_can_show(scenes):
    for state, _, _ in scenes:
        for person in state.people:
            yaw, _ = np.rad2deg(angles(person.head_rotation.T @ person.gaze_direction))
            assert abs(yaw) < 45


def test_boxes_lie_in_the_picture_and_faces_in_bodies(scenes):
    for _, _, annotation in scenes:
        for person in annotation.people:
            boxes = [person.body, person.face, person.eyes_box, person.mouth_box, *person.hand_boxes]
            for x1, y1, x2, y2 in (box for box in boxes if box is not None):
                assert 0 <= x1 < x2 <= annotation.width and 0 <= y1 < y2 <= annotation.height
            if person.face is not None and person.visibility > 0.9:
                (x1, y1, x2, y2), body = person.face, person.body
                assert body[0] - 5 <= x1 and x2 <= body[2] + 5 and body[1] - 5 <= y1 and y2 <= body[3] + 5
            assert 0 < person.visibility <= 1


def test_a_person_alone_in_view_is_fully_visible():
    rng = np.random.default_rng(2)
    state = sample_scene(rng, "train", "expression", 1)
    state.objects.clear()
    _, annotation = render(state, rng)
    assert annotation.people[0].visibility == pytest.approx(1.0, abs=0.02)


def test_what_stands_in_front_lowers_visibility():
    rng = np.random.default_rng(2)
    state = sample_scene(rng, "train", "expression", 1)
    state.objects.clear()
    head = state.people[0].head_center * 0.8
    state.objects.append(objects.sample_object(rng, "train", head, 0.5, name="ball"))
    _, annotation = render(state, rng)
    assert annotation.people[0].face is None and annotation.people[0].visibility < 0.9


@pytest.mark.parametrize(
    "pools",
    [
        objects.OBJECT_KINDS, objects.OBJECT_COLORS, people.CASUAL, people.CLOTH_COLORS, rooms.WALL_PATTERNS,
        rooms.ROOM_KINDS, rooms.WALL_COLORS, rooms.FLOOR_COLORS, rooms.WOOD_COLORS,
    ],
)  # fmt: skip
def test_test_assets_never_occur_in_training(pools):
    assert not set(pools["train"]) & set(pools["test"])
    assert pools["train"] == pools["val"]


def test_heads_tell_nothing_about_looking_at_me():
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
    assert 0.3 < far.mean() < 0.7  # half of those who look at the camera have turned heads


def test_nothing_else_is_in_line_with_what_somebody_looks_at():
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


def test_whoever_has_one_hand_free_gestures_with_it_and_keeps_the_other_where_it_is():
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


def test_gestures_are_learned_from_pairs_with_a_hand_free_and_from_people_who_look_away_too():
    one_handed = away = 0
    for seed in range(120):
        state = sample_scene(np.random.default_rng([9, seed]), "train", "gesture")
        one_handed += sum(len(state.free_hands(p)) == 1 and p.gesture != "none" for p in state.people)
        away += sum(p.gaze_target.startswith(("person:", "object:")) and p.gesture != "none" for p in state.people)
    assert one_handed >= 10
    assert away >= 10


def test_who_does_not_reach_over_stands_no_farther_apart_and_as_often_behind_something():
    """Else the boxes of two people told what they are to each other."""
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
def test_people_look_down_at_things_as_well_as_up_and_across(focus):
    """A head's row tells a causal mask apart what comes before and after it: both must be common in every clip too."""
    below = []
    for seed in range(60):
        state = sample_scene(np.random.default_rng([11, seed]), "train", focus)
        for person in state.people:
            if person.gaze_target != "camera" and person.gaze_point[2] > 0:
                eye, target = state.camera.project(np.stack([person.head_center, person.gaze_point]))
                below.append(target[1] > eye[1])
    assert len(below) > 50 and 0.35 < np.mean(below) < 0.8


def test_what_is_in_line_does_not_stand_alone():
    state = sample_scene(np.random.default_rng(1), "train", "gaze", count=1)
    (person,) = state.people
    point = person.head_center + [0.5, 0.0, 0.0]
    beyond, across = person.head_center + [0.9, 0.05, 0.0], person.head_center + [0.0, 0.5, 0.0]
    assert is_unambiguous_target(state.camera, person, point, across[None])
    assert not is_unambiguous_target(state.camera, person, point, np.stack([across, beyond]))


def test_gazes_to_be_located_mostly_differ_within_a_picture():
    same, pairs = 0, 0
    for seed in range(40):
        state = sample_scene(np.random.default_rng([5, seed]), "val", "gaze")
        points = [p.gaze_point for p in state.people if p.gaze_target != "camera"]
        for i, first in enumerate(points):
            for second in points[i + 1 :]:
                pairs += 1
                same += np.linalg.norm(first - second) < 0.05
    assert pairs > 20 and same < 0.2 * pairs


@pytest.mark.parametrize("part", ["eyes", "mouth", "hands"])
def test_hiding_a_part_changes_the_picture_and_no_label(part):
    (image, said), (bare, said_bare) = _draw(11, "gesture"), _draw(11, "gesture", frozenset({part}))
    assert not np.array_equal(image, bare)
    for person, same in zip(said.people, said_bare.people, strict=True):
        for name in ("track_id", "expression", "gesture", "gaze_target", "gaze_point_norm", "looking_at_me"):
            assert getattr(person, name) == getattr(same, name)
    assert said.relations == said_bare.relations


def test_hidden_hands_hang_the_same_whatever_the_gesture():
    pictures = []
    for gesture in ("palm", "xsign"):
        rng = np.random.default_rng(1)
        state = sample_scene(rng, "train", "expression", 1)
        person = state.people[0]
        person.arms, person.gesture = people.gesture_arms(gesture, rng, person.scale), gesture
        pictures.append(render(state, np.random.default_rng(0), hide=frozenset({"hands"}))[0])
    assert np.array_equal(*pictures)


def test_two_bones_reach_a_target_within_arms_length():
    person = sample_scene(np.random.default_rng(0), "train", "relation", 2).people[0]
    target = person.to_camera(np.array([0.1, 0.2, -0.3]))
    people.reach(person, "left", target)
    elbow, wrist = person.arms.elbows["left"], person.arms.wrists["left"]
    assert person.to_camera(wrist) == pytest.approx(target)
    assert np.linalg.norm(wrist - elbow) == pytest.approx(people.FOREARM_M)
    assert np.linalg.norm(elbow - [people.SHOULDER_M, 0, 0]) == pytest.approx(people.UPPER_ARM_M)


def test_rotation_turns_the_face_to_where_its_angles_say():
    direction = unit(np.array([0.4, 0.2, -0.7]))
    assert people.rotation(*angles(direction), 0.3) @ [0, 0, -1.0] == pytest.approx(direction)
    assert people.rotation(np.pi / 2, 0, 0) @ [0, 0, -1.0] == pytest.approx([1, 0, 0])  # positive yaw: image right


def test_phrases_come_from_a_closed_vocabulary(scenes):
    gazes = {f"{far} {way}" for far in ("far", "slightly") for way in COMPASS} | {"at the camera"}
    for _, _, annotation in scenes:
        assert caption(annotation).count(" is ") >= len(annotation.people)
        for person in annotation.people:
            assert gaze_words(person) in gazes
            said = person_phrases(person)
            assert ("expression" in said) == (person.face is not None)
            assert ("place" in said) == (person.gaze_point_norm is not None)
    assert pair_phrases("intimate", "couple")["relation"] == "a couple"


def test_a_gaze_to_the_image_right_is_called_right():
    rng = np.random.default_rng(0)
    state = sample_scene(rng, "train", "expression", 1)
    person = state.people[0]
    person.gaze_target, person.gaze_point = "none", person.eye_point + [1.0, 0.0, -1.0]
    person.shoulders = person.shoulders * [0, 1, 1]
    _, annotation = render(state, rng)
    assert gaze_words(annotation.people[0]).endswith("right")


def test_clips_keep_people_and_relations_and_repeat_exactly():
    frames = list(sample_clip(5, "train", seconds=1.2, fps=5, people=3))
    assert len(frames) == 6
    relations = frames[0][1].relations
    for image, annotation in frames:
        assert [person.track_id for person in annotation.people] == [1, 2, 3]
        assert annotation.relations == relations
        assert image.shape == (480, 640, 3)
    again = next(sample_clip(5, "train", seconds=1.2, fps=5, people=3))
    assert np.array_equal(again[0], frames[0][0])


def test_hands_that_touch_somebody_go_on_doing_so_in_clips(monkeypatch):
    """They show the relation, which the truth goes on to state."""
    staged = {}  # joints of a busy hand as it was sampled -> the gesture that its person made then

    def sampled(*arguments):
        state = sample_scene(*arguments)
        for person in state.people:
            for hand in person.arms.hands:
                if (person.track_id, hand.side) in state.occupied_hands:
                    staged[hand.joints.tobytes()] = person.gesture
        return state

    monkeypatch.setattr(clips, "sample_scene", sampled)
    monkeypatch.setattr(clips, "render", lambda state, rng: (state, None))
    monkeypatch.setattr(clips, "_suitability", lambda state, related: float(bool(state.occupied_hands)))
    kept = []
    for seed in range(1, 7):
        state, _ = next(sample_clip(seed, "train", seconds=0.2, fps=5))
        for person in state.people:
            for hand in person.arms.hands:
                if (person.track_id, hand.side) in state.occupied_hands:
                    kept.append(staged.get(hand.joints.tobytes()))
    assert None not in kept and any(gesture != "none" for gesture in kept)


def test_clips_show_everybody_in_nearly_every_frame():
    seen, faces = [], []
    for _, annotation in sample_clip(2, "test", seconds=8, fps=2, people=3):
        seen.append(len(annotation.people) == 3 and all(p.visibility > 0.5 for p in annotation.people))
        faces += [p.face[3] - p.face[1] for p in annotation.people if p.face is not None]
    assert np.mean(seen) >= 0.9 and len(faces) >= 0.9 * 3 * len(seen)
    assert np.median(faces) >= 45


def test_neighbouring_frames_of_a_clip_differ_little():
    frames = [cv2.GaussianBlur(image, (9, 9), 3).astype(int) for image, _ in sample_clip(3, "val", 1.0, 15, people=2)]
    steps = [np.abs(b - a).mean() for a, b in pairwise(frames)]
    assert max(steps) < 4


def test_fingers_keep_their_length_while_a_gesture_changes():
    rng = np.random.default_rng(0)
    palm, fist = (people.gesture_arms(name, rng, 1.0, "left") for name in ("palm", "dislike"))
    for share in (0.25, 0.5, 0.75):
        mixed = interpolate_arms(palm, fist, share)
        for hand in mixed.hands:
            a, b = (next(h.joints for h in arms.hands if h.side == hand.side) for arms in (palm, fist))
            bone_a, bone, bone_b = (np.linalg.norm(j[6] - j[5]) for j in (a, hand.joints, b))
            assert bone == pytest.approx((1 - share) * bone_a + share * bone_b)
