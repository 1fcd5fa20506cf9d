"""Hands of the drawn world as a hand detector reports them: joints in perspective, with its errors, mirrored to right.

One-handed gestures and hands at rest come from holds.py, gestures of two hands from the scenes' own poses.
"""

from __future__ import annotations

import numpy as np

from training.data.scenes.person.arms import MIRROR, TWO_HANDED, pose_arms
from training.data.scenes.person.gestures import GESTURES
from training.data.scenes.person.holds import HOLDS, REST, sample_holds

NO_GESTURE = len(GESTURES)
DISTANCE_M = (0.35, 3.0)  # from the camera
OFF_AXIS = 0.4  # largest tangent of a hand's direction from the image's middle
SECOND_HAND = 0.25  # share of one-handed gestures beside which the other hand is seen at rest
MISSING = 0.2  # share of two-handed gestures of which one hand is not found
# Errors of a hand detector, in lengths from the wrist to the middle knuckle.
JOINT_ERROR, DEPTH_ERROR = 0.035, 0.10
DEPTH_SCALE = (0.6, 1.3)


def sample_views(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Views of `count` hands of each class: points, the other hand, whether it is seen, class numbers.

    Points: (N, 21, 3) of right hands, x and y as in an image of focal length 1, z in the same unit; the other hand
    likewise in the same image. Classes: numbers of GESTURES, and NO_GESTURE.
    """
    parts = [_views(number, name, count, rng) for number, name in enumerate((*GESTURES, ""))]
    points, other, seen, numbers = (np.concatenate(values) for values in zip(*parts, strict=True))
    return points, other, seen, numbers


def _views(number: int, name: str, count: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    if name in TWO_HANDED:
        first, other, seen = _two_handed(name, count, rng)
    else:
        first = sample_holds(HOLDS.get(name, REST), count, rng)
        away = np.stack([rng.uniform(0.2, 0.6, count), rng.uniform(0.1, 0.6, count), rng.uniform(-0.2, 0.2, count)], 1)
        other = sample_holds(REST, count, rng) * MIRROR + away[:, None]
        seen = rng.random(count) < SECOND_HAND
    place = np.exp(rng.uniform(np.log(DISTANCE_M[0]), np.log(DISTANCE_M[1]), count))[:, None] * np.ones(3)
    place[:, :2] *= rng.uniform(-OFF_AXIS, OFF_AXIS, (count, 2))
    middle = first.mean(axis=1, keepdims=True)
    first, other = (hand - middle + place[:, None] for hand in (first, other))
    other[..., 2] = np.maximum(other[..., 2], 0.15)
    return _seen(first, rng), _seen(other, rng), seen, np.full(count, number)


def _two_handed(name: str, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Either hand of both as a right one, with the other."""
    first, other = np.zeros((2, count, 21, 3))
    for row in range(count):
        arms = pose_arms(name, rng, hand_scale=1.0)
        side = ("left", "right")[row % 2]
        mirror = MIRROR if side == "left" else np.ones(3)
        for hand in arms.hands:
            (first if hand.side == side else other)[row] = hand.joints * mirror
    return first, other, rng.random(count) >= MISSING


def _seen(hands: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Hands (N, 21, 3) in metres before the camera -> points of an image, with errors."""
    count = len(hands)
    points = hands / hands[..., 2:]
    points[..., 2] = (hands[..., 2] - hands[:, :1, 2]) / hands[..., 2].mean(axis=1, keepdims=True)
    size = (np.linalg.norm(hands[:, 9] - hands[:, 0], axis=1) / hands[..., 2].mean(axis=1))[:, None, None]
    error = rng.normal(0, 1, (count, 21, 3)) * rng.gamma(4, 0.25, (count, 1, 1))
    points[..., 2] *= rng.uniform(*DEPTH_SCALE, (count, 1))
    return points + size * error * [JOINT_ERROR, JOINT_ERROR, DEPTH_ERROR]
