"""Staged pairs: two people whose actions, clothes and furniture show their relation.

Distances, positions, ages and colours overlap between the relations, so boxes and colours alone do not reveal them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from sf_ros.core.cues import TASKS
from training.data.scenes.person.state import (
    PersonState,
    angles,
    gesture_arms,
    look_at,
    reach,
    sample_person,
    set_position,
    yaw_to_camera,
)
from training.data.scenes.roles import AGE_ORDER, sample_roles
from training.data.scenes.setting.objects import SceneObject, sample_object
from training.data.scenes.setting.rooms import WOOD_COLORS, Furniture

RELATIONS = tuple(label.removeprefix("relation/") for label in TASKS["relation"].labels)
DOMAIN_OF = {
    "friends": "intimate",
    "family": "intimate",
    "couple": "intimate",
    "professional": "not_intimate",
    "commercial": "not_intimate",
    "none": "none",
}  # fmt: skip


@dataclass
class StagedPair:
    """Two people, the left one in the image first, with their furniture and objects."""

    people: tuple[PersonState, PersonState]
    relation: str
    furniture: list[Furniture] = field(default_factory=list)
    objects: list[SceneObject] = field(default_factory=list)
    occupied_hands: set[tuple[int, str]] = field(default_factory=set)  # (track id, side) of the hands in use


def stage_pair(
    rng: np.random.Generator, split: str, relation: str, ids: tuple[int, int], x: float, z: float, camera_height: float
):
    """A StagedPair of a relation around camera (x, z) metres. Raises KeyError for an unknown relation."""
    stage = {
        "friends": _stage_friends, "family": _stage_family, "couple": _stage_couple,
        "professional": _stage_professional, "commercial": _stage_commercial, "none": _stage_strangers,
    }  # fmt: skip
    left, right = (
        sample_person(rng, split, track_id, age=age, style=style)
        for track_id, (age, style) in zip(ids, sample_roles(rng, relation), strict=True)
    )
    apart, depth_offset = float(rng.uniform(0.44, 0.72)), float(rng.uniform(-0.2, 0.2))
    # Pairs that do not touch stand closer, or one behind the other: boxes then overlap in every relation.
    if relation in ("professional", "commercial"):
        apart *= 0.8
    elif relation == "none":
        apart, depth_offset = float(rng.uniform(0.15, 0.5)), 2 * depth_offset
    for person, side in ((left, -0.5), (right, 0.5)):
        set_position(person, x + side * apart, z + side * depth_offset, camera_height)
        person.yaw = yaw_to_camera(x + side * apart, z)
    _vary_heights(rng, left, right)
    pair = StagedPair((left, right), relation)
    stage[relation](rng, split, pair)
    if not pair.furniture and rng.random() < 0.85 and _point_between(pair, _table_drop(pair), 0)[1] < 0.36 * z:
        # Else only the desks and counters of two relations would hide legs.
        _add_furniture(rng, split, pair, "table")
    _occupy_free_hands(rng, pair)
    return pair


def _vary_heights(rng: np.random.Generator, left: PersonState, right: PersonState) -> None:
    """Raise some children and lower some adults, so that height alone does not reveal age."""
    for person in (left, right):
        step = float(rng.uniform(0.1, 0.35))
        if person.age == "child" and rng.random() < 0.5:
            person.shoulders[1] -= step
        elif person.age != "child" and rng.random() < 0.3:
            person.shoulders[1] = min(person.shoulders[1] + step, 0.24 * person.shoulders[2])


def _occupy_free_hands(rng: np.random.Generator, pair: StagedPair) -> None:
    """Move most free hands to random poses, so that the silhouette does not reveal the relation."""
    poses = (
        (0.22, 0.36, -0.08),
        (0.4, -0.1, -0.05),
        (0.05, 0.2, -0.24),
        (0.36, -0.3, 0.0),
        (-0.12, 0.24, -0.3),
        (0.5, 0.2, -0.1),
    )
    for person, inner in zip(pair.people, ("left", "right"), strict=True):
        for side in ("left", "right"):
            if (person.track_id, side) in pair.occupied_hands or rng.random() < 0.4:
                continue
            outward = 1 if side == "left" else -1
            choice = int(rng.integers(len(poses) - (side == inner)))  # the last pose would touch the other person
            target = np.array(poses[choice]) + rng.normal(0, 0.03, 3)
            reach(person, side, person.to_camera(target * [outward, 1, 1]), bend=(1.0, 0.6, 0.3))


def _turn_inwards(pair: StagedPair, left_deg: float, right_deg: float) -> None:
    """Turn the bodies towards each other by these angles (negative: away)."""
    left, right = pair.people
    left.yaw += np.deg2rad(left_deg)
    right.yaw -= np.deg2rad(right_deg)


def _shoulder_point(
    person: PersonState, side: str, lift: float = 0.03, front: float = 0.1, inward: float = 0.0
) -> np.ndarray:
    """A camera point (3,) on a person's shoulder, `front` metres in front of it and `inward` towards the middle."""
    across = 0.17 - inward
    return person.to_camera(np.array([across if side == "left" else -across, -lift, -front]))


def _occupy_hand(pair: StagedPair, person: PersonState, side: str, target: np.ndarray, **bend) -> None:
    """Reach for a camera point (3,) and mark the hand as occupied."""
    reach(person, side, target, **bend)
    pair.occupied_hands.add((person.track_id, side))


def _look_at(rng: np.random.Generator, person: PersonState, target: np.ndarray, name: str) -> None:
    look_at(person, target, name, float(rng.uniform(0.7, 1.0)), float(rng.normal(0, 0.06)))


def _look_at_each_other(rng: np.random.Generator, pair: StagedPair, mutual: float) -> None:
    """Let each person look at the other with probability `mutual`, else at the camera."""
    for person, other in (pair.people, pair.people[::-1]):
        if rng.random() < mutual:
            _look_at(rng, person, other.head_center, f"person:{other.track_id}")
        else:
            _look_at(rng, person, np.zeros(3), "camera")


def _sample_expressions(rng: np.random.Generator, pair: StagedPair, expression: str, chance: float) -> None:
    """Give each person the expression with probability `chance`, else a neutral one."""
    for person in pair.people:
        person.expression = expression if rng.random() < chance else "neutral"
        person.intensity = float(rng.uniform(0.7, 1.0))


def _point_between(pair: StagedPair, height: float, front: float) -> np.ndarray:
    """The camera point between two people, `height` metres below their shoulders and `front` metres nearer."""
    left, right = (person.shoulders for person in pair.people)
    return np.array([(left[0] + right[0]) / 2, (left[1] + right[1]) / 2 + height, (left[2] + right[2]) / 2 - front])


# --- relations --------------------------------------------------------------------------------------------------------


def _stage_friends(rng: np.random.Generator, split: str, pair: StagedPair) -> None:
    left, right = pair.people
    act = str(rng.choice(("arms_over_shoulders", "high_five", "fist_bump")))
    if act == "arms_over_shoulders":
        _turn_inwards(pair, rng.uniform(0, 15), rng.uniform(0, 15))
        _occupy_hand(
            pair, left, "left", _shoulder_point(right, "left", inward=rng.uniform(0, 0.3)), bend=(0.3, -0.2, 1.0)
        )
        _occupy_hand(
            pair, right, "right", _shoulder_point(left, "right", inward=rng.uniform(0, 0.3)), bend=(0.3, -0.2, 1.0)
        )
    else:
        _turn_inwards(pair, rng.uniform(20, 45), rng.uniform(20, 45))
        meet = _point_between(pair, *((-0.3, 0.12) if act == "high_five" else (0.06, 0.2)))
        meet[1] = max(meet[1], -0.42 * meet[2])
        for person, side, shift in ((left, "left", -1), (right, "right", 1)):
            palm = 0.03 if act == "high_five" else 0.11
            target = meet + [shift * palm, 0.1 if act == "high_five" else 0, 0]
            _set_hand_shape(rng, person, side, "stop" if act == "high_five" else "fist")
            _occupy_hand(pair, person, side, target)
    _sample_expressions(rng, pair, "happiness", 0.75)
    _look_at_each_other(rng, pair, 0.5)


def _stage_family(rng: np.random.Generator, split: str, pair: StagedPair) -> None:
    left, right = pair.people
    _turn_inwards(pair, rng.uniform(-5, 25), rng.uniform(-5, 25))
    older, younger = (left, right) if AGE_ORDER[left.age] > AGE_ORDER[right.age] else (right, left)
    near, far = ("left", "right") if older is left else ("right", "left")
    if younger.age == "child" and rng.random() < 0.6:
        meet = 0.5 * (older.shoulders + younger.shoulders)
        meet[1] = younger.shoulders[1] + 0.15
        meet[2] -= 0.12
        _occupy_hand(pair, older, near, meet)
        _occupy_hand(pair, younger, far, meet + [0, 0.02, 0])
    else:
        _occupy_hand(
            pair, older, near, _shoulder_point(younger, near if rng.random() < 0.5 else far), bend=(1.0, 0.2, 0.4)
        )
        if younger.age == "adult":
            _occupy_hand(pair, younger, far, _shoulder_point(older, near, lift=-0.2, front=0.14))
    _sample_expressions(rng, pair, "happiness", 0.5)
    _look_at_each_other(rng, pair, 0.5)


def _stage_couple(rng: np.random.Generator, split: str, pair: StagedPair) -> None:
    left, right = pair.people
    act = str(rng.choice(("hug", "hands", "heart")))
    right.shoulders[0] = left.shoulders[0] + max(0.44, 0.9 * (right.shoulders[0] - left.shoulders[0]))
    _turn_inwards(pair, rng.uniform(15, 40), rng.uniform(15, 40))
    close = 0.5 * max(0.0, right.shoulders[0] - left.shoulders[0] - 0.3)
    for person, side in ((left, 1), (right, -1)):
        shift = person.body_rotation.T @ np.array([side * min(close, 0.13), 0.02, 0])
        person.lean = shift / person.scale
    if act == "hug":
        _occupy_hand(pair, left, "right", right.to_camera(np.array([-0.05, 0.2, -0.16])), bend=(0.6, 1.0, 0))
        _occupy_hand(pair, right, "right", _shoulder_point(left, "left"), bend=(1.0, 0.2, 0))
    else:
        meet = _point_between(pair, 0.27, 0.2)
        _occupy_hand(pair, left, "left", meet + [-0.02, 0, 0])
        _occupy_hand(pair, right, "right", meet + [0.02, 0, -0.01])
        if act == "heart":
            _occupy_hand(pair, left, "right", meet + [-0.06, 0.02, -0.05])
            _occupy_hand(pair, right, "left", meet + [0.06, 0.02, -0.05])
    if act == "heart" or rng.random() < 0.4:
        top = min(left.head_center[1], right.head_center[1]) - 0.22
        position = _point_between(pair, 0, 0.1)
        position[1] = max(top, -0.4 * position[2])
        pair.objects.append(sample_object(rng, split, position, 0.17, "none", "heart"))
    _sample_expressions(rng, pair, "happiness", 0.6)
    _look_at_each_other(rng, pair, 0.75)
    for person, side in ((left, 1), (right, -1)):  # heads lean together
        roll = np.deg2rad(side * rng.uniform(8, 16))
        turn = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
        person.head_rotation = turn @ person.head_rotation


def _table_drop(pair: StagedPair) -> float:
    """Height of a table top below the middle of both shoulders, metres: at the hip of the lower person."""
    left, right = (person.shoulders[1] for person in pair.people)
    return 0.42 + abs(left - right) / 2


def _add_furniture(
    rng: np.random.Generator, split: str, pair: StagedPair, kind: str, shift: float | None = None
) -> Furniture:
    """Add a table, desk or counter in front of a pair, from hip height to the floor, `shift` metres aside."""
    center = _point_between(pair, _table_drop(pair), 0.36)
    center[0] += float(rng.uniform(-0.3, 0.3)) if shift is None else shift
    center[1] = float(np.clip(center[1], 0.12, 0.34 * (center[2] - 0.2)))
    wood = WOOD_COLORS[split][int(rng.integers(len(WOOD_COLORS[split])))]
    size = (float(rng.uniform(0.6, 1.2)), 1.0, 0.4)
    piece = Furniture(kind, (float(center[0]), float(center[1] + 0.5), float(center[2])), size, wood)
    pair.furniture.append(piece)
    return piece


def _stage_professional(rng: np.random.Generator, split: str, pair: StagedPair) -> None:
    left, right = pair.people
    if rng.random() < 0.45:
        _turn_inwards(pair, rng.uniform(30, 55), rng.uniform(30, 55))
        meet = _point_between(pair, 0.24, 0.14)
        _occupy_hand(pair, left, "right", meet + [-0.07, 0, -0.02])
        _occupy_hand(pair, right, "right", meet + [0.07, 0, 0])
        _look_at_each_other(rng, pair, 0.8)
    else:
        _turn_inwards(pair, rng.uniform(5, 30), rng.uniform(5, 30))
        desk = _add_furniture(rng, split, pair, "desk")
        laptop_point = np.array(
            [0.7 * desk.center[0] + 0.3 * _point_between(pair, 0, 0)[0], desk.top - 0.1, desk.center[2] - 0.08]
        )
        laptop = sample_object(rng, split, laptop_point, 0.24, "none", "laptop")
        pair.objects.append(laptop)
        pointing = left if rng.random() < 0.5 else right
        side = "left" if pointing is left else "right"
        _occupy_hand(pair, pointing, side, laptop_point + [-0.14 if pointing is left else 0.14, -0.08, 0.05])
        for person in pair.people:
            if rng.random() < 0.5:
                _look_at(rng, person, np.array(laptop.center), "object:laptop")
            else:
                other = right if person is left else left
                _look_at(rng, person, other.head_center, f"person:{other.track_id}")
    _sample_expressions(rng, pair, "happiness", 0.3)


def _stage_commercial(rng: np.random.Generator, split: str, pair: StagedPair) -> None:
    left, right = pair.people
    _turn_inwards(pair, rng.uniform(25, 50), rng.uniform(25, 50))
    seller = left if left.dress.style == "service" else right
    toward = 1 if seller is left else -1
    counter = _add_furniture(rng, split, pair, "counter", -toward * float(rng.uniform(0.05, 0.3)))
    till = np.array([counter.center[0] - toward * 0.12, counter.top - 0.1, counter.center[2] - 0.06])
    pair.objects.append(sample_object(rng, split, till, 0.22, "none", "till"))
    goods = _point_between(pair, 0.12, 0.3)
    goods[0] += float(rng.uniform(-0.2, 0.2))
    goods[1] = min(goods[1], counter.top - 0.03)
    bag = sample_object(rng, split, goods, 0.2, "none", "bag")
    pair.objects.append(bag)
    for person, side, shift in ((left, "left", -0.06), (right, "right", 0.06)):
        if person is seller or rng.random() < 0.7:
            _occupy_hand(pair, person, side, goods + [shift, -0.05, 0.02])
    for person, other in (pair.people, pair.people[::-1]):
        if rng.random() < 0.4:
            _look_at(rng, person, np.array(bag.center), "object:bag")
        else:
            _look_at(rng, person, other.head_center, f"person:{other.track_id}")
    _sample_expressions(rng, pair, "happiness", 0.35)


def _stage_strangers(rng: np.random.Generator, split: str, pair: StagedPair) -> None:
    """People turned away from each other who look elsewhere."""
    _turn_inwards(pair, -rng.uniform(15, 60), -rng.uniform(15, 60))
    for person, side in zip(pair.people, (-1, 1), strict=True):
        yaw, pitch = angles(person.to_lens)
        yaw += side * np.deg2rad(rng.uniform(15, 75))
        pitch += np.deg2rad(rng.uniform(-15, 25))
        direction = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), -np.cos(yaw) * np.cos(pitch)])
        _look_at(rng, person, person.head_center + 1.5 * direction, "none")
        person.expression = str(rng.choice(("neutral", "happiness", "sadness", "anger"), p=(0.5, 0.2, 0.15, 0.15)))
        person.intensity = float(rng.uniform(0.6, 1.0))


def _set_hand_shape(rng: np.random.Generator, person: PersonState, side: str, gesture: str) -> None:
    """Give one hand the shape of a gesture; the wrist stays."""
    shaped = next(hand for hand in gesture_arms(gesture, rng, person.scale, side).hands if hand.side == side)
    placed = replace(shaped, joints=shaped.joints - shaped.joints[0] + person.arms.wrists[side])
    hands = tuple(placed if hand.side == side else hand for hand in person.arms.hands)
    person.arms = replace(person.arms, hands=hands)
