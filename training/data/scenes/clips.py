"""Short clips: people whose appearance stays while gaze targets, expressions and gestures change."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from training.data.scenes.gaze_targets import is_unambiguous_target, is_visible_target
from training.data.scenes.person.arms import GESTURES, Arms, Hand
from training.data.scenes.person.head import EXPRESSIONS
from training.data.scenes.person.state import PersonState, angles, look_at, rotation, unit, wrap
from training.data.scenes.render import Annotation, render
from training.data.scenes.scene import SceneState, gesture_with_free_hands, sample_scene

HOLD_S = (2.2, 4.0)  # how long a person keeps one expression, gesture or target
CHANGE_S = 0.3  # duration of a transition; labels switch in its middle
BLINK_S = 0.16
MIN_FACE_PX, MIN_VISIBILITY = 48, 0.8  # wanted of everybody in a clip
FACE_HEIGHT_M = 0.2  # at head scale 1
CLIP_GESTURES = tuple(name for name in GESTURES if name != "mute")  # its finger would have to follow the head


@dataclass(frozen=True)
class Keyframe:
    """An expression, a gesture or a gaze target that starts at `start_s` and holds until the next keyframe."""

    start_s: float
    name: str
    value: Any  # expression: intensity; gesture: Arms; gaze: (share, roll)


@dataclass(frozen=True)
class PersonTimeline:
    """The keyframes and motion of one person in a clip."""

    expressions: tuple[Keyframe, ...]
    gestures: tuple[Keyframe, ...]
    gazes: tuple[Keyframe, ...]
    blinks_s: tuple[float, ...]
    entry_offset: np.ndarray  # (3,) metres, of the start position from the final one
    sway: np.ndarray  # (2, 3): rows x and z; columns amplitude (m), frequency (Hz), phase (rad)


def sample_clip(
    seed: int, split: str, seconds: float = 12.0, fps: float = 15.0, people: int = 3
) -> Iterator[tuple[np.ndarray, Annotation]]:
    """Yield the frames of a clip, RGB uint8 (H, W, 3), with their annotations; track ids and relations are constant.

    The same seed gives the same clip. `people` is 1 to 4.
    """
    rng = np.random.default_rng([seed, 4242])
    base = _sample_base(rng, split, people)
    timelines = [_sample_timeline(rng, base, person, seconds) for person in base.people]
    for number in range(round(seconds * fps)):
        state = _state_at(base, timelines, number / fps)
        yield render(state, np.random.default_rng([seed, number]))


def sample_clip_state(rng: np.random.Generator, split: str, seconds: float = 12.0) -> SceneState:
    """The scene at a random time of a clip of one to four people; may be in the middle of a transition."""
    base = _sample_base(rng, split, int(rng.integers(1, 5)))
    timelines = [_sample_timeline(rng, base, person, seconds) for person in base.people]
    return _state_at(base, timelines, float(rng.uniform(0, seconds)))


def _sample_base(rng: np.random.Generator, split: str, people: int) -> SceneState:
    """The first of up to 60 scenes in which everybody stands in view with a large face, or the best of them."""
    related = people > 1 and rng.random() < 0.85  # one pair at least is not of strangers
    best, best_score = None, -1.0
    for _ in range(60):
        state = sample_scene(rng, split, "any", people)
        score = _suitability(state, related)
        if score > best_score:
            best, best_score = state, score
        if best_score >= 1:
            break
    assert best is not None
    names = [item.name for item in best.objects]
    best.objects = [item for i, item in enumerate(best.objects) if item.name not in names[:i]]
    for person in best.people:
        if person.gesture != "none":
            gesture_with_free_hands(rng, best.camera, person, best.free_hands(person), ("none",))
    return best


def _suitability(state: SceneState, related: bool) -> float:
    """Suitability of a scene for a clip, 0..1: 1 if everybody stands, is visible and has a large face."""
    if any(person.sitting for person in state.people):
        return 0.0
    if related and all(relation == "none" for _, relation in state.pairs.values()):
        return 0.0
    heights = [FACE_HEIGHT_M * p.head_scale * state.camera.focal_px / p.head_center[2] for p in state.people]
    size_score = min(1.0, min(heights) / MIN_FACE_PX)
    if size_score < 0.8:
        return 0.5 * size_score
    _, annotation = render(state, np.random.default_rng(0))
    visibilities = [p.visibility for p in annotation.people if p.face is not None]
    if len(visibilities) < len(state.people):
        return 0.5 * size_score
    return size_score * min(1.0, min(visibilities) / MIN_VISIBILITY)


def _is_clear_target(base: SceneState, person: PersonState, name: str, points: dict[str, np.ndarray]) -> bool:
    """Whether `points[name]` is a visible gaze target of a person that no other point can be confused with."""
    others = np.array([point for other, point in points.items() if other != name]).reshape(-1, 3)
    return is_visible_target(base.camera, person, points[name], in_frame=True) and is_unambiguous_target(
        base.camera, person, points[name], others
    )


def _sample_timeline(rng: np.random.Generator, base: SceneState, person: PersonState, seconds: float) -> PersonTimeline:
    """Draw one person's keyframes for `seconds`."""
    free = base.free_hands(person)
    targets = ["camera", "camera"]  # twice as likely as any other target
    targets += [f"person:{other.track_id}" for other in base.people if other is not person]
    targets += [f"object:{item.name}" for item in base.objects]
    points = {name: _point(base, name) for name in targets if name != "camera"}
    clear_targets = [name for name in targets if name == "camera" or _is_clear_target(base, person, name, points)]
    expressions, gestures, gazes = [], [], []
    for start in _sample_start_times(rng, seconds):
        expressions.append(Keyframe(start, str(rng.choice(EXPRESSIONS)), float(rng.uniform(0.8, 1.0))))
    for start in _sample_start_times(rng, seconds):
        gestures.append(_next_gesture(rng, base, person, free, start))
    for start in _sample_start_times(rng, seconds):
        name = str(rng.choice([t for t in clear_targets if not gazes or t != gazes[-1].name] or clear_targets))
        gazes.append(Keyframe(start, name, (float(rng.uniform(0.7, 1.0)), float(rng.normal(0, 0.05)))))
    x = person.shoulders[0]
    entry_offset = np.array([np.sign(x) * rng.uniform(0.0, 0.3), 0.0, rng.uniform(-0.1, 0.1)])
    if person.track_id in {track_id for track_id, _ in base.occupied_hands} or base.room.furniture:
        entry_offset = np.zeros(3)  # people who touch somebody or stand at a desk do not move
    sway = np.array([[rng.uniform(0.004, 0.012), rng.uniform(0.1, 0.25), rng.uniform(0, 2 * np.pi)] for _ in range(2)])
    blinks_s = tuple(_sample_start_times(rng, seconds)[1:])
    return PersonTimeline(tuple(expressions), tuple(gestures), tuple(gazes), blinks_s, entry_offset, sway)


def _next_gesture(
    rng: np.random.Generator, base: SceneState, person: PersonState, free: list[str], start: float
) -> Keyframe:
    """A random gesture of the free hands, or none."""
    if not free or rng.random() < 0.2:
        return Keyframe(start, "none", person.arms)
    actor = copy.copy(person)
    gesture_with_free_hands(rng, base.camera, actor, free, CLIP_GESTURES)
    return Keyframe(start, actor.gesture, actor.arms)


def _sample_start_times(rng: np.random.Generator, seconds: float) -> list[float]:
    """Start times of keyframes, the first at 0."""
    times = [0.0]
    while times[-1] < seconds:
        times.append(times[-1] + float(rng.uniform(*HOLD_S)))
    return times[:-1]


def _point(state: SceneState, target: str) -> np.ndarray:
    """Camera point (3,) of a named gaze target."""
    kind, _, name = target.partition(":")
    if kind == "person":
        return next(person.head_center for person in state.people if person.track_id == int(name))
    if kind == "object":
        return np.array(next(item.center for item in state.objects if item.name == name))
    return np.zeros(3)


def _state_at(base: SceneState, timelines: list[PersonTimeline], time_s: float) -> SceneState:
    """The scene at a time. Gaze comes last: it needs everybody's position."""
    state = replace(base, people=[copy.copy(person) for person in base.people])
    for person, timeline in zip(state.people, timelines, strict=True):
        entry_share = _smoothstep(time_s / 1.5)
        swing = timeline.sway[:, 0] * np.sin(2 * np.pi * timeline.sway[:, 1] * time_s + timeline.sway[:, 2])
        person.shoulders = person.shoulders + (1 - entry_share) * timeline.entry_offset + [swing[0], 0, swing[1]]
        before, after, share = _transition(timeline.gestures, time_s)
        person.gesture = (after if share >= 0.5 else before).name
        person.arms = interpolate_arms(before.value, after.value, share)
        before, after, share = _transition(timeline.expressions, time_s)
        current = after if share >= 0.5 else before
        person.expression = current.name
        person.intensity = float(current.value) * (0.4 + 0.6 * abs(2 * share - 1))
        to_blink_s = min((abs(time_s - blink) for blink in timeline.blinks_s), default=np.inf)
        person.blink = float(np.clip(1.4 - 2.8 * to_blink_s / BLINK_S, 0, 1))
    for person, timeline in zip(state.people, timelines, strict=True):
        _interpolate_gaze(state, person, *_transition(timeline.gazes, time_s))
    return state


def _interpolate_gaze(state: SceneState, person: PersonState, before: Keyframe, after: Keyframe, share: float) -> None:
    """Turn head and eyes by `share` (0..1) of the way from one gaze target to the next."""
    poses = []
    for keyframe in (before, after):
        head_share, roll = keyframe.value
        look_at(person, _point(state, keyframe.name), keyframe.name, head_share, roll)
        head = angles(person.head_rotation @ np.array([0.0, 0.0, -1.0]))
        poses.append((head, roll, angles(person.gaze_direction), np.linalg.norm(person.gaze_point - person.eye_point)))
    if share in (0.0, 1.0):
        if share == 0.0:
            look_at(person, _point(state, before.name), before.name, *before.value)
        return
    (head_a, roll_a, eyes_a, distance_a), (head_b, roll_b, eyes_b, distance_b) = poses
    head = head_a + share * wrap(head_b - head_a)
    eyes = eyes_a + share * wrap(eyes_b - eyes_a)
    person.head_rotation = rotation(*head, roll_a + share * (roll_b - roll_a))
    ray = rotation(*eyes, 0.0) @ np.array([0.0, 0.0, -1.0])
    person.gaze_point = person.eye_point + (distance_a + share * (distance_b - distance_a)) * ray
    person.gaze_target = (after if share >= 0.5 else before).name


def _transition(keyframes: tuple[Keyframe, ...], time_s: float) -> tuple[Keyframe, Keyframe, float]:
    """The keyframes before and after the current transition, and its progress (0..1)."""
    for before, after in pairwise(keyframes):
        share = (time_s - after.start_s) / CHANGE_S + 0.5
        if share < 1:
            return before, after, _smoothstep(share)
    return keyframes[-1], keyframes[-1], 1.0


def _smoothstep(share: float) -> float:
    """The cubic smoothstep of a value clipped to 0..1."""
    share = float(np.clip(share, 0, 1))
    return share * share * (3 - 2 * share)


def interpolate_arms(a: Arms, b: Arms, share: float) -> Arms:
    """Arms at `share` (0..1) between a and b; fingers keep their length."""
    if share in (0.0, 1.0):
        return a if share == 0.0 else b

    def mix(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x + share * (y - x)

    hands = []
    for hand_a in a.hands:
        hand_b = next(hand for hand in b.hands if hand.side == hand_a.side)
        wrist = mix(hand_a.joints[0], hand_b.joints[0])
        normal = mix(hand_a.palm_normal, hand_b.palm_normal)
        normal = unit(normal) if np.linalg.norm(normal) > 0.1 else hand_b.palm_normal
        hands.append(Hand(hand_a.side, wrist + _interpolate_fingers(hand_a.joints, hand_b.joints, share), normal))
    elbows = {side: mix(a.elbows[side], b.elbows[side]) for side in a.elbows}
    wrists = {hand.side: hand.joints[0] for hand in hands}
    return Arms(tuple(hands), elbows, wrists)


def _interpolate_fingers(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    """Joints (21, 3) between two hands, relative to the wrist; bone directions and lengths are interpolated."""
    joints = np.zeros((21, 3))
    for child in range(1, 21):
        parent = child - 1 if child % 4 != 1 else 0
        bone_a, bone_b = a[child] - a[parent], b[child] - b[parent]
        length = (1 - share) * np.linalg.norm(bone_a) + share * np.linalg.norm(bone_b)
        direction = (1 - share) * bone_a + share * bone_b
        direction = direction if np.linalg.norm(direction) > 0.2 * length else bone_b
        joints[child] = joints[parent] + length * unit(direction + 1e-9)
    return joints
