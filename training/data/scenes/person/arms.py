"""Poses of arms and hands: 21 joints per hand from a gesture's shape, placed on the body.

Body frame: origin midway between the shoulders, metres, x to the person's left, y down, z into the person (their
front is -z); for a person who faces the camera its axes are the camera's. Joint order: wrist 0, thumb 1-4, index 5-8,
middle 9-12, ring 13-16, pinkie 17-20.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.data.scenes.person.gestures import (
    BACK,
    BONES,
    FINGER_STARTS,
    FRONT,
    GESTURES,
    INWARD,
    KNUCKLES,
    OK_INDEX,
    SHAPES,
    THUMBS,
    TWO_HANDED,
    UP,
    Shape,
)
from training.data.scenes.person.limbs import draw_arm, draw_hand

__all__ = ["GESTURES", "TWO_HANDED", "Arms", "Hand", "draw_arm", "draw_hand", "pose_arms"]

SIDES = ("left", "right")
UPPER_ARM_M, FOREARM_M = 0.28, 0.25
SHOULDERS = {"left": np.array([0.19, 0.0, 0.0]), "right": np.array([-0.19, 0.0, 0.0])}
REST_WRIST = {"left": np.array([0.24, 0.5, -0.05]), "right": np.array([-0.24, 0.5, -0.05])}
BODY_MOUTH = np.array([0.0, -0.17, -0.11])  # of an upright head
FACE_CLEAR_M = 0.11  # distance of raised hands from the middle of the face
VIEW_EDGE_M = 0.35  # their largest distance, to stay in the upper-body view
MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Hand:
    """One hand's articulation in the body frame."""

    side: str  # 'left' | 'right', the person's
    joints: np.ndarray  # (21, 3) metres
    palm_normal: np.ndarray  # (3,) unit, out of the palm


@dataclass(frozen=True)
class Arms:
    """Both arms, with the one or two hands that make the gesture ('none': both hands, at rest)."""

    hands: tuple[Hand, ...]
    elbows: dict[str, np.ndarray]  # 'left' | 'right' -> (3,) metres, body frame
    wrists: dict[str, np.ndarray]  # likewise


def pose_arms(gesture: str, rng: np.random.Generator, *, side: str | None = None, hand_scale: float = 1.3) -> Arms:
    """Arms of an adult who makes `gesture` (one of GESTURES, or 'none'); body frame, metres.

    `side` is the hand of a one-handed gesture, or the leading hand of two (None: random). `hand_scale` 1 is a real
    hand; the larger default keeps fingers readable in small views. Raises ValueError for unknown names.
    """
    if gesture not in SHAPES and gesture not in TWO_HANDED:
        raise ValueError(f"unknown gesture {gesture!r}: expected 'none' or one of {', '.join(GESTURES)}")
    if side is None:
        side = SIDES[int(rng.integers(2))]
    if side not in SIDES:
        raise ValueError(f"unknown side {side!r}: expected 'left' or 'right'")
    if gesture == "none":
        hands = tuple(_at_rest(name, rng, hand_scale) for name in SIDES)
    elif gesture in TWO_HANDED:
        lead, other = _two_hands(gesture, rng, hand_scale)
        hands = (lead, _mirrored(other)) if side == "right" else (_mirrored(lead), other)
    else:
        hand = _one_hand(gesture, rng, hand_scale)
        hands = (hand,) if side == "right" else (_mirrored(hand),)
    wrists = {name: REST_WRIST[name] + rng.normal(0, 0.01, 3) for name in SIDES}
    wrists |= {hand.side: hand.joints[0] for hand in hands}
    raised = gesture != "none"
    elbows = {name: _elbow(name, wrists[name], raised and any(h.side == name for h in hands)) for name in SIDES}
    return Arms(hands, elbows, wrists)


# --- from shape to joints -------------------------------------------------------------------------------------------


def _hand_frame(along: np.ndarray, palm: np.ndarray) -> np.ndarray:
    """Columns u, v, n (3, 3) of a right hand whose fingers point along `along` and whose palm faces `palm`."""
    v = along / np.linalg.norm(along)
    n = palm - (palm @ v) * v
    n = n / np.linalg.norm(n)
    return np.stack([np.cross(v, n), v, n], axis=1)


def _articulate(shape: Shape, rng: np.random.Generator, *, ok_ring: bool = False) -> np.ndarray:
    """Joints (21, 3) of a right hand in the hand frame at scale 1, with a few degrees of jitter."""
    joints = np.zeros((21, 3))
    joints[1:5] = THUMBS[shape.thumb]
    joints[2:5] += rng.normal(0, 0.0015, (3, 3)) * [[1], [1.4], [1.8]]
    splay_jitter, bend_jitter = rng.normal(0, 1.5, 4), rng.normal(0, 3.0, (4, 3))
    for finger in range(4):
        splay = np.deg2rad(shape.fingers[finger][0] + splay_jitter[finger])
        bend = np.cumsum(np.deg2rad(np.array(shape.fingers[finger][1:]) + bend_jitter[finger]))
        forward = np.array([np.sin(splay), np.cos(splay), 0.0])
        bones = np.cos(bend)[:, None] * forward + np.sin(bend)[:, None] * [0.0, 0.0, 1.0]
        start = FINGER_STARTS[finger]
        joints[start] = KNUCKLES[finger]
        joints[start + 1 : start + 4] = KNUCKLES[finger] + np.cumsum(BONES[finger][:, None] * bones, axis=0)
    if ok_ring:
        joints[5:9] = OK_INDEX
        joints[[4, 8]] = joints[[4, 8]].mean(axis=0)
        joints[[4, 8], 1] += (-0.003, 0.003)
    return joints


def _right_hand(
    shape: Shape,
    rng: np.random.Generator,
    scale: float,
    *,
    along: np.ndarray | None = None,
    palm: np.ndarray | None = None,
    ok_ring: bool = False,
) -> Hand:
    """A right hand with its wrist at the origin of the body frame."""
    frame = _hand_frame(shape.along if along is None else along, shape.palm if palm is None else palm)
    return Hand("right", scale * _articulate(shape, rng, ok_ring=ok_ring) @ frame.T, frame[:, 2])


def _turn(roll_deg: float, tilt_deg: float = 0.0, yaw_deg: float = 0.0) -> np.ndarray:
    """Rotation (3, 3): in the image plane (roll, about z), then about x (tilt) and y (yaw)."""
    vectors = np.deg2rad([[0, 0, roll_deg], [tilt_deg, 0, 0], [0, yaw_deg, 0]])
    roll, tilt, yaw = (cv2.Rodrigues(v)[0] for v in vectors)
    return yaw @ tilt @ roll


def _moved(hand: Hand, rotation: np.ndarray, shift: np.ndarray) -> Hand:
    return Hand(hand.side, hand.joints @ rotation.T + shift, rotation @ hand.palm_normal)


def _mirrored(hand: Hand) -> Hand:
    return Hand("left" if hand.side == "right" else "right", hand.joints * MIRROR, hand.palm_normal * MIRROR)


# --- from hand to body ----------------------------------------------------------------------------------------------


def _at_rest(side: str, rng: np.random.Generator, scale: float) -> Hand:
    hand = _moved(_right_hand(SHAPES["none"], rng, scale), _turn(*rng.uniform(-6, 6, 3)), REST_WRIST["right"])
    return hand if side == "right" else _mirrored(hand)


def _one_hand(gesture: str, rng: np.random.Generator, scale: float) -> Hand:
    """A right hand raised beside the face or in front of the chest, off the face (mute: on the lips)."""
    shape = SHAPES[gesture]
    hand = _right_hand(shape, rng, scale, ok_ring=gesture == "ok")
    tilt, yaw = rng.uniform(-shape.turn_deg, shape.turn_deg, 2)
    if gesture == "mute":
        hand = _moved(hand, _turn(rng.uniform(-8, 8), tilt, yaw), np.zeros(3))
        return _moved(hand, np.eye(3), BODY_MOUTH + np.array([0, rng.uniform(-0.012, 0.012), -0.045]) - hand.joints[7])
    hand = _moved(hand, _turn(rng.uniform(-20, 20), tilt, yaw), np.zeros(3))
    middle = (hand.joints.min(axis=0) + hand.joints.max(axis=0)) / 2
    y = rng.uniform(-0.20, 0.20)
    half_width = float(np.ptp(hand.joints[:, 0])) / 2
    nearest = FACE_CLEAR_M + half_width if y < 0.05 else FACE_CLEAR_M
    x = -rng.uniform(nearest, max(nearest + 0.02, VIEW_EDGE_M - half_width))
    target = np.array([x, y, rng.uniform(-0.32, -0.18)])
    return _within_reach(_moved(hand, np.eye(3), target - middle))


def _within_reach(hand: Hand) -> Hand:
    """The hand moved towards its shoulder until the arm can reach it."""
    offset = hand.joints[0] - SHOULDERS[hand.side]
    distance = float(np.linalg.norm(offset))
    excess = max(0.0, distance - 0.97 * (UPPER_ARM_M + FOREARM_M))
    return _moved(hand, np.eye(3), -excess * offset / distance)


def _two_hands(gesture: str, rng: np.random.Generator, scale: float) -> tuple[Hand, Hand]:
    """The leading and the other hand of a two-handed gesture, both as right hands; the caller mirrors the other."""
    center = np.array([rng.uniform(-0.03, 0.03), rng.uniform(0.06, 0.18), rng.uniform(-0.30, -0.24)])
    roll = float(rng.uniform(-8, 8))
    fist, flat, corner = SHAPES["fist"], SHAPES["stop"], SHAPES["thumb_index"]
    if gesture == "thumb_index2":
        pair = [_right_hand(corner, rng, scale) for _ in range(2)]
        pair = [_moved(h, _turn(*rng.uniform(-8, 8, 3)), np.array([-0.235, 0.05, 0.0])) for h in pair]
    elif gesture == "holy":
        along, palm = np.array([0.10, -1, 0]), np.array([0.8, 0, 0.6])
        pair = [_right_hand(flat, rng, scale, along=along, palm=palm) for _ in range(2)]
        pair = [_moved(h, np.eye(3), np.array([-0.028 * scale - 0.012, 0.10, 0.0])) for h in pair]
    elif gesture == "timeout":
        top = _right_hand(flat, rng, scale, along=INWARD, palm=np.array([0, 0.8, 0.6]))
        stem = _right_hand(flat, rng, scale, along=UP, palm=np.array([0.8, 0, 0.6]))
        pair = [
            _moved(top, np.eye(3), np.array([-0.10 * scale, -0.05, 0])),
            _moved(stem, np.eye(3), np.array([0, 0.18 * scale, 0])),
        ]
    elif gesture == "take_picture":
        center += [rng.choice([-1, 1]) * rng.uniform(0.0, 0.06), rng.uniform(-0.06, 0.02), 0]
        low = _right_hand(corner, rng, scale, along=INWARD, palm=BACK)
        high = _right_hand(corner, rng, scale, along=INWARD, palm=FRONT)
        shift = np.array([-0.115 * scale, 0.088 * scale, 0])
        pair = [_moved(low, np.eye(3), shift), _moved(high, np.eye(3), shift * [1, -1, 1])]
    elif gesture == "xsign":
        pair = [_right_hand(fist, rng, scale, along=np.array([0.62, -0.78, 0]), palm=BACK) for _ in range(2)]
        pair = [_moved(h, np.eye(3), np.array([0.085, -0.08, z])) for h, z in zip(pair, (-0.03, 0.03), strict=True)]
    else:
        pair = [_heart_half(rng, scale, closed=gesture == "hand_heart") for _ in range(2)]
    lead, other = (_moved(hand, _turn(turn), np.zeros(3)) for hand, turn in zip(pair, (roll, -roll), strict=True))
    return _moved(lead, np.eye(3), center), _moved(other, np.eye(3), center * MIRROR)


# The right hand's half of a heart around its middle, in the image plane (x, y) at scale 1.
_HEART_WRIST = (-0.135, 0.075)
_HEART_THUMB = ((-0.112, 0.020), (-0.076, 0.050), (-0.040, 0.076), (-0.005, 0.104))
_HEART_INDEX = ((-0.100, -0.022), (-0.076, -0.066), (-0.040, -0.072), (-0.007, -0.036))
_HEART_OUTWARD = np.array([-0.35, -0.94])  # offset of the other fingers from the index


def _heart_half(rng: np.random.Generator, scale: float, *, closed: bool) -> Hand:
    """Half a heart: all fingers arched (`closed`), or index and thumb arched and the others up."""
    joints = np.zeros((21, 3))
    joints[0, :2], joints[1:5, :2], joints[5:9, :2] = _HEART_WRIST, _HEART_THUMB, _HEART_INDEX
    for finger in (1, 2, 3):
        start = FINGER_STARTS[finger]
        if closed:
            joints[start : start + 4, :2] = _HEART_INDEX + 0.0165 * finger * _HEART_OUTWARD * [[0.8], [1], [1], [1]]
            joints[start + 3, 0] = min(joints[start + 3, 0] + 0.006 * finger, -0.007)
        else:
            angle = np.deg2rad(-4 - 17 * (finger - 1) + rng.normal(0, 2))
            out = np.cumsum(np.r_[0, BONES[finger]])[:, None] * [np.sin(angle), -np.cos(angle)]
            joints[start : start + 4, :2] = np.add([-0.106 - 0.017 * finger, -0.032 + 0.012 * finger], out)
        joints[start : start + 4, 2] = 0.012 * finger
    joints += rng.normal(0, 0.0012, joints.shape)
    normal = np.array([0.45, 0.0, 0.89])  # the backs of the hands face the camera
    return Hand("right", scale * joints, normal / np.linalg.norm(normal))


def _elbow(side: str, wrist: np.ndarray, raised: bool) -> np.ndarray:
    """Elbow position (3,) from the two bone lengths; raised arms bend down and outwards, hanging arms backwards."""
    outward = 1.0 if side == "left" else -1.0
    pole = np.array([0.55 * outward, 1.0, 0.25]) if raised else np.array([0.5 * outward, 0.0, 1.0])
    offset = wrist - SHOULDERS[side]
    distance = float(np.linalg.norm(offset))
    axis = offset / distance
    along = (UPPER_ARM_M**2 - FOREARM_M**2 + distance**2) / (2 * distance)
    height = np.sqrt(max(0.0, UPPER_ARM_M**2 - along**2))
    bend = pole - (pole @ axis) * axis
    return SHOULDERS[side] + along * axis + height * bend / np.linalg.norm(bend)
