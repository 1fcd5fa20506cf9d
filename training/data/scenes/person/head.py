"""Heads of drawn people, with gaze and expression.

Gaze lives in the eyes and the expression in the mouth. Brows and lids vary at random and carry neither, so that hiding
the eyes or the mouth really takes the information away.
"""

from __future__ import annotations

import math

import numpy as np

from training.data.scenes.painter import Painter, darker, lighter
from training.data.scenes.person.appearance import AGES, ASSETS, AssetPool, FaceLook, sample_face_look
from training.data.scenes.person.hair import HAIR_STYLES, HairStyle, covers_ears, draw_hair, face_mask
from training.data.scenes.person.mouth import EXPRESSIONS, mouth_parts
from training.data.scenes.person.head_canvas import (
    HALF_WIDTH_M,
    HEAD_HEIGHT,
    HEAD_NORMALS,
    HEAD_POINTS,
    HEAD_TURN,
    HeadCanvas,
    on_surface,
    surface_normal,
)

__all__ = ["AGES", "ASSETS", "EXPRESSIONS", "AssetPool", "FaceLook", "draw_head", "sample_face_look"]

HIDEABLE = frozenset({"eyes", "mouth", "brows"})

EYE_X_M, EYE_Y_M = 0.033, -0.020  # middle of an eye in the front view
EYE_HALF_WIDTH_M, EYE_HALF_HEIGHT_M = 0.0210, 0.0142
CHEEK_X_M, CHEEK_Y_M = 0.044, 0.024
MOUTH_Y_M = 0.062
IRIS_RADIUS_M = 0.0088
MAX_EYE_YAW_DEG, MAX_EYE_PITCH_DEG = 35.0, 25.0
BACK_OF_HEAD_DEG = 100.0


def draw_head(
    painter: Painter,
    center: np.ndarray,
    rotation: np.ndarray,
    gaze_direction: np.ndarray,
    expression: str,
    intensity: float,
    look: FaceLook,
    rng: np.random.Generator | None = None,
    *,
    scale: float = 1.0,
    blink: float = 0.0,
    hide: frozenset[str] = frozenset(),
) -> np.ndarray:
    """Draw a head; return camera points (N, 3) of the face from forehead to chin and ear to ear, without hair.

    center (3,) camera metres; rotation (3, 3) head to camera, identity: facing the camera; gaze_direction (3,) unit
    vector in camera coordinates, followed by the eyes within 35 degrees of yaw and 25 of pitch from the head;
    intensity 0.6..1; blink 0 open .. 1 closed; hide: any of eyes, mouth, brows, left out as bare skin. `rng` varies
    brows, lids and mouth; give a clip's frames generators of the same seed, or None for the middle of each range.
    Raises ValueError for an unknown expression or region.
    """
    if expression not in EXPRESSIONS:
        raise ValueError(f"expression {expression!r} is none of {', '.join(EXPRESSIONS)}")
    if hide - HIDEABLE:
        raise ValueError(f"cannot hide {', '.join(sorted(hide - HIDEABLE))}; only {', '.join(sorted(HIDEABLE))}")
    chance = rng.uniform(-1, 1, 10) if rng is not None else np.zeros(10)  # drawn before any branch: same for all faces
    canvas = HeadCanvas(painter, center, rotation, scale)
    style = HAIR_STYLES[look.hair_style]
    outline = canvas.to_camera(_FACE_POINTS)

    _draw_skin(canvas, look, style)
    draw_hair(canvas, style, look.hair_color, look.hat, look.hat_color)
    if not covers_ears(style, look.hat):
        _draw_ears(canvas, look)
    if canvas.towards_camera[2] > -np.cos(np.radians(BACK_OF_HEAD_DEG)):
        return outline
    seen = dict(zip(_FEATURES, canvas.cosine_to_camera(_FEATURE_POINTS, _FEATURE_NORMALS).tolist(), strict=True))
    _draw_complexion(canvas, look, seen)
    if "mouth" not in hide and seen["mouth", 0] > 0.05:
        _draw_mouth(canvas, look, expression, intensity, chance[:3])
    sides = [side for side in (-1, 1) if seen["eye", side] > 0.06]
    if "eyes" not in hide:
        _draw_eyes(canvas, look, sides, np.asarray(gaze_direction, float) @ canvas.rotation, blink, chance[3:5])
    if "brows" not in hide:
        for side in sides:
            _draw_brow(canvas, look, side, chance[5:9])
    _draw_nose(canvas, look)
    if look.glasses:
        _draw_glasses(canvas, look, sides)
    canvas.finish()
    return outline


# Features by name and side, with their places in the front view: hidden where the head turns them away.
_FEATURES = {
    ("eye", -1): (-EYE_X_M, EYE_Y_M),
    ("eye", 1): (EYE_X_M, EYE_Y_M),
    ("cheek", -1): (-CHEEK_X_M, CHEEK_Y_M),
    ("cheek", 1): (CHEEK_X_M, CHEEK_Y_M),
    ("mouth", 0): (0.0, MOUTH_Y_M),
    ("chin", 0): (0.0, 0.09),
}
_FEATURE_POINTS = on_surface(np.array(list(_FEATURES.values())))
_FEATURE_NORMALS = surface_normal(_FEATURE_POINTS)
_RING = np.stack([f(np.linspace(0, 2 * np.pi, 16, endpoint=False)) for f in (np.cos, np.sin)], axis=1)
_FACE_POINTS = HEAD_POINTS[(np.abs(HEAD_TURN) < np.radians(92)) & (HEAD_HEIGHT > -0.8)][::3]


_EYE_U = np.linspace(-1, 1, 11)
_EYE_ARCH = (1 - np.abs(_EYE_U) ** 2.4) ** 0.6


def _within(value: float, limit: float) -> float:
    return min(max(value, -limit), limit)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products (N, 3) of rows; numpy's own takes a tenth of the time of a whole head."""
    return a[:, [1, 2, 0]] * b[:, [2, 0, 1]] - a[:, [2, 0, 1]] * b[:, [1, 2, 0]]


def _draw_skin(canvas: HeadCanvas, look: FaceLook, style: HairStyle) -> None:
    """The skull, then over the hair the bare face with its lit part and beard."""
    canvas.hull(HEAD_POINTS, darker(look.skin, 0.85), 0, outline=0.002)
    face = face_mask(style, look.hat)
    if canvas.towards_camera[2] > 0.75:
        return
    if canvas.towards_camera[2] > 0:  # from behind, only the near cheek; a hull over both would cover the hair
        face = face & (HEAD_TURN * canvas.towards_camera[0] > 0)
    canvas.visible_hull(face, darker(look.skin, 0.86), 9, outline=0.0015)
    lit = face & (HEAD_NORMALS @ canvas.light > -0.3 * np.linalg.norm(canvas.light))
    canvas.visible_hull(lit, look.skin, 10)
    if look.beard in ("full", "stubble"):
        mix = 0.28 if look.beard == "stubble" else 0.75
        color = tuple((1 - mix) * a + mix * b for a, b in zip(look.skin, look.hair_color, strict=True))
        low = np.interp(np.abs(HEAD_TURN), np.radians([0, 25, 55, 85]), [0.42, 0.38, 0.3, 0.2])
        canvas.visible_hull(face & (low < HEAD_HEIGHT) & (np.abs(HEAD_TURN) < np.radians(85)), color, 11)


def _draw_ears(canvas: HeadCanvas, look: FaceLook) -> None:
    for side in (-1, 1):
        middle = np.array([side * (HALF_WIDTH_M + 0.002), -0.006, 0.012])
        along = np.array([side * 0.009, 0, 0.013])
        ring = middle + _RING @ np.stack([along, (0, 0.024, 0)])
        near = side * canvas.towards_camera[0] > 0.2
        canvas.shape(ring, darker(look.skin, 0.9), 14 if near else -1, outline=0.002)
        if near:
            canvas.shape(middle + (ring - middle) * 0.5, darker(look.skin, 0.68), 15)


def _draw_complexion(canvas: HeadCanvas, look: FaceLook, seen: dict[tuple[str, int], float]) -> None:
    """Cheeks, freckles, wrinkles and the small beards: everything flat that never moves."""
    cheek = _RING * (0.014, 0.010)
    crease = darker(look.skin, 0.72)
    red = tuple(c * f for c, f in zip(look.skin, (1.0, 1 - 0.3 * look.blush, 1 - 0.3 * look.blush), strict=True))
    for side in (-1, 1):
        middle = np.array([side * CHEEK_X_M, CHEEK_Y_M])
        if seen["cheek", side] < 0.15:
            continue
        if look.blush > 0.15 and look.beard not in ("full", "stubble"):
            canvas.paint_on(middle + cheek, red, 12)
        if look.freckles:
            for dx, dy in ((-0.016, -0.008), (-0.008, 0.0), (0.0, -0.006)):
                spot = middle + (side * dx, dy)
                canvas.paint_on(np.stack([spot - (0.001, 0), spot + (0.001, 0)]), crease, 13, 0.002)
        if look.age == "elder":
            for dy in (-0.006, 0.004):
                corner = np.array([side * (EYE_X_M + 0.024), EYE_Y_M + dy])
                canvas.paint_on(np.stack([corner, corner + (side * 0.009, dy * 0.6)]), crease, 13, 0.002)
            bag = np.array(
                [(side * (EYE_X_M + u * 0.015), EYE_Y_M + 0.021 - 0.004 * u * u) for u in (-1, -0.5, 0, 0.5, 1)]
            )
            canvas.paint_on(bag, crease, 13, 0.002)
    if look.age == "elder" and not look.hat and canvas.towards_camera[2] < -0.4:
        line = np.stack([np.linspace(-0.024, 0.024, 5), np.full(5, -0.060)], axis=1)
        canvas.paint_on(line, darker(look.skin, 0.84), 13, 0.0018)
    if look.beard == "goatee" and seen["chin", 0] > 0.05:
        goatee = np.array([(-0.022, 0.086), (0.022, 0.086), (0.016, 0.105), (-0.016, 0.105)])
        canvas.paint_on(goatee, look.hair_color, 13)
    if look.beard in ("moustache", "full") and seen["mouth", 0] > 0.05:
        moustache = np.array([(0, 0.032), (0.022, 0.039), (0.028, 0.048), (0, 0.045), (-0.028, 0.048), (-0.022, 0.039)])
        canvas.paint_on(moustache, darker(look.hair_color, 0.9), 13)


def _draw_mouth(canvas: HeadCanvas, look: FaceLook, expression: str, intensity: float, chance: np.ndarray) -> None:
    """The mouth; a smirk is put on the side that the camera sees when the head is turned."""
    middle = np.array([0.0, MOUTH_Y_M])
    sideways = float(canvas.towards_camera[0])
    side = int(np.sign(sideways)) if abs(sideways) > 0.25 else (1 if chance[0] >= 0 else -1)
    stretch = (1 + 0.07 * chance[1], 1 + 0.07 * chance[2])
    for index, part in enumerate(mouth_parts(expression, intensity, look.skin, look.lip_color, side, stretch)):
        canvas.paint_on(middle + part.points, part.color, 16 + index, part.width)


def _draw_eyes(
    canvas: HeadCanvas, look: FaceLook, sides: list[int], eye_look: np.ndarray, blink: float, chance: np.ndarray
) -> None:
    """Both eyes alike; `eye_look` (3,) is the gaze in the head frame, `chance` (2,) in -1..1 opens the lids."""
    yaw = _within(math.degrees(math.atan2(eye_look[0], -eye_look[2])), MAX_EYE_YAW_DEG)
    pitch = _within(math.degrees(math.asin(_within(eye_look[1], 1.0))), MAX_EYE_PITCH_DEG)
    # A drawn eye turns more than a real one at small angles: 10 degrees must show on a face 60 pixels high.
    iris = np.array([0.0145 * math.tanh(yaw / 19), 0.0095 * math.tanh(pitch / 13)]) * look.eye_size
    up, down = max(-iris[1], 0.0), max(iris[1], 0.0)
    opening = (1 - min(max(blink, 0.0), 1.0)) * look.eye_size
    high = ((1 + 0.1 * chance[0]) * EYE_HALF_HEIGHT_M + 0.3 * up - 0.85 * down) * opening
    low = ((0.85 + 0.06 * chance[1]) * EYE_HALF_HEIGHT_M + 0.25 * down - 0.35 * up) * opening
    closed_y = 0.5 * EYE_HALF_HEIGHT_M * (1 - opening / look.eye_size)
    x = EYE_HALF_WIDTH_M * look.eye_size * _EYE_U
    lid, floor = closed_y - high * _EYE_ARCH, closed_y + low * _EYE_ARCH
    lid_line = np.stack([x, lid], axis=1)
    parts = [(lid_line, darker(look.skin, 0.22), 33, 0.0034)]
    if blink < 0.85:
        white = np.concatenate([lid_line, np.stack([x, floor], axis=1)[::-1]])
        parts.append((np.concatenate([white, white[:1]]), darker(look.skin, 0.4), 29, 0.0034))
        parts.append((white, (252.0, 252.0, 250.0), 30, 0.0))
        for layer, radius, color in (
            (31, IRIS_RADIUS_M, look.iris_color),
            (32, 0.62 * IRIS_RADIUS_M, (10.0, 8.0, 10.0)),
        ):
            disc = iris + _RING * (radius * look.eye_size)
            disc[:, 0] = np.minimum(np.maximum(disc[:, 0], x[0]), x[-1])
            disc[:, 1] = np.maximum(disc[:, 1], np.interp(disc[:, 0], x, lid))
            disc[:, 1] = np.minimum(disc[:, 1], np.interp(disc[:, 0], x, floor))
            parts.append((disc, color, layer, 0.0))
    for side in sides:
        for points, color, layer, width in parts:
            canvas.paint_on(points + (side * EYE_X_M, EYE_Y_M), color, layer, width)


def _draw_brow(canvas: HeadCanvas, look: FaceLook, side: int, chance: np.ndarray) -> None:
    """A brow whose height and slant are chance (4,) in -1..1, never the expression."""
    u = np.linspace(-1, 1, 7)
    lift = 0.004 * chance[0] + 0.0015 * chance[1] * side
    slant = 0.004 * chance[2] + 0.001 * chance[3] * side
    y = EYE_Y_M - 0.025 * look.eye_size - lift - 0.003 * (1 - u**2) + slant * u
    canvas.paint_on(np.stack([side * (EYE_X_M + 0.002 + 0.019 * u), y], axis=1), look.brow_color, 34, look.brow_width_m)


def _draw_nose(canvas: HeadCanvas, look: FaceLook) -> None:
    """A nose that stands off the face: its lit and shaded flanks tell where the head points."""
    size = look.nose_size
    base = on_surface(np.array([(0.0, -0.018), (-0.014 * size, 0.024), (0.014 * size, 0.024), (0.0, 0.031)]))
    top, left, right, foot = base
    tip = np.array([0.0, 0.020, base[3, 2] - 0.026 * size])
    light = canvas.light / np.linalg.norm(canvas.light)
    facets = np.array([(top, tip, left), (top, right, tip), (left, tip, foot), (tip, right, foot)])
    normals = _cross(facets[:, 1] - facets[:, 0], facets[:, 2] - facets[:, 0])
    normals *= np.where(normals[:, 2] > 0, -1, 1)[:, None] / np.sqrt((normals**2).sum(axis=1, keepdims=True))
    for index, (towards, lit) in enumerate(zip(normals @ (canvas.eye_point - tip), normals @ light, strict=True)):
        if towards > 0:
            shade = 0.80 + 0.2 * max(lit, -0.6) - (0.16 if index > 1 else 0.0)
            canvas.shape(facets[index], darker(look.skin, shade), 36 + 0.5 * index)
    canvas.stroke(np.stack([left, foot, right]), darker(look.skin, 0.55), 39, 0.0025)
    canvas.stroke(np.stack([top, tip]), lighter(look.skin, 0.25), 40, 0.003)


def _draw_glasses(canvas: HeadCanvas, look: FaceLook, sides: list[int]) -> None:
    """Clear lenses: rings, a bridge and the arms back to the ears."""
    corners = {"round": 14, "square": 4, "hexagon": 6, "cat_eye": 12}[look.glasses]
    turn = np.linspace(0, 2 * np.pi, corners + 1) + (np.pi / 4 if look.glasses == "square" else 0)
    ring = np.stack([np.cos(turn) * 0.027, np.sin(turn) * 0.024], axis=1) * (1.25 if look.glasses == "square" else 1.05)
    for side in sides:
        frame = ring * (side, 1)
        if look.glasses == "cat_eye":
            frame = frame + np.stack([0 * turn, -0.010 * np.maximum(np.cos(turn), 0) ** 2], axis=1)
        middle = np.array([side * (EYE_X_M + 0.001), EYE_Y_M + 0.001])
        placed = on_surface(middle + frame)
        placed[:, 2] = placed[:, 2].min() * 0.3 + placed[:, 2] * 0.7 - 0.006
        canvas.stroke(placed, look.glasses_color, 41, 0.0032)
        if side * canvas.towards_camera[0] > 0.15:
            outer = placed[np.argmax(side * placed[:, 0])]
            canvas.stroke(np.stack([outer, (side * HALF_WIDTH_M, -0.018, 0.0)]), look.glasses_color, 42, 0.0032)
    bridge = on_surface(np.array([(-0.007, EYE_Y_M), (0.007, EYE_Y_M)])) - (0, 0, 0.012)
    canvas.stroke(bridge, look.glasses_color, 42, 0.0032)
