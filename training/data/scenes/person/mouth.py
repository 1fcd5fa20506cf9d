"""The eight expressions as flat shapes around the middle of the mouth.

The mouth and its folds show the whole expression of a drawn face, so hiding them hides the expression.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.data.scenes.painter import darker, lighter

EXPRESSIONS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")

_T = np.linspace(-1, 1, 13)
_CIRCLE = np.linspace(0, 2 * np.pi, 18, endpoint=False)
_INSIDE = (52.0, 14.0, 18.0)
_SEAM = (46.0, 16.0, 18.0)  # the line between closed lips: dark on any skin
_TEETH = (250.0, 248.0, 240.0)
_TONGUE = (226.0, 92.0, 104.0)


@dataclass(frozen=True)
class MouthPart:
    """A filled shape or, with `width`, an open line, in metres around the middle of the mouth (y down)."""

    points: np.ndarray  # (N, 2)
    color: tuple[float, float, float]
    width: float = 0.0  # metres; 0: filled


def mouth_parts(
    expression: str, intensity: float, skin, lips, side: int, stretch: tuple[float, float]
) -> list[MouthPart]:
    """The parts of a mouth, in painting order.

    intensity 0.6..1; skin and lips RGB; side -1 or 1, the raised corner of a smirk; stretch: width and height factors.
    Raises ValueError for an unknown expression.
    """
    if expression not in _MOUTHS:
        raise ValueError(f"expression {expression!r} is none of {', '.join(EXPRESSIONS)}")
    parts = _MOUTHS[expression](0.35 + 0.65 * intensity, skin, lips, side)
    return [MouthPart(part.points * stretch, part.color, part.width) for part in parts]


def _between(top: np.ndarray, bottom: np.ndarray, half_width: float) -> np.ndarray:
    """The closed shape (2N, 2) between two curves over the mouth's width."""
    x = half_width * _T
    return np.vstack([np.stack([x, top], axis=1), np.stack([x, bottom], axis=1)[::-1]])


def _curve(y: np.ndarray, half_width: float) -> np.ndarray:
    return np.stack([half_width * _T, y], axis=1)


def _ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    return np.stack([x + rx * np.cos(_CIRCLE), y + ry * np.sin(_CIRCLE)], axis=1)


def _both_sides(points: list[tuple[float, float]], color, width: float) -> list[MouthPart]:
    """A fold on the right and its mirror image."""
    line = np.array(points)
    return [MouthPart(line, color, width), MouthPart(line * (-1, 1), color, width)]


def _crease(skin) -> tuple[float, float, float]:
    return darker(skin, 0.55)


def _neutral(k, skin, lips, side) -> list[MouthPart]:
    bow = 1 - _T**2
    flat = 0.0 * _T
    return [
        MouthPart(_between(flat - 0.0045 * bow, flat + 0.006 * bow, 0.021), lips),
        MouthPart(_curve(flat, 0.023), _SEAM, 0.0025),
    ]


def _happiness(k, skin, lips, side) -> list[MouthPart]:
    top = 0.003 - 0.014 * k * _T**2
    bottom = top + 0.031 * k * (1 - _T**2) ** 0.75
    half = 0.029 + 0.008 * k
    return [
        *_both_sides([(0.025, -0.026), (0.039, -0.016), (0.042, -0.002)], _crease(skin), 0.003),
        MouthPart(_between(top - 0.004, bottom + 0.004, half + 0.002), darker(lips, 0.85)),
        MouthPart(_between(top, bottom, half), _INSIDE),
        MouthPart(_between(top, top + 0.5 * (bottom - top), half * 0.95), _TEETH),
    ]


def _sadness(k, skin, lips, side) -> list[MouthPart]:
    arc = -0.009 * k + 0.022 * k * _T**2
    half = 0.026
    pout = 1 - (_T / 0.75) ** 2
    return [
        *_both_sides([(0.028, 0.012), (0.032, 0.022), (0.031, 0.031)], _crease(skin), 0.003),
        MouthPart(_curve(0.024 + 0.006 * _T**2, 0.012), _crease(skin), 0.003),
        MouthPart(_between(arc, arc + 0.011 * np.maximum(pout, 0), half), lighter(lips, 0.1)),
        MouthPart(_curve(arc, half), _SEAM, 0.005),
    ]


def _surprise(k, skin, lips, side) -> list[MouthPart]:
    rx, ry = 0.010 + 0.006 * k, 0.011 + 0.013 * k
    return [
        MouthPart(_ellipse(0, 0.006, rx + 0.005, ry + 0.005), lips),
        MouthPart(_ellipse(0, 0.006, rx, ry), _INSIDE),
    ]


def _fear(k, skin, lips, side) -> list[MouthPart]:
    square = (1 - _T**8) ** 0.5
    sag = 0.007 * k * _T**2
    half, high = 0.031 + 0.009 * k, 0.007 + 0.007 * k
    top, bottom = sag - high * square, sag + high * square
    return [
        *_both_sides([(0.045, -0.008), (0.049, 0.006), (0.046, 0.020)], _crease(skin), 0.003),
        MouthPart(_between(top - 0.003, bottom + 0.003, half + 0.002), darker(lips, 0.8)),
        MouthPart(_between(top, bottom, half), _INSIDE),
        MouthPart(_between(top, top + 0.55 * high * square, half * 0.97), _TEETH),
        MouthPart(_between(bottom - 0.5 * high * square, bottom, half * 0.97), _TEETH),
    ]


def _disgust(k, skin, lips, side) -> list[MouthPart]:
    top = -0.002 - 0.012 * k * (1 - np.abs(_T) ** 1.5) + 0.006 * _T**2
    bottom = 0.004 + 0.006 * _T**2 + 0.0 * top
    down = 0.012 + 0.020 * k
    tongue = np.array(
        [(-0.013, -0.001), (0.013, -0.001), (0.014, down * 0.7), (0.009, down), (-0.009, down), (-0.014, down * 0.7)]
    )
    return [
        *_both_sides([(0.019, -0.030), (0.030, -0.018), (0.034, -0.002)], _crease(skin), 0.0035),
        MouthPart(_between(top - 0.005, bottom + 0.003, 0.026), lips),
        MouthPart(_between(top, bottom, 0.024), _INSIDE),
        MouthPart(tongue * (1.12, 1.06), darker(_TONGUE, 0.5)),
        MouthPart(tongue, _TONGUE),
        MouthPart(np.array([(0, 0.004), (0, down * 0.8)]), darker(_TONGUE, 0.65), 0.0025),
    ]


def _anger(k, skin, lips, side) -> list[MouthPart]:
    square = (1 - _T**10) ** 0.5
    arch = 0.008 * k * _T**2 - 0.003
    half, high = 0.026, 0.007 + 0.007 * k
    top, bottom = arch - high * square, arch + high * square
    bars = [
        MouthPart(
            np.array([(half * u, arch[6] - high * 0.8 + 0.008 * k * u * u), (half * u, arch[6] + high * 0.9)]),
            _INSIDE,
            0.0025,
        )
        for u in (-0.62, -0.2, 0.2, 0.62)
    ]
    return [
        MouthPart(_curve(0.030 + 0.006 * _T**2, 0.014), _crease(skin), 0.0035),
        MouthPart(_between(top - 0.006, bottom + 0.006, half + 0.005), darker(lips, 0.5)),
        MouthPart(_between(top, bottom, half), _TEETH),
        MouthPart(_curve(arch, half), _INSIDE, 0.0035),
        *bars,
    ]


def _contempt(k, skin, lips, side) -> list[MouthPart]:
    rise = (0.5 + 0.5 * _T) ** 1.6
    arc = 0.004 - 0.024 * k * rise
    half = np.array([side, 1.0])
    parts = [
        MouthPart(_between(arc - 0.003 * (1 - _T**2), arc + 0.010 * (1 - _T**2), 0.027), lighter(lips, 0.1)),
        MouthPart(_curve(arc, 0.029), _SEAM, 0.005),
        MouthPart(np.array([(0.026, -0.034), (0.040, -0.026), (0.043, -0.012), (0.038, 0.000)]), _crease(skin), 0.004),
    ]
    return [MouthPart(part.points * half, part.color, part.width) for part in parts]


_MOUTHS = dict(
    zip(EXPRESSIONS, (_neutral, _happiness, _sadness, _surprise, _fear, _disgust, _anger, _contempt), strict=True)
)
