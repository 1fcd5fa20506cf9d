"""Draws hair and hats; each style is a few numbers, and the test split has styles of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.data.scenes.painter import darker, lighter
from training.data.scenes.person.head_canvas import (
    HALF_DEPTH_M,
    HALF_HEIGHT_M,
    HALF_WIDTH_M,
    HEAD_HEIGHT,
    HEAD_TURN,
    HeadCanvas,
)

_TURNS = np.radians([0, 40, 62, 85, 110, 180])
BACK_LAYER, HAIR_LAYER, TOP_LAYER = -4.0, 4.0, 50.0


@dataclass(frozen=True)
class HairStyle:
    """The lower edge of the hair (height -1 crown .. 1 chin, at six angles from the face) and its extra parts."""

    ends: tuple[float, float, float, float, float, float]  # at 0, 40, 62, 85, 110 and 180 degrees
    volume: float = 1.06  # size relative to the skull
    part: float = 0.0  # height added on the right side and taken from the left
    curtain: float = 0.0  # metres that hair hangs below the ears at the sides and back
    extra: str = ""  # bun | tail | pigtails | curls | spikes | crest | knot


TRAIN_HAIR = {
    "bald": HairStyle((-2, -2, -2, -2, -2, -2), 1.0),
    "buzz": HairStyle((-0.66, -0.62, -0.4, -0.05, 0.42, 0.66), 1.015),
    "short": HairStyle((-0.58, -0.55, -0.35, 0.05, 0.5, 0.72), 1.07),
    "side_part": HairStyle((-0.58, -0.5, -0.3, 0.1, 0.5, 0.72), 1.09, part=0.12),
    "bob": HairStyle((-0.52, -0.4, -0.1, 0.5, 0.7, 0.75), 1.1, curtain=0.05),
    "long": HairStyle((-0.64, -0.5, -0.1, 0.5, 0.8, 0.9), 1.1, curtain=0.16),
    "ponytail": HairStyle((-0.66, -0.62, -0.42, -0.05, 0.42, 0.66), 1.05, extra="tail"),
    "bun": HairStyle((-0.66, -0.62, -0.42, -0.05, 0.42, 0.66), 1.05, extra="bun"),
    "afro": HairStyle((-0.6, -0.52, -0.25, 0.1, 0.55, 0.75), 1.3),
    "fringe": HairStyle((-0.42, -0.42, -0.2, 0.3, 0.6, 0.76), 1.09),
}
TEST_HAIR = {
    "crest": HairStyle((-0.72, -0.72, -0.6, -0.45, -0.3, -0.2), 1.01, extra="crest"),
    "spikes": HairStyle((-0.6, -0.58, -0.38, 0.0, 0.42, 0.68), 1.06, extra="spikes"),
    "pigtails": HairStyle((-0.6, -0.52, -0.36, 0.0, 0.42, 0.68), 1.07, part=0.05, extra="pigtails"),
    "curls": HairStyle((-0.58, -0.5, -0.25, 0.15, 0.55, 0.75), 1.14, extra="curls"),
    "top_knot": HairStyle((-0.7, -0.64, -0.45, -0.1, 0.35, 0.62), 1.03, extra="knot"),
    "wavy_long": HairStyle((-0.5, -0.42, -0.05, 0.4, 0.7, 0.8), 1.16, part=-0.1, curtain=0.11),
    "receding": HairStyle((-1.2, -0.8, -0.45, 0.0, 0.42, 0.68), 1.04),
}
TRAIN_HATS = ("beanie", "cap", "headscarf")
TEST_HATS = ("sun_hat", "turban")
HAIR_STYLES = TRAIN_HAIR | TEST_HAIR

_HAT_ENDS = {
    "beanie": (-0.55, -0.52, -0.45, -0.3, -0.15, 0.0),
    "cap": (-0.62, -0.58, -0.5, -0.35, -0.25, -0.2),
    "headscarf": (-0.6, -0.5, -0.05, 0.95, 1.0, 1.0),
    "sun_hat": (-0.6, -0.58, -0.5, -0.4, -0.35, -0.3),
    "turban": (-0.48, -0.5, -0.45, -0.25, -0.15, -0.1),
}
_HAT_VOLUME = {"beanie": 1.12, "cap": 1.1, "headscarf": 1.13, "sun_hat": 1.12, "turban": 1.24}


def hair_mask(ends: tuple[float, ...], part: float = 0.0) -> np.ndarray:
    """Mask (N,) bool of the head samples above the lower edge of the hair."""
    return np.interp(np.abs(HEAD_TURN), _TURNS, ends) + part * np.sin(HEAD_TURN) > HEAD_HEIGHT


def face_mask(style: HairStyle, hat: str) -> np.ndarray:
    """Mask (N,) bool of the head samples of bare skin: the front, below hair and hat, back to the ears."""
    bare = ~hair_mask(style.ends, style.part) & (np.abs(HEAD_TURN) < np.radians(98))
    return bare & ~hair_mask(_HAT_ENDS[hat]) if hat else bare


def covers_ears(style: HairStyle, hat: str) -> bool:
    """Whether hair or hat hide the ears."""
    return style.curtain > 0 or style.volume > 1.2 or hat == "headscarf"


def draw_hair(canvas: HeadCanvas, style: HairStyle, color, hat: str, hat_color) -> None:
    """Draw hair and hat; the face has later layers and is painted over them."""
    if hat != "headscarf":
        if style.curtain > 0:
            _draw_curtain(canvas, style, color)
        mask = hair_mask(style.ends, style.part)
        if mask.any():
            canvas.visible_hull(mask, color, HAIR_LAYER, inflate=style.volume, outline=0.002)
            lit = mask & (canvas.facing > 0.3) & (HEAD_HEIGHT < -0.5)
            canvas.visible_hull(lit, lighter(color, 0.12), HAIR_LAYER + 1, inflate=style.volume * 0.97)
        if not hat:
            _draw_extra(canvas, style, color)
    if hat:
        _draw_hat(canvas, hat, hat_color)


def _draw_curtain(canvas: HeadCanvas, style: HairStyle, color) -> None:
    """Draw hair that hangs beside and behind the neck: behind the head, or in front of the neck from the back."""
    turn = np.radians(np.linspace(75, 285, 14))
    x, z = HALF_WIDTH_M * 1.12 * np.sin(turn), -HALF_DEPTH_M * 1.05 * np.cos(turn)
    low = 0.04 + style.curtain
    points = np.concatenate(
        [np.stack([x * f, np.full_like(x, y), z], 1) for f, y in ((1.0, -0.03), (1.08, low * 0.6), (0.9, low))]
    )
    away = canvas.towards_camera[2] > 0.15
    canvas.hull(points, darker(color, 1.0 if away else 0.8), HAIR_LAYER - 0.5 if away else -110.0, outline=0.002)


def _draw_extra(canvas: HeadCanvas, style: HairStyle, color) -> None:
    """Draw the parts of a style that stand off the skull."""
    behind = canvas.towards_camera[2] > 0
    layer = TOP_LAYER if behind else BACK_LAYER
    top, back = -HALF_HEIGHT_M, HALF_DEPTH_M
    if style.extra == "tail":
        canvas.limb(np.array([0, -0.05, back * 1.1]), np.array([0, 0.10, back * 1.45]), 0.028, 0.014, color, layer)
    elif style.extra == "bun":
        canvas.ball(np.array([0, top * 0.6, back * 1.1]), 0.042, color, layer)
    elif style.extra == "knot":
        canvas.ball(np.array([0, top * 1.22, 0.015]), 0.033, color, BACK_LAYER)
    elif style.extra == "pigtails":
        for side in (-1, 1):
            near = TOP_LAYER if side * canvas.towards_camera[0] > 0.35 else BACK_LAYER
            start = np.array([side * HALF_WIDTH_M * 1.1, -0.035, 0.03])
            canvas.limb(start, start + (side * 0.05, 0.10, 0.01), 0.026, 0.014, color, near)
    elif style.extra == "curls":
        for turn in np.radians(np.arange(-150, 151, 50)):
            point = np.array([np.sin(turn) * HALF_WIDTH_M, top * 0.75, -np.cos(turn) * HALF_DEPTH_M * 0.75])
            seen = point @ canvas.towards_camera > 0
            canvas.ball(point * 1.08, 0.036, color, HAIR_LAYER + 2 if seen else BACK_LAYER)
    elif style.extra == "spikes":
        for turn in np.radians(np.arange(0, 360, 60)):
            foot = np.array([np.sin(turn) * 0.05, top * 0.88, -np.cos(turn) * 0.06])
            across = np.array([np.cos(turn), 0, np.sin(turn)]) * 0.026
            canvas.shape(np.stack([foot - across, foot * 1.5, foot + across]), color, BACK_LAYER, outline=0.002)
    elif style.extra == "crest":
        turn = np.radians(np.linspace(-45, 110, 9))
        arc = np.stack([0 * turn, -np.cos(turn) * HALF_HEIGHT_M, np.sin(turn) * HALF_DEPTH_M], axis=1)
        if abs(canvas.towards_camera[0]) > 0.4:  # a crescent from the side, a stripe from front and back
            canvas.shape(np.concatenate([arc * 0.97, arc[::-1] * 1.28]), color, HAIR_LAYER + 2, outline=0.006)
        else:
            seen = arc[arc @ canvas.towards_camera > -0.03]
            wide = np.array([0.017, 0, 0])
            stripe = np.concatenate([seen - wide, seen + wide, seen * 1.28 - wide * 0.6, seen * 1.28 + wide * 0.6])
            canvas.hull(stripe, color, HAIR_LAYER + 2, outline=0.002)


def _draw_hat(canvas: HeadCanvas, hat: str, color) -> None:
    mask, volume = hair_mask(_HAT_ENDS[hat]), _HAT_VOLUME[hat]
    canvas.visible_hull(mask, color, HAIR_LAYER + 3, inflate=volume, outline=0.002)
    lit = mask & (canvas.facing > 0.35) & (HEAD_HEIGHT < -0.4)
    canvas.visible_hull(lit, lighter(color, 0.15), HAIR_LAYER + 3.4, inflate=volume * 0.96)
    turn = np.radians(np.linspace(0, 360, 24, endpoint=False))
    if hat == "beanie":
        band = (np.abs(HEAD_HEIGHT - np.interp(np.abs(HEAD_TURN), _TURNS, _HAT_ENDS[hat])) < 0.14) & (
            canvas.facing > -0.1
        )
        canvas.visible_hull(band & (HEAD_HEIGHT > -0.75), darker(color, 0.75), HAIR_LAYER + 3.7, inflate=1.13)
    elif hat == "cap":
        front = np.radians(np.linspace(-62, 62, 11))
        rim = np.stack(
            [np.sin(front) * HALF_WIDTH_M * 0.98, np.full(11, -0.062), -np.cos(front) * HALF_DEPTH_M * 0.95], 1
        )
        peak = np.stack(
            [np.sin(front) * HALF_WIDTH_M * 0.9, np.full(11, -0.056), -np.cos(front) * HALF_DEPTH_M * 1.65], 1
        )
        behind = canvas.towards_camera[2] > 0.1
        canvas.hull(np.vstack([rim, peak]), darker(color, 0.7), BACK_LAYER if behind else TOP_LAYER, outline=0.002)
    elif hat == "sun_hat":
        brim = np.stack([np.sin(turn) * 0.15, np.full(24, -0.062), -np.cos(turn) * 0.165], axis=1)
        from_below = canvas.towards_camera[1] > 0.35
        canvas.shape(brim, darker(color, 0.82), BACK_LAYER if from_below else HAIR_LAYER + 3.2, outline=0.003)
        canvas.visible_hull(mask & (HEAD_HEIGHT > -0.78), darker(color, 0.5), HAIR_LAYER + 3.3, inflate=volume)
