"""Draws arms and hands in a cartoon style that keeps a hand of 30 pixels readable.

Coordinates are camera metres; the joint order of a hand is that of arms.py.
"""

from __future__ import annotations

import cv2
import numpy as np

from training.data.scenes.painter import Painter, darker, lighter
from training.data.scenes.person.gestures import FINGER_STARTS

FINGER_RADIUS = (0.0100, 0.0100, 0.0096, 0.0086)  # metres, index .. pinkie, for a hand of scale 1
PALM_LENGTH_M = 0.0907  # wrist to middle knuckle at scale 1
HAND_BIAS_M = 0.03  # sorts hands in front of touched surfaces
_RING = np.linspace(0, 2 * np.pi, 8, endpoint=False)
_DISC = np.stack([np.cos(_RING), np.sin(_RING), np.zeros(8)], axis=1)

Color = tuple[float, float, float]


def draw_hand(
    painter: Painter,
    joints_cam: np.ndarray,
    palm_normal_cam: np.ndarray,
    side: str,
    skin: Color,
    *,
    nails: Color = (244, 214, 208),
) -> None:
    """Draw a hand from its joints (21, 3) and palm normal (3,), both in camera coordinates, metres.

    The palm is light and creased; the back is darker, with knuckles and nails. Sizes scale with the joints.
    """
    joints = np.asarray(joints_cam, float)
    scale = float(np.linalg.norm(joints[9] - joints[0])) / PALM_LENGTH_M
    view = joints[9] / np.linalg.norm(joints[9])
    palm_seen = float(np.dot(palm_normal_cam, view)) < 0
    palm_color, back_color = _palm_color(skin), darker(skin, 0.86)
    _draw_palm(painter, joints, scale, palm_color if palm_seen else back_color)
    if palm_seen:
        _draw_creases(painter, joints, scale, palm_normal_cam, darker(skin, 0.55))
    else:
        _draw_knuckles(painter, joints, scale, view, darker(skin, 0.5))
    turn = 1.0 if side == "right" else -1.0
    lateral = turn * np.cross(joints[9] - joints[0], palm_normal_cam)  # towards the thumb
    for start, radius in zip(FINGER_STARTS, FINGER_RADIUS, strict=True):
        chain, radius = joints[start : start + 4], radius * scale
        bones = np.diff(chain, axis=0)
        reach = np.linalg.norm(chain[3] - chain[0]) / np.linalg.norm(bones, axis=1).sum()
        if reach > 0.96:
            color = palm_color if palm_seen else back_color
            _limb(painter, chain[0], chain[3], radius * 1.05, radius * 0.88, color, scale)
            at_viewer = view @ (chain[0] - chain[3]) > 0.75 * np.linalg.norm(chain[0] - chain[3])
            if at_viewer:  # only its tip is visible: drawn as a bright disc
                _limb(painter, chain[3], chain[3], radius * 1.75, radius * 1.75, palm_color, scale)
                painter.ball(chain[3], radius * 0.6, darker(skin, 0.5), bias=HAND_BIAS_M + 0.01, outline=0, gloss=0)
            nail_seen = not palm_seen and not at_viewer
        else:
            pads = turn * np.cross(lateral, bones) @ view < 0  # (3,) whether a bone shows its palm side
            for i, pad in enumerate(pads[: 2 if reach < 0.5 else 3]):  # the end of a curled finger is tucked away
                _limb(painter, chain[i], chain[i + 1], radius, radius * 0.95, palm_color if pad else back_color, scale)
            nail_seen = reach > 0.6 and not pads[2] and abs(bones[2] @ view) < 0.7 * np.linalg.norm(bones[2])
        if nail_seen:
            inward = (chain[2] - chain[3]) / np.linalg.norm(chain[2] - chain[3])
            painter.capsule(
                chain[3] - 0.001 * scale * inward, chain[3] + 0.010 * scale * inward, 0.0062 * scale, 0.0062 * scale,
                nails, bias=HAND_BIAS_M + 0.02, outline=0, gloss=0,
            )  # fmt: skip
    color = palm_color if palm_seen else back_color
    _limb(painter, joints[1], joints[2], 0.0150 * scale, 0.0125 * scale, color, scale)
    _limb(painter, joints[2], joints[3], 0.0118 * scale, 0.0112 * scale, color, scale)
    _limb(painter, joints[3], joints[4], 0.0112 * scale, 0.0100 * scale, color, scale)


def draw_arm(
    painter: Painter,
    shoulder: np.ndarray,
    elbow: np.ndarray,
    wrist: np.ndarray,
    sleeve_color: Color,
    skin: Color,
    *,
    sleeve: float = 1.0,
    radius: float = 0.045,
) -> None:
    """Draw an arm between camera points (3,), metres; `sleeve` 0..1 is how far down the arm the sleeve reaches."""
    shoulder, elbow, wrist = (np.asarray(p, float) for p in (shoulder, elbow, wrist))
    upper, fore = np.linalg.norm(elbow - shoulder), np.linalg.norm(wrist - elbow)
    covered = float(np.clip(sleeve, 0, 1)) * (upper + fore)
    bends = ((shoulder, elbow, upper, radius, radius * 0.88), (elbow, wrist, fore, radius * 0.88, radius * 0.6))
    for start, end, length, radius_a, radius_b in bends:
        share = float(np.clip(covered / max(length, 1e-6), 0, 1))
        covered = max(0.0, covered - length)
        cut, radius_cut = start + share * (end - start), radius_a + share * (radius_b - radius_a)
        if share < 1:
            painter.capsule(cut, end, radius_cut * 0.86, radius_b * 0.86, skin, bias=0.02)
        if share > 0:
            painter.capsule(start, cut, radius_a, radius_cut, sleeve_color, bias=0.021)


def _palm_color(skin: Color) -> Color:
    red, green, blue = lighter(skin, 0.34)
    return (red, green * 0.97, blue * 0.95)


def _limb(
    painter: Painter, a: np.ndarray, b: np.ndarray, radius_a: float, radius_b: float, color: Color, scale: float
) -> None:
    painter.capsule(a, b, radius_a, radius_b, color, bias=HAND_BIAS_M, outline=0.0042 * scale, gloss=0)


def _draw_palm(painter: Painter, joints: np.ndarray, scale: float, color: Color) -> None:
    """Draw the outlined hull of knuckles, thumb base and wrist."""
    across = 0.40 * (joints[5] - joints[17])
    corners = np.stack([joints[0] + across, joints[0] - across, joints[1], *joints[list(FINGER_STARTS)]])
    cloud = (corners[:, None] + 0.0105 * scale * _DISC).reshape(-1, 3)
    flat = (cloud[:, :2] / cloud[:, 2:]).astype(np.float32)
    hull = cloud[cv2.convexHull(flat, returnPoints=False)[:, 0]]
    painter.polygon(hull, color, bias=HAND_BIAS_M, outline=0.0042 * scale)


def _draw_creases(painter: Painter, joints: np.ndarray, scale: float, normal: np.ndarray, color: Color) -> None:
    """Draw the two lines of a palm: below the knuckles, and around the ball of the thumb."""
    wrist, index, middle, pinkie = joints[0], joints[5], joints[9], joints[17]
    lift = 0.004 * scale * np.asarray(normal, float)
    heart = np.stack([wrist + 0.66 * (pinkie - wrist), wrist + 0.66 * (middle - wrist), wrist + 0.80 * (index - wrist)])
    life = np.stack([
        wrist + 0.70 * (index - wrist),
        wrist + 0.50 * (middle - wrist) + 0.06 * (index - pinkie),
        wrist + 0.16 * (middle - wrist),
    ])  # fmt: skip
    for crease in (heart, life):
        painter.line(crease + lift, color, width=0.0035 * scale, bias=HAND_BIAS_M + 0.004)


def _draw_knuckles(painter: Painter, joints: np.ndarray, scale: float, view: np.ndarray, color: Color) -> None:
    """Draw a short stroke over each knuckle on the back of the hand."""
    across = 0.09 * (joints[5] - joints[17])
    for start in FINGER_STARTS:
        knuckle = joints[start] + 0.05 * (joints[0] - joints[start]) - 0.004 * scale * view
        painter.line(
            np.stack([knuckle - across, knuckle + across]), color, width=0.006 * scale, bias=HAND_BIAS_M + 0.03
        )
