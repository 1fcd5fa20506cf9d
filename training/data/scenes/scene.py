"""The 3-D state of a scene and its sampling: room, people, their gaze, gestures, expressions and relations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from training.data.scenes.gaze_targets import look_at_or_past_camera, look_away_from_camera
from training.data.scenes.painter import Camera
from training.data.scenes.pairs import DOMAIN_OF, RELATIONS, StagedPair, stage_pair
from training.data.scenes.person.arms import BODY_MOUTH, GESTURES, TWO_HANDED, Arms
from training.data.scenes.person.head import EXPRESSIONS
from training.data.scenes.person.state import PersonState, gesture_arms, sample_person, set_position, yaw_to_camera
from training.data.scenes.sensor import Sensor, sample_sensor
from training.data.scenes.setting.clutter import Clutter
from training.data.scenes.setting.objects import SceneObject
from training.data.scenes.setting.rooms import Room, sample_room

FOCUSES = ("any", "gesture", "gaze", "expression", "looking_at_me", "relation")
RAISED_LIMIT_M = 0.42  # below the shoulders, body frame at scale 1; hands above this height belong to a gesture
HEAD_MOUTH = np.array([0.0, 0.062, -0.095])  # head frame at head scale 1
# Distance in metres by focus; the n-th value is for n people.
_DEPTHS = {
    "gesture": (1.15, 1.45, 1.8),
    "expression": (0.95, 1.2, 1.5),
    "looking_at_me": (0.95, 1.2, 1.5),
    "gaze": (1.1, 1.25, 1.5, 1.9),
}
_COUNTS = {
    "gesture": (0.35, 0.5, 0.15), "expression": (0.4, 0.35, 0.25), "looking_at_me": (0.4, 0.35, 0.25),
    "gaze": (0.25, 0.4, 0.25, 0.1), "relation": (0, 0.9, 0.07, 0.03), "any": (0.2, 0.4, 0.25, 0.15),
}  # fmt: skip
# Probabilities by focus.
_PAIR_RATE = {"relation": 1.0, "any": 0.6, "gesture": 0.65}  # of a staged pair in scenes of two or more people
_LOOK_AWAY_RATE = {"gaze": 0.97, "gesture": 0.5, "relation": 0.65, "any": 0.65}  # of people outside of staged pairs
_ADD_TARGET_RATE = {"gaze": 0.5, "any": 0.5}  # of one more object as a gaze target for a person who looks away


@dataclass
class SceneState:
    """Everything that rendering and labels need. `pairs` maps people indices (i, j), i < j, to (domain, relation)."""

    camera: Camera
    room: Room
    people: list[PersonState]
    objects: list[SceneObject] = field(default_factory=list)
    pairs: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)
    # (track id, side) of hands that hold or touch something
    occupied_hands: set[tuple[int, str]] = field(default_factory=set)
    sensor: Sensor = field(default_factory=Sensor)

    def free_hands(self, person: PersonState) -> list[str]:
        """The sides, 'left' and 'right', whose hands hold and touch nothing."""
        return [side for side in ("left", "right") if (person.track_id, side) not in self.occupied_hands]


def sample_scene(rng: np.random.Generator, split: str, focus: str = "any", count: int | None = None) -> SceneState:
    """A random scene of a split ('train', 'val', 'test').

    Every scene has all labels; `focus` makes one of them uniform over its classes and easy to read. `count` is the
    number of people, 1 to 4 (None: random). Raises ValueError for an unknown focus.
    """
    if focus not in FOCUSES:
        raise ValueError(f"unknown focus {focus!r}: expected one of {', '.join(FOCUSES)}")
    state = SceneState(Camera(), sample_room(rng, split), [], sensor=sample_sensor(rng))
    count = count or 1 + int(rng.choice(len(_COUNTS[focus]), p=_COUNTS[focus]))
    staged: list[StagedPair] = []
    if count > 1 and rng.random() < _PAIR_RATE.get(focus, 0.0):
        staged = _stage_pairs(rng, split, state, count)
    singles = _place_singles(rng, split, state, focus, count - len(state.people), staged)
    _label_pairs(state, staged)
    state.occupied_hands = set().union(*(pair.occupied_hands for pair in staged))
    for person in singles:
        _sample_expression(rng, person, uniform=focus == "expression")
    clutter = _scatter_objects(rng, split, state, focus)
    for person in singles:
        _sample_gaze(rng, state, person, focus, clutter)
    for person in state.people:
        _sample_gesture(rng, state, person, focus)
    return state


def gesture_with_free_hands(
    rng: np.random.Generator, camera: Camera, person: PersonState, free: Sequence[str], names: Sequence[str] = GESTURES
) -> None:
    """Pose a person's free hands, one or two, in a random gesture of `names`; an occupied hand keeps its pose."""
    if len(free) == 2:
        pose_gesture(rng, camera, person, str(rng.choice(names)), str(rng.choice(free)))
        return
    (side,), previous_arms = free, person.arms
    pose_gesture(rng, camera, person, str(rng.choice([name for name in names if name not in TWO_HANDED])), side)
    person.arms = _replace_side(previous_arms, person.arms, side)


def pose_gesture(
    rng: np.random.Generator, camera: Camera, person: PersonState, gesture: str, side: str | None = None
) -> None:
    """Pose a person's arms in a gesture: the best of up to 12 poses with the hands in view and off the face."""
    best, best_error_px = person.arms, np.inf
    head = camera.project(person.head_center[None])[0]
    face_px = 0.11 * person.head_scale * camera.focal_px / person.head_center[2]
    for _ in range(12):
        arms = gesture_arms(gesture, rng, person.scale, side)
        if gesture == "mute":
            arms = _finger_on_lips(person, arms)
        raised = [hand.joints for hand in arms.hands if hand.joints[:, 1].min() < RAISED_LIMIT_M]
        if not raised:
            best = arms
            break
        pixels = camera.project(person.to_camera(np.concatenate(raised)))
        lowest = min(camera.height - 6.0, _upper_body_bottom(camera, person, arms))
        error_px = float(np.maximum(np.maximum(6 - pixels, pixels - [camera.width - 6, lowest]), 0).max())
        if gesture != "mute":
            error_px += float(np.maximum(face_px - np.hypot(*(pixels - head).T), 0).max())
        if error_px < best_error_px:
            best, best_error_px = arms, error_px
        if error_px == 0:
            break
    person.arms, person.gesture = best, gesture


def _upper_body_bottom(camera: Camera, person: PersonState, arms: Arms) -> float:
    """The lowest pixel row of a square view of head and upper body that is as wide as the arms reach."""
    joints = np.concatenate([hand.joints for hand in arms.hands] + [np.stack(list(arms.elbows.values()))])
    pixels = camera.project(person.to_camera(joints))
    crown = person.head_center - [0, 0.14 * person.head_scale, 0]
    feet = person.shoulders + [0, 1.38 * person.scale, 0]
    top, bottom = camera.project(np.stack([crown, feet]))[:, 1]
    return top + max(float(np.ptp(pixels[:, 0])), 0.55 * (min(bottom, camera.height) - top))


def _finger_on_lips(person: PersonState, arms: Arms) -> Arms:
    """The arms of a 'mute' moved to the mouth of the posed head."""
    mouth = person.head_center + person.head_rotation @ HEAD_MOUTH * person.head_scale
    shift = person.to_body(mouth) - BODY_MOUTH
    hands = tuple(
        replace(hand, joints=hand.joints + shift) if hand.joints[:, 1].min() < RAISED_LIMIT_M else hand
        for hand in arms.hands
    )
    return Arms(hands, arms.elbows, {hand.side: hand.joints[0] for hand in hands})


def _replace_side(base: Arms, gesture: Arms, side: str) -> Arms:
    """The base arms with one side replaced by that of a gesture."""
    hands = tuple(
        next(h for h in (gesture if hand.side == side else base).hands if h.side == hand.side) for hand in base.hands
    )
    return Arms(hands, base.elbows | {side: gesture.elbows[side]}, base.wrists | {side: gesture.wrists[side]})


def _stage_pairs(rng: np.random.Generator, split: str, state: SceneState, count: int) -> list[StagedPair]:
    """Stage one pair, or sometimes two of four people; adds their people, objects and furniture to the state."""
    two_pairs = count == 4 and rng.random() < 0.5
    if two_pairs:
        positions = [(175 + rng.normal(0, 15), rng.uniform(2.0, 2.4)), (465 + rng.normal(0, 15), rng.uniform(2.0, 2.4))]
    elif count > 2:
        positions = [(float(rng.choice([215, 425])) + rng.normal(0, 12), rng.uniform(1.7, 2.2))]
    else:
        positions = [(320 + rng.normal(0, 45), rng.uniform(1.45, 2.3))]
    staged = []
    for number, (x_px, z) in enumerate(positions):
        x = float((x_px - state.camera.center_px[0]) / state.camera.focal_px * z)
        ids = (2 * number + 1, 2 * number + 2)
        pair = stage_pair(rng, split, str(rng.choice(RELATIONS)), ids, x, float(z), state.room.camera_height)
        state.people += pair.people
        state.objects += pair.objects
        state.room = replace(state.room, furniture=state.room.furniture + tuple(pair.furniture))
        staged.append(pair)
    return staged


def _place_singles(
    rng, split: str, state: SceneState, focus: str, count: int, staged: list[StagedPair]
) -> list[PersonState]:
    """Add people outside of pairs, in the image columns that no pair occupies."""
    if count == 0:
        return []
    if staged:
        side = 1 if state.people[0].shoulders[0] + state.people[1].shoulders[0] < 0 else -1
        low, high = (390.0, 630.0) if side > 0 else (10.0, 250.0)
        nearest = 1.5 + 0.35 * count
    else:
        low, high = (30.0, 610.0) if count > 1 else (200.0, 440.0)
        depths = _DEPTHS.get(focus, (1.3, 1.5, 1.9, 2.2))
        nearest = depths[min(count, len(depths)) - 1]
    width, singles = (high - low) / count, []
    for slot in range(count):
        person = sample_person(rng, split, len(state.people) + 1)
        z = nearest + float(rng.uniform(0, 0.6 if focus != "gaze" else 0.3))
        x_px = low + (slot + 0.5 + float(rng.uniform(-0.18, 0.18))) * width
        x = (x_px - state.camera.center_px[0]) / state.camera.focal_px * z
        person.sitting = bool(rng.random() < 0.12)
        set_position(person, float(x), z, state.room.camera_height)
        spread = 20 if focus == "expression" else 35
        person.yaw = yaw_to_camera(float(x), z) + float(np.deg2rad(rng.uniform(-spread, spread)))
        state.people.append(person)
        singles.append(person)
    return singles


def _label_pairs(state: SceneState, staged: list[StagedPair]) -> None:
    """Label staged pairs with their relation and all other pairs as strangers."""
    number = {person.track_id: index for index, person in enumerate(state.people)}
    for i in range(len(state.people)):
        for j in range(i + 1, len(state.people)):
            state.pairs[i, j] = ("none", "none")
    for pair in staged:
        i, j = sorted(number[person.track_id] for person in pair.people)
        state.pairs[i, j] = (DOMAIN_OF[pair.relation], pair.relation)


def _sample_expression(rng: np.random.Generator, person: PersonState, *, uniform: bool) -> None:
    """Draw an expression: `uniform` over all eight, else neutral in 30 % of cases."""
    neutral = 1 / len(EXPRESSIONS) if uniform else 0.3
    others = (1 - neutral) / (len(EXPRESSIONS) - 1)
    person.expression = str(rng.choice(EXPRESSIONS, p=[neutral] + [others] * (len(EXPRESSIONS) - 1)))
    person.intensity = float(rng.uniform(0.75, 1.0))


def _scatter_objects(rng: np.random.Generator, split: str, state: SceneState, focus: str) -> Clutter:
    """Add objects to the scene; returns the layout, for further ones."""
    outdoors = state.room.kind in ("garden", "beach")
    clutter = Clutter(state.camera, split, state.people, outdoors, clear_bodies=focus != "gaze")
    for item in state.objects:
        clutter.reserve(item)
    count = int(rng.integers(3, 8)) if focus in ("gaze", "any") else int(rng.integers(1, 4))
    state.objects += clutter.scatter(rng, count, behind=0.25 if focus == "gaze" else 0.5, props=0.12)
    return clutter


def _sample_gaze(
    rng: np.random.Generator, state: SceneState, person: PersonState, focus: str, clutter: Clutter
) -> None:
    """Draw what a person looks at."""
    if focus == "looking_at_me":
        look_at_or_past_camera(rng, person, camera=bool(rng.random() < 0.5), far=True)
        return
    if focus == "expression":  # keeps the face towards the camera
        look_at_or_past_camera(rng, person, camera=bool(rng.random() < 0.6), far=False)
        return
    if rng.random() < _LOOK_AWAY_RATE[focus]:  # looking away turns the body and the hands, too
        if rng.random() < _ADD_TARGET_RATE.get(focus, 0.0):
            _add_target(rng, state, person, clutter)
        if look_away_from_camera(rng, state.camera, person, state.people, state.objects, in_frame=focus == "gaze"):
            return
        if (
            focus == "gaze"
            and _add_target(rng, state, person, clutter)
            and look_away_from_camera(rng, state.camera, person, state.people, state.objects, in_frame=True)
        ):
            return
    look_at_or_past_camera(rng, person, camera=focus == "gaze" or bool(rng.random() < 0.75), far=True)


def _add_target(rng: np.random.Generator, state: SceneState, person: PersonState, clutter: Clutter) -> bool:
    """Add one more object as a gaze target for this person; returns whether a position was found."""
    item = clutter.gaze_target_for(rng, person, state.objects)
    state.objects += [item] if item is not None else []
    return item is not None


def _sample_gesture(rng: np.random.Generator, state: SceneState, person: PersonState, focus: str) -> None:
    """Draw a gesture for the free hands, or none."""
    free = state.free_hands(person)
    if not free or focus == "relation":
        return
    gesture_rate = {"gesture": 1.0, "any": 0.6}.get(focus, 0.25)
    if rng.random() < gesture_rate:
        gesture_with_free_hands(rng, state.camera, person, free)
