"""Draws heads with gaze and expression.

The eyes show the gaze and the mouth shows the expression. Brows and lids vary at random and show neither, so hiding
the eyes or the mouth removes the information.
"""

from __future__ import annotations

import math

import numpy as np

from training.data.scenes.painter import Painter, darker, lighter
from training.data.scenes.person.appearance import AGES, ASSETS, AssetPool, FaceAppearance, sample_appearance
from training.data.scenes.person.hair import HAIR_STYLES, HairStyle, covers_ears, draw_hair, face_mask
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
from training.data.scenes.person.mouth import EXPRESSIONS, mouth_parts

__all__ = ["AGES", "ASSETS", "EXPRESSIONS", "AssetPool", "FaceAppearance", "draw_head", "sample_appearance"]

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
    appearance: FaceAppearance,
    rng: np.random.Generator | None = None,
    *,
    scale: float = 1.0,
    blink: float = 0.0,
    hide: frozenset[str] = frozenset(),
) -> np.ndarray:
    """Draw a head; return camera points (N, 3) of the face from forehead to chin and ear to ear, without hair.

    center (3,) camera metres; rotation (3, 3) head to camera, identity: facing the camera; gaze_direction (3,) unit
    vector in camera coordinates, which the eyes follow within 35 degrees of yaw and 25 of pitch from the head;
    intensity 0.6..1; blink 0 open .. 1 closed; hide: any of eyes, mouth, brows, left out as bare skin. `rng` varies
    brows, lids and mouth: pass generators of the same seed for a clip's frames, or None for the middle of each range.
    Raises ValueError for an unknown expression or region.
    """
    if expression not in EXPRESSIONS:
        raise ValueError(f"expression {expression!r} is none of {', '.join(EXPRESSIONS)}")
    if hide - HIDEABLE:
        raise ValueError(f"cannot hide {', '.join(sorted(hide - HIDEABLE))}; only {', '.join(sorted(HIDEABLE))}")
    jitter = rng.uniform(-1, 1, 10) if rng is not None else np.zeros(10)  # drawn before any branch: same for all faces
    canvas = HeadCanvas(painter, center, rotation, scale)
    style = HAIR_STYLES[appearance.hair_style]
    outline = canvas.to_camera(_FACE_POINTS)

    _draw_skin(canvas, appearance, style)
    draw_hair(canvas, style, appearance.hair_color, appearance.hat, appearance.hat_color)
    if not covers_ears(style, appearance.hat):
        _draw_ears(canvas, appearance)
    if canvas.towards_camera[2] > -np.cos(np.radians(BACK_OF_HEAD_DEG)):
        return outline
    facing = dict(zip(_FEATURES, canvas.cosine_to_camera(_FEATURE_POINTS, _FEATURE_NORMALS).tolist(), strict=True))
    _draw_complexion(canvas, appearance, facing)
    if "mouth" not in hide and facing["mouth", 0] > 0.05:
        _draw_mouth(canvas, appearance, expression, intensity, jitter[:3])
    sides = [side for side in (-1, 1) if facing["eye", side] > 0.06]
    if "eyes" not in hide:
        _draw_eyes(canvas, appearance, sides, np.asarray(gaze_direction, float) @ canvas.rotation, blink, jitter[3:5])
    if "brows" not in hide:
        for side in sides:
            _draw_brow(canvas, appearance, side, jitter[5:9])
    _draw_nose(canvas, appearance)
    if appearance.glasses:
        _draw_glasses(canvas, appearance, sides)
    canvas.finish()
    return outline


# (feature, side) -> position in the front view; a feature is drawn unless the head turns it away.
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


def _clamp(value: float, limit: float) -> float:
    return min(max(value, -limit), limit)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products (N, 3) of rows; np.cross would take a tenth of the time of a whole head."""
    return a[:, [1, 2, 0]] * b[:, [2, 0, 1]] - a[:, [2, 0, 1]] * b[:, [1, 2, 0]]


def _draw_skin(canvas: HeadCanvas, appearance: FaceAppearance, style: HairStyle) -> None:
    """Draw the skull and, over the hair, the bare face with its lit part and beard."""
    canvas.hull(HEAD_POINTS, darker(appearance.skin, 0.85), 0, outline=0.002)
    face = face_mask(style, appearance.hat)
    if canvas.towards_camera[2] > 0.75:
        return
    if canvas.towards_camera[2] > 0:  # from behind only the near cheek: a hull of both would cover the hair
        face = face & (HEAD_TURN * canvas.towards_camera[0] > 0)
    canvas.visible_hull(face, darker(appearance.skin, 0.86), 9, outline=0.0015)
    lit = face & (HEAD_NORMALS @ canvas.light > -0.3 * np.linalg.norm(canvas.light))
    canvas.visible_hull(lit, appearance.skin, 10)
    if appearance.beard in ("full", "stubble"):
        mix = 0.28 if appearance.beard == "stubble" else 0.75
        color = tuple((1 - mix) * a + mix * b for a, b in zip(appearance.skin, appearance.hair_color, strict=True))
        low = np.interp(np.abs(HEAD_TURN), np.radians([0, 25, 55, 85]), [0.42, 0.38, 0.3, 0.2])
        canvas.visible_hull(face & (low < HEAD_HEIGHT) & (np.abs(HEAD_TURN) < np.radians(85)), color, 11)


def _draw_ears(canvas: HeadCanvas, appearance: FaceAppearance) -> None:
    for side in (-1, 1):
        middle = np.array([side * (HALF_WIDTH_M + 0.002), -0.006, 0.012])
        along = np.array([side * 0.009, 0, 0.013])
        ring = middle + _RING @ np.stack([along, (0, 0.024, 0)])
        near = side * canvas.towards_camera[0] > 0.2
        canvas.shape(ring, darker(appearance.skin, 0.9), 14 if near else -1, outline=0.002)
        if near:
            canvas.shape(middle + (ring - middle) * 0.5, darker(appearance.skin, 0.68), 15)


def _draw_complexion(canvas: HeadCanvas, appearance: FaceAppearance, facing: dict[tuple[str, int], float]) -> None:
    """Draw cheeks, freckles, wrinkles and small beards: the flat details that never move."""
    cheek = _RING * (0.014, 0.010)
    crease = darker(appearance.skin, 0.72)
    red = tuple(
        c * f
        for c, f in zip(appearance.skin, (1.0, 1 - 0.3 * appearance.blush, 1 - 0.3 * appearance.blush), strict=True)
    )
    for side in (-1, 1):
        middle = np.array([side * CHEEK_X_M, CHEEK_Y_M])
        if facing["cheek", side] < 0.15:
            continue
        if appearance.blush > 0.15 and appearance.beard not in ("full", "stubble"):
            canvas.paint_on(middle + cheek, red, 12)
        if appearance.freckles:
            for dx, dy in ((-0.016, -0.008), (-0.008, 0.0), (0.0, -0.006)):
                freckle = middle + (side * dx, dy)
                canvas.paint_on(np.stack([freckle - (0.001, 0), freckle + (0.001, 0)]), crease, 13, 0.002)
        if appearance.age == "elder":
            for dy in (-0.006, 0.004):
                corner = np.array([side * (EYE_X_M + 0.024), EYE_Y_M + dy])
                canvas.paint_on(np.stack([corner, corner + (side * 0.009, dy * 0.6)]), crease, 13, 0.002)
            bag = np.array(
                [(side * (EYE_X_M + u * 0.015), EYE_Y_M + 0.021 - 0.004 * u * u) for u in (-1, -0.5, 0, 0.5, 1)]
            )
            canvas.paint_on(bag, crease, 13, 0.002)
    if appearance.age == "elder" and not appearance.hat and canvas.towards_camera[2] < -0.4:
        line = np.stack([np.linspace(-0.024, 0.024, 5), np.full(5, -0.060)], axis=1)
        canvas.paint_on(line, darker(appearance.skin, 0.84), 13, 0.0018)
    if appearance.beard == "goatee" and facing["chin", 0] > 0.05:
        goatee = np.array([(-0.022, 0.086), (0.022, 0.086), (0.016, 0.105), (-0.016, 0.105)])
        canvas.paint_on(goatee, appearance.hair_color, 13)
    if appearance.beard in ("moustache", "full") and facing["mouth", 0] > 0.05:
        moustache = np.array([(0, 0.032), (0.022, 0.039), (0.028, 0.048), (0, 0.045), (-0.028, 0.048), (-0.022, 0.039)])
        canvas.paint_on(moustache, darker(appearance.hair_color, 0.9), 13)


def _draw_mouth(
    canvas: HeadCanvas, appearance: FaceAppearance, expression: str, intensity: float, jitter: np.ndarray
) -> None:
    """Draw the mouth; on a turned head the smirk is on the visible side."""
    middle = np.array([0.0, MOUTH_Y_M])
    sideways = float(canvas.towards_camera[0])
    side = int(np.sign(sideways)) if abs(sideways) > 0.25 else (1 if jitter[0] >= 0 else -1)
    stretch = (1 + 0.07 * jitter[1], 1 + 0.07 * jitter[2])
    for index, part in enumerate(
        mouth_parts(expression, intensity, appearance.skin, appearance.lip_color, side, stretch)
    ):
        canvas.paint_on(middle + part.points, part.color, 16 + index, part.width)


def _draw_eyes(
    canvas: HeadCanvas,
    appearance: FaceAppearance,
    sides: list[int],
    gaze_in_head: np.ndarray,
    blink: float,
    jitter: np.ndarray,
) -> None:
    """Draw both eyes; `gaze_in_head` (3,) is the gaze in the head frame, `jitter` (2,) in -1..1 opens the lids."""
    yaw = _clamp(math.degrees(math.atan2(gaze_in_head[0], -gaze_in_head[2])), MAX_EYE_YAW_DEG)
    pitch = _clamp(math.degrees(math.asin(_clamp(gaze_in_head[1], 1.0))), MAX_EYE_PITCH_DEG)
    # Exaggerated at small angles: 10 degrees must be visible on a face 60 pixels high.
    iris = np.array([0.0145 * math.tanh(yaw / 19), 0.0095 * math.tanh(pitch / 13)]) * appearance.eye_size
    up, down = max(-iris[1], 0.0), max(iris[1], 0.0)
    opening = (1 - min(max(blink, 0.0), 1.0)) * appearance.eye_size
    high = ((1 + 0.1 * jitter[0]) * EYE_HALF_HEIGHT_M + 0.3 * up - 0.85 * down) * opening
    low = ((0.85 + 0.06 * jitter[1]) * EYE_HALF_HEIGHT_M + 0.25 * down - 0.35 * up) * opening
    closed_y = 0.5 * EYE_HALF_HEIGHT_M * (1 - opening / appearance.eye_size)
    x = EYE_HALF_WIDTH_M * appearance.eye_size * _EYE_U
    lid, floor = closed_y - high * _EYE_ARCH, closed_y + low * _EYE_ARCH
    lid_line = np.stack([x, lid], axis=1)
    parts = [(lid_line, darker(appearance.skin, 0.22), 33, 0.0034)]
    if blink < 0.85:
        white = np.concatenate([lid_line, np.stack([x, floor], axis=1)[::-1]])
        parts.append((np.concatenate([white, white[:1]]), darker(appearance.skin, 0.4), 29, 0.0034))
        parts.append((white, (252.0, 252.0, 250.0), 30, 0.0))
        for layer, radius, color in (
            (31, IRIS_RADIUS_M, appearance.iris_color),
            (32, 0.62 * IRIS_RADIUS_M, (10.0, 8.0, 10.0)),
        ):
            disc = iris + _RING * (radius * appearance.eye_size)
            disc[:, 0] = np.minimum(np.maximum(disc[:, 0], x[0]), x[-1])
            disc[:, 1] = np.maximum(disc[:, 1], np.interp(disc[:, 0], x, lid))
            disc[:, 1] = np.minimum(disc[:, 1], np.interp(disc[:, 0], x, floor))
            parts.append((disc, color, layer, 0.0))
    for side in sides:
        for points, color, layer, width in parts:
            canvas.paint_on(points + (side * EYE_X_M, EYE_Y_M), color, layer, width)


def _draw_brow(canvas: HeadCanvas, appearance: FaceAppearance, side: int, jitter: np.ndarray) -> None:
    """Draw a brow; its height and slant come from `jitter` (4,) in -1..1, never from the expression."""
    u = np.linspace(-1, 1, 7)
    lift = 0.004 * jitter[0] + 0.0015 * jitter[1] * side
    slant = 0.004 * jitter[2] + 0.001 * jitter[3] * side
    y = EYE_Y_M - 0.025 * appearance.eye_size - lift - 0.003 * (1 - u**2) + slant * u
    canvas.paint_on(
        np.stack([side * (EYE_X_M + 0.002 + 0.019 * u), y], axis=1), appearance.brow_color, 34, appearance.brow_width_m
    )


def _draw_nose(canvas: HeadCanvas, appearance: FaceAppearance) -> None:
    """Draw the nose; its lit and shaded flanks show the direction of the head."""
    size = appearance.nose_size
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
            canvas.shape(facets[index], darker(appearance.skin, shade), 36 + 0.5 * index)
    canvas.stroke(np.stack([left, foot, right]), darker(appearance.skin, 0.55), 39, 0.0025)
    canvas.stroke(np.stack([top, tip]), lighter(appearance.skin, 0.25), 40, 0.003)


def _draw_glasses(canvas: HeadCanvas, appearance: FaceAppearance, sides: list[int]) -> None:
    """Draw glasses with clear lenses: rings, a bridge and the arms to the ears."""
    corners = {"round": 14, "square": 4, "hexagon": 6, "cat_eye": 12}[appearance.glasses]
    turn = np.linspace(0, 2 * np.pi, corners + 1) + (np.pi / 4 if appearance.glasses == "square" else 0)
    ring = np.stack([np.cos(turn) * 0.027, np.sin(turn) * 0.024], axis=1) * (
        1.25 if appearance.glasses == "square" else 1.05
    )
    for side in sides:
        frame = ring * (side, 1)
        if appearance.glasses == "cat_eye":
            frame = frame + np.stack([0 * turn, -0.010 * np.maximum(np.cos(turn), 0) ** 2], axis=1)
        middle = np.array([side * (EYE_X_M + 0.001), EYE_Y_M + 0.001])
        placed = on_surface(middle + frame)
        placed[:, 2] = placed[:, 2].min() * 0.3 + placed[:, 2] * 0.7 - 0.006
        canvas.stroke(placed, appearance.glasses_color, 41, 0.0032)
        if side * canvas.towards_camera[0] > 0.15:
            outer = placed[np.argmax(side * placed[:, 0])]
            canvas.stroke(np.stack([outer, (side * HALF_WIDTH_M, -0.018, 0.0)]), appearance.glasses_color, 42, 0.0032)
    bridge = on_surface(np.array([(-0.007, EYE_Y_M), (0.007, EYE_Y_M)])) - (0, 0, 0.012)
    canvas.stroke(bridge, appearance.glasses_color, 42, 0.0032)
