"""Short clips: people who stay themselves while what they look at, feel and show changes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from training.data.scenes.gaze_targets import stands_alone, visible_target
from training.data.scenes.person.head import EXPRESSIONS
from training.data.scenes.person.arms import GESTURES, Arms, Hand
from training.data.scenes.person.state import PersonState, angles, look_at, rotation, unit, wrap
from training.data.scenes.render import Annotation, render
from training.data.scenes.scene import SceneState, perform_free, sample_scene

HOLD_S = (2.2, 4.0)  # how long a person keeps one expression, gesture or target
CHANGE_S = 0.3  # how long a change takes; labels switch in its middle
BLINK_S = 0.16
MIN_FACE_PX, MIN_VISIBILITY = 48, 0.8
FACE_HEIGHT_M = 0.2  # at head scale 1
# A finger on the lips would have to follow the head.
CLIP_GESTURES = tuple(name for name in GESTURES if name != "mute")


@dataclass(frozen=True)
class Change:
    """From `start_s` on: an expression, a gesture or a target of gaze, until the next change of its kind."""

    start_s: float
    name: str
    value: Any  # expression: intensity; gesture: Arms; gaze: (share, roll)


@dataclass(frozen=True)
class PromptLayout:
    """What one person does in a clip."""

    expressions: tuple[Change, ...]
    gestures: tuple[Change, ...]
    gazes: tuple[Change, ...]
    blinks_s: tuple[float, ...]
    entry: np.ndarray  # (3,) metres from where the person starts to where they stay
    sway: np.ndarray  # (2, 3): amplitudes (m) along x and z, frequencies (Hz), phases, by column


def sample_clip(
    seed: int, split: str, seconds: float = 12.0, fps: float = 15.0, people: int = 3
) -> Iterator[tuple[np.ndarray, Annotation]]:
    """Frames of a clip with their truth: RGB uint8 (H, W, 3) and Annotation; track ids and relations stay.

    The same seed gives the same clip. `people` is 1 to 4.
    """
    rng = np.random.default_rng([seed, 4242])
    base = _sample_base(rng, split, people)
    scripts = [_write_script(rng, base, person, seconds) for person in base.people]
    for number in range(round(seconds * fps)):
        state = _state_at(base, scripts, number / fps)
        yield render(state, np.random.default_rng([seed, number]))


def sample_moment(rng: np.random.Generator, split: str, seconds: float = 12.0) -> SceneState:
    """One scene out of a clip of one to four people: somebody holds another and waves, a gesture is on its way."""
    base = _sample_base(rng, split, int(rng.integers(1, 5)))
    scripts = [_write_script(rng, base, person, seconds) for person in base.people]
    return _state_at(base, scripts, float(rng.uniform(0, seconds)))


def _sample_base(rng: np.random.Generator, split: str, people: int) -> SceneState:
    """The first of many scenes in which all stand in view with large faces, or else the best of them."""
    related = people > 1 and rng.random() < 0.85  # some two are more than strangers to each other
    best, most = None, -1.0
    for _ in range(60):
        state = sample_scene(rng, split, "any", people)
        score = _suitability(state, related)
        if score > most:
            best, most = state, score
        if most >= 1:
            break
    assert best is not None
    names = [item.name for item in best.objects]
    best.objects = [item for i, item in enumerate(best.objects) if item.name not in names[:i]]
    for person in best.people:
        if person.gesture != "none":
            perform_free(rng, best.camera, person, best.free_hands(person), ("none",))
    return best


def _suitability(state: SceneState, related: bool) -> float:
    """1 when a scene has all that a clip wants, less the more it lacks."""
    if any(person.sitting for person in state.people):
        return 0.0
    if related and all(relation == "none" for _, relation in state.pairs.values()):
        return 0.0
    heights = [FACE_HEIGHT_M * p.head_scale * state.camera.focal_px / p.head_center[2] for p in state.people]
    large = min(1.0, min(heights) / MIN_FACE_PX)
    if large < 0.8:
        return 0.5 * large
    _, annotation = render(state, np.random.default_rng(0))
    shown = [p.visibility for p in annotation.people if p.face is not None]
    if len(shown) < len(state.people):
        return 0.5 * large
    return large * min(1.0, min(shown) / MIN_VISIBILITY)


def _clear_target(base: SceneState, person: PersonState, name: str, points: dict[str, np.ndarray]) -> bool:
    """Whether one of `points` can be seen to be what a person looks at, and no other."""
    others = np.array([point for other, point in points.items() if other != name]).reshape(-1, 3)
    return visible_target(base.camera, person, points[name], in_frame=True) and stands_alone(
        base.camera, person, points[name], others
    )


def _write_script(rng: np.random.Generator, base: SceneState, person: PersonState, seconds: float) -> PromptLayout:
    free = base.free_hands(person)
    targets = ["camera", "camera"]
    targets += [f"person:{other.track_id}" for other in base.people if other is not person]
    targets += [f"object:{item.name}" for item in base.objects]
    points = {name: _point(base, name) for name in targets if name != "camera"}
    reachable = [name for name in targets if name == "camera" or _clear_target(base, person, name, points)]
    expressions, gestures, gazes = [], [], []
    for start in _starts(rng, seconds):
        expressions.append(Change(start, str(rng.choice(EXPRESSIONS)), float(rng.uniform(0.8, 1.0))))
    for start in _starts(rng, seconds):
        gestures.append(_next_gesture(rng, base, person, free, start))
    for start in _starts(rng, seconds):
        name = str(rng.choice([t for t in reachable if not gazes or t != gazes[-1].name] or reachable))
        gazes.append(Change(start, name, (float(rng.uniform(0.7, 1.0)), float(rng.normal(0, 0.05)))))
    x = person.shoulders[0]
    entry = np.array([np.sign(x) * rng.uniform(0.0, 0.3), 0.0, rng.uniform(-0.1, 0.1)])
    if person.track_id in {track_id for track_id, _ in base.busy} or base.room.furniture:
        entry = np.zeros(3)  # who touches somebody or stands at a desk is there already
    sway = np.array([[rng.uniform(0.004, 0.012), rng.uniform(0.1, 0.25), rng.uniform(0, 2 * np.pi)] for _ in range(2)])
    return PromptLayout(
        tuple(expressions), tuple(gestures), tuple(gazes), tuple(_starts(rng, seconds)[1:]), entry, sway
    )


def _next_gesture(
    rng: np.random.Generator, base: SceneState, person: PersonState, free: list[str], start: float
) -> Change:
    """A gesture with the hands that are free, or none."""
    if not free or rng.random() < 0.2:
        return Change(start, "none", person.arms)
    actor = copy.copy(person)
    perform_free(rng, base.camera, actor, free, CLIP_GESTURES)
    return Change(start, actor.gesture, actor.arms)


def _starts(rng: np.random.Generator, seconds: float) -> list[float]:
    """Times of changes, the first at 0."""
    times = [0.0]
    while times[-1] < seconds:
        times.append(times[-1] + float(rng.uniform(*HOLD_S)))
    return times[:-1]


def _point(state: SceneState, target: str) -> np.ndarray:
    """Where a named target is now (3,)."""
    kind, _, name = target.partition(":")
    if kind == "person":
        return next(person.head_center for person in state.people if person.track_id == int(name))
    if kind == "object":
        return np.array(next(item.center for item in state.objects if item.name == name))
    return np.zeros(3)


def _state_at(base: SceneState, scripts: list[PromptLayout], time_s: float) -> SceneState:
    """The scene at a time: places first, then arms and faces, then looks, which need everybody's place."""
    state = replace(base, people=[copy.copy(person) for person in base.people])
    for person, script in zip(state.people, scripts, strict=True):
        arrived = _smooth(time_s / 1.5)
        swing = script.sway[:, 0] * np.sin(2 * np.pi * script.sway[:, 1] * time_s + script.sway[:, 2])
        person.shoulders = person.shoulders + (1 - arrived) * script.entry + [swing[0], 0, swing[1]]
        before, now, share = _around(script.gestures, time_s)
        person.gesture = (now if share >= 0.5 else before).name
        person.arms = blend_arms(before.value, now.value, share)
        before, now, share = _around(script.expressions, time_s)
        current = now if share >= 0.5 else before
        person.expression = current.name
        person.intensity = float(current.value) * (0.4 + 0.6 * abs(2 * share - 1))
        nearest = min((abs(time_s - blink) for blink in script.blinks_s), default=np.inf)
        person.blink = float(np.clip(1.4 - 2.8 * nearest / BLINK_S, 0, 1))
    for person, script in zip(state.people, scripts, strict=True):
        _turn_eyes(state, person, *_around(script.gazes, time_s))
    return state


def _turn_eyes(state: SceneState, person: PersonState, before: Change, now: Change, share: float) -> None:
    """Head and eyes on their way from one target to the next."""
    poses = []
    for change in (before, now):
        head_share, roll = change.value
        look_at(person, _point(state, change.name), change.name, head_share, roll)
        head = angles(person.head_rotation @ np.array([0.0, 0.0, -1.0]))
        poses.append((head, roll, angles(person.gaze_direction), np.linalg.norm(person.gaze_point - person.eye_point)))
    if share in (0.0, 1.0):
        if share == 0.0:
            look_at(person, _point(state, before.name), before.name, *before.value)
        return
    (head_a, roll_a, eyes_a, far_a), (head_b, roll_b, eyes_b, far_b) = poses
    head = head_a + share * wrap(head_b - head_a)
    eyes = eyes_a + share * wrap(eyes_b - eyes_a)
    person.head_rotation = rotation(*head, roll_a + share * (roll_b - roll_a))
    ray = rotation(*eyes, 0.0) @ np.array([0.0, 0.0, -1.0])
    person.gaze_point = person.eye_point + (far_a + share * (far_b - far_a)) * ray
    person.gaze_target = (now if share >= 0.5 else before).name


def _around(changes: tuple[Change, ...], time_s: float) -> tuple[Change, Change, float]:
    """The changes before and after the nearest transition, and how far it has come (0..1)."""
    for before, now in pairwise(changes):
        share = (time_s - now.start_s) / CHANGE_S + 0.5
        if share < 1:
            return before, now, _smooth(share)
    return changes[-1], changes[-1], 1.0


def _smooth(share: float) -> float:
    share = float(np.clip(share, 0, 1))
    return share * share * (3 - 2 * share)


def blend_arms(a: Arms, b: Arms, share: float) -> Arms:
    """Arms on their way from a to b; fingers keep their length."""
    if share in (0.0, 1.0):
        return a if share == 0.0 else b

    def mix(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x + share * (y - x)

    hands = []
    for one in a.hands:
        two = next(hand for hand in b.hands if hand.side == one.side)
        wrist = mix(one.joints[0], two.joints[0])
        normal = mix(one.palm_normal, two.palm_normal)
        normal = unit(normal) if np.linalg.norm(normal) > 0.1 else two.palm_normal
        hands.append(Hand(one.side, wrist + _blend_fingers(one.joints, two.joints, share), normal))
    elbows = {side: mix(a.elbows[side], b.elbows[side]) for side in a.elbows}
    wrists = {hand.side: hand.joints[0] for hand in hands}
    return Arms(tuple(hands), elbows, wrists)


def _blend_fingers(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """Joints (21, 3) between two hands, relative to the wrist: bones turn, and have the length they are given."""
    joints = np.zeros((21, 3))
    for child in range(1, 21):
        parent = child - 1 if child % 4 != 1 else 0
        one, two = a[child] - a[parent], b[child] - b[parent]
        length = (1 - share) * np.linalg.norm(one) + share * np.linalg.norm(two)
        way = (1 - share) * one + share * two
        way = way if np.linalg.norm(way) > 0.2 * length else two
        joints[child] = joints[parent] + length * unit(way + 1e-9)
    return joints
