"""Draws a person: torso, clothes, legs, arms, hands and head, each part with its own owner id."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.data.scenes.painter import Painter, darker, lighter
from training.data.scenes.person.arms import SHOULDERS, draw_arm, draw_hand
from training.data.scenes.person.head import draw_head
from training.data.scenes.person.state import PersonState, gesture_arms, unit

PARTS = ("body", "head", "left", "right")  # owner id of part k of person i: 1 + 4 * i + k
# Torso outline: height, half width, half depth in the body frame at scale 1.
_TORSO = np.array([
    (-0.085, 0.062, 0.05), (-0.055, 0.095, 0.06), (-0.025, 0.158, 0.075), (0.01, 0.20, 0.09),
    (0.08, 0.205, 0.105), (0.2, 0.178, 0.11), (0.32, 0.158, 0.105), (0.42, 0.168, 0.11), (0.54, 0.182, 0.115),
])  # fmt: skip
_TORSO_BIAS = -0.05  # metres; sorts the torso behind arms and details


@dataclass(frozen=True)
class DrawnPerson:
    """Camera points of a drawn face and hands, metres."""

    face: np.ndarray  # (N, 3) forehead to chin, ear to ear
    hands: dict[str, np.ndarray]  # side -> joints (21, 3)


def owner_id(index: int, part: str) -> int:
    """Owner id of a part of the index-th person."""
    return 1 + len(PARTS) * index + PARTS.index(part)


def draw_person(painter: Painter, person: PersonState, index: int, hide: frozenset[str] = frozenset()) -> DrawnPerson:
    """Draw a person; `hide` leaves out 'eyes', 'mouth' or 'hands' (the arms then hang at rest)."""
    dress, skin = person.dress, person.appearance.skin
    painter.owner = owner_id(index, "body")
    _draw_legs(painter, person)
    _draw_torso(painter, person)
    neck = person.to_camera(np.array([[0, -0.03, 0.0], [0, -0.12, 0.0]]))
    neck[1] = 0.5 * (neck[0] + person.head_center)
    painter.capsule(
        neck[0], neck[1], 0.056 * person.scale, 0.055 * person.scale, darker(skin, 0.82), bias=-0.03, gloss=0
    )

    arms = person.arms
    if "hands" in hide:
        arms = gesture_arms("none", np.random.default_rng(person.face_seed), person.scale)
    sleeve = {"t-shirt": 0.35, "polo": 0.4, "gown": 0.3, "vest": 0.0}.get(dress.kind, 1.0)
    sleeve_color = lighter(dress.top, 0.75) if dress.kind in ("apron", "shirt") else dress.top
    hands = {}
    for hand in arms.hands:
        side = hand.side
        painter.owner = owner_id(index, "body")
        joint = SHOULDERS[side] * [0.88, 1, 1] + [0, 0.035, 0]
        shoulder, elbow, wrist = person.to_camera(np.stack([joint, arms.elbows[side], arms.wrists[side]]))
        draw_arm(painter, shoulder, elbow, wrist, sleeve_color, skin, sleeve=sleeve, radius=0.047 * person.scale)
        painter.owner = owner_id(index, side)
        hands[side] = person.to_camera(hand.joints)
        draw_hand(painter, hands[side], person.body_rotation @ hand.palm_normal, side, skin)

    painter.owner = owner_id(index, "head")
    face = draw_head(
        painter,
        person.head_center,
        person.head_rotation,
        person.gaze_direction,
        person.expression,
        person.intensity,
        person.appearance,
        np.random.default_rng(person.face_seed),
        scale=person.head_scale,
        blink=person.blink,
        hide=hide & {"eyes", "mouth"},
    )
    if dress.kind == "apron":
        _draw_cap(painter, person)
    return DrawnPerson(face, hands)


def _front(person: PersonState, points: list[tuple[float, float]]) -> np.ndarray | None:
    """Points (u, y) on the front of the torso, u in -1..1 across -> camera points (N, 3); None if it is turned away."""
    points = np.asarray(points, float)
    half = np.interp(points[:, 1], _TORSO[:, 0], _TORSO[:, 1])
    depth = np.interp(points[:, 1], _TORSO[:, 0], _TORSO[:, 2])
    u = np.clip(points[:, 0], -0.96, 0.96)
    forward = np.sqrt(1 - u**2)
    normal = person.body_rotation @ unit(np.array([u.mean(), 0.0, -forward.mean()]))
    placed = person.to_camera(np.column_stack([u * half, points[:, 1], -forward * depth]))
    if normal @ placed.mean(axis=0) > -0.05 * np.linalg.norm(placed.mean(axis=0)):
        return None
    return placed


def _draw_patch(
    painter: Painter, person: PersonState, points, color, *, layer: float = 0.0, outline: float = 0.0
) -> None:
    """Draw a flat detail on the front of the torso, above the torso and below the arms."""
    placed = _front(person, points)
    if placed is not None:
        depth = float(placed[:, 2].mean()) - float(person.shoulders[2])
        painter.polygon(placed, color, bias=_TORSO_BIAS + depth + 0.004 + 0.002 * layer, outline=outline)


def _draw_torso(painter: Painter, person: PersonState) -> None:
    """Draw the torso as the silhouette of elliptical sections, shaded on one side, then the clothes."""
    dress = person.dress
    levels = _TORSO.copy()
    if dress.kind == "gown":
        levels = np.vstack([levels, (0.8, 0.25, 0.2), (0.95, 0.28, 0.22)])
    sight = unit(person.shoulders * [1, 0, 1])
    across = np.array([sight[2], 0.0, -sight[0]])  # horizontal, perpendicular to the line of sight
    right = person.body_rotation @ np.array([1.0, 0, 0])
    cosine, sine = float(right @ across), float(right @ sight)
    reach = np.hypot(levels[:, 1] * cosine, levels[:, 2] * sine)
    reach = np.maximum(reach, np.where(levels[:, 0] < 0.1, 0.0, levels[:, 2])) * person.scale
    centers = person.to_camera(np.column_stack([np.zeros(len(levels)), levels[:, 0], np.zeros(len(levels))]))
    left_edge, right_edge = centers - reach[:, None] * across, centers + reach[:, None] * across
    base = lighter(dress.top, 0.75) if dress.kind in ("apron", "shirt") else dress.top
    painter.polygon(np.vstack([left_edge, right_edge[::-1]]), base, bias=_TORSO_BIAS, outline=0.005)
    inner = centers + 0.45 * reach[:, None] * across
    painter.polygon(np.vstack([inner, right_edge[::-1]]), darker(base, 0.84), bias=_TORSO_BIAS + 0.001)
    _draw_clothes(painter, person)


def _draw_clothes(painter: Painter, person: PersonState) -> None:
    """Draw collars, ties, aprons, prints and badges, which distinguish the kinds of clothes."""
    dress, white = person.dress, (244, 244, 240)

    def patch(points, color, layer=0.0, outline=0.0):
        _draw_patch(painter, person, points, color, layer=layer, outline=outline)

    if dress.kind == "suit":
        patch([(-0.34, -0.03), (0.34, -0.03), (0.05, 0.3), (-0.05, 0.3)], white)
        patch([(-0.07, -0.02), (0.07, -0.02), (0.1, 0.2), (0, 0.26), (-0.1, 0.2)], dress.accent, 1, 0.002)
        for side in (-1, 1):
            lapel = [(side * 0.34, -0.03), (side * 0.52, 0.1), (side * 0.04, 0.32), (side * 0.03, 0.28)]
            patch(lapel, darker(dress.top, 0.7), 2)
        patch([(-0.03, 0.36), (0.03, 0.36), (0.03, 0.38), (-0.03, 0.38)], darker(dress.top, 0.4), 2)
    elif dress.kind == "shirt":
        patch([(-0.02, 0.0), (0.02, 0.0), (0.02, 0.5), (-0.02, 0.5)], darker(white, 0.75))
        patch([(-0.07, -0.02), (0.07, -0.02), (0.09, 0.26), (0, 0.34), (-0.09, 0.26)], dress.accent, 1, 0.002)
        for side in (-1, 1):
            patch([(side * 0.1, -0.03), (side * 0.4, -0.03), (side * 0.24, 0.05)], darker(white, 0.9), 2, 0.002)
    elif dress.kind == "apron":
        patch([(-0.42, 0.1), (0.42, 0.1), (0.8, 0.3), (0.85, 0.54), (-0.85, 0.54), (-0.8, 0.3)], dress.top, 0, 0.004)
        for side in (-1, 1):
            patch([(side * 0.4, 0.1), (side * 0.33, 0.1), (side * 0.38, -0.02), (side * 0.45, -0.02)], dress.top)
        patch([(-0.35, 0.34), (0.35, 0.34), (0.32, 0.46), (-0.32, 0.46)], darker(dress.top, 0.75), 1)
    elif dress.kind == "hoodie":
        patch([(-0.45, -0.03), (0.45, -0.03), (0.2, 0.07), (-0.2, 0.07)], darker(dress.top, 0.7), 1)
        patch([(-0.5, 0.34), (0.5, 0.34), (0.62, 0.48), (-0.62, 0.48)], darker(dress.top, 0.85), 1, 0.003)
    elif dress.kind == "sweater":
        patch([(-0.4, -0.04), (0.4, -0.04), (0.25, 0.02), (-0.25, 0.02)], darker(dress.top, 0.75), 1)
        patch([(-0.95, 0.5), (0.95, 0.5), (0.95, 0.54), (-0.95, 0.54)], darker(dress.top, 0.75), 1)
    elif dress.kind == "jacket":
        patch([(-0.2, -0.03), (0.2, -0.03), (0.22, 0.54), (-0.22, 0.54)], dress.accent, 1)
        for side in (-1, 1):
            patch([(side * 0.2, -0.03), (side * 0.42, -0.03), (side * 0.22, 0.1)], darker(dress.top, 0.75), 2)
    elif dress.kind == "polo":
        patch([(-0.05, 0.0), (0.05, 0.0), (0.05, 0.15), (-0.05, 0.15)], darker(dress.top, 0.7), 1)
        for side in (-1, 1):
            patch([(side * 0.05, -0.03), (side * 0.42, -0.03), (side * 0.22, 0.05)], dress.accent, 2)
    else:
        patch([(-0.32, -0.045), (0.32, -0.045), (0.18, 0.03), (-0.18, 0.03)], person.appearance.skin, 1)
    if dress.pattern == "stripes":
        for y in (0.12, 0.22, 0.32, 0.42):
            patch([(-0.95, y), (0.95, y), (0.95, y + 0.04), (-0.95, y + 0.04)], dress.accent)
    elif dress.pattern == "spots":
        for row, y in enumerate((0.1, 0.2, 0.3, 0.4)):
            for u in (-0.6, -0.2, 0.2, 0.6):
                x = u + 0.2 * (row % 2)
                patch([(x - 0.09, y), (x, y - 0.022), (x + 0.09, y), (x, y + 0.022)], dress.accent)
    elif dress.pattern == "sash":
        patch([(-0.7, 0.05), (-0.45, 0.02), (0.8, 0.4), (0.75, 0.5)], dress.accent)
    elif dress.pattern == "block":
        patch([(-0.95, 0.24), (0.95, 0.24), (0.95, 0.54), (-0.95, 0.54)], dress.accent)
    if dress.badge:
        for side in (-1, 1):
            patch([(side * 0.3, -0.02), (side * 0.35, -0.02), (side * 0.04, 0.2), (0, 0.2)], (40, 90, 170), 3)
        patch([(-0.15, 0.2), (0.15, 0.2), (0.15, 0.3), (-0.15, 0.3)], (250, 250, 250), 4, 0.003)
        patch([(-0.12, 0.21), (0.12, 0.21), (0.12, 0.24), (-0.12, 0.24)], (40, 90, 170), 5)


def _draw_legs(painter: Painter, person: PersonState) -> None:
    """Draw two legs, straight or seated, and a stool under a sitting person."""
    color = person.appearance.skin if person.dress.kind == "gown" else person.dress.bottom
    knee, foot = ((0.52, -0.38), (0.95, -0.36)) if person.sitting else ((0.95, -0.02), (1.36, 0.0))
    bias = -0.06 if person.sitting else -0.2  # the legs of a standing person are under the clothes
    for side in (-1, 1):
        points = np.array(
            [
                (side * 0.085, 0.5, 0.0),
                (side * 0.1, *knee),
                (side * 0.1, *foot),
                (side * 0.11, foot[0] + 0.03, foot[1] - 0.13),
            ]
        )
        hip, knee_at, ankle, toe = person.to_camera(points)
        s = person.scale
        painter.capsule(hip, knee_at, 0.085 * s, 0.07 * s, color, bias=bias)
        painter.capsule(knee_at, ankle, 0.065 * s, 0.05 * s, color, bias=bias)
        painter.capsule(ankle, toe, 0.045 * s, 0.035 * s, (60, 52, 50), bias=-0.05)
    if person.sitting:
        seat = person.to_camera(np.array([(0, 0.62, 0.02), (0, 1.1, 0.05)]))
        painter.capsule(seat[0], seat[1], 0.17 * person.scale, 0.15 * person.scale, (90, 74, 62), bias=-0.12)


def _draw_cap(painter: Painter, person: PersonState) -> None:
    """Draw a service person's cap: a low crown and a peak in the colour of the apron."""
    turn, scale = np.linspace(0, 2 * np.pi, 14, endpoint=False), person.head_scale
    low = np.stack([0.088 * np.cos(turn), np.full(14, -0.075), 0.1 * np.sin(turn)], axis=1)
    high = low * [0.9, 1, 0.9] + [0, -0.06, 0]
    points = person.head_center + np.vstack([low, high]) @ person.head_rotation.T * scale
    hull = cv2.convexHull((points[:, :2] / points[:, 2:]).astype(np.float32), returnPoints=False)[:, 0]
    painter.polygon(points[hull], person.dress.top, bias=0.2, outline=0.003)
    peak = np.array([(-0.07, -0.075, -0.085), (0.07, -0.075, -0.085), (0.05, -0.062, -0.16), (-0.05, -0.062, -0.16)])
    if (person.head_rotation @ np.array([0, 0, -1.0])) @ person.to_lens > 0.1:
        painter.polygon(
            person.head_center + peak @ person.head_rotation.T * scale,
            darker(person.dress.top, 0.7),
            bias=0.2,
            outline=0.003,
        )
