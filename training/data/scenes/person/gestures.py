"""The 33 HaGRIDv2 gestures as hand shapes: extended fingers, their spread, and the direction of the palm.

Hand frame: u towards the thumb, v along the fingers, n out of the palm; the wrist is the origin, metres at scale 1.
Shapes are those of the person's right hand; arms.py mirrors them. Directions of whole hands are in the body frame (x to
the person's left, y down, z into the person); (0, 0, -1) faces the camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# In the order of the answer letters a..ag (paper's prompt for HaGRIDv2).
GESTURES: tuple[str, ...] = (
    "call", "like", "dislike", "fist", "one", "three", "three2", "three3", "four", "mute", "ok", "palm", "peace",
    "peace_inverted", "rock", "stop", "stop_inverted", "two_up", "two_up_inverted", "grabbing", "grip", "point",
    "little_finger", "middle_finger", "three_gun", "thumb_index", "thumb_index2", "holy", "timeout", "take_picture",
    "xsign", "hand_heart", "hand_heart2",
)  # fmt: skip
TWO_HANDED: frozenset[str] = frozenset(
    ("thumb_index2", "holy", "timeout", "take_picture", "xsign", "hand_heart", "hand_heart2")
)

FINGER_STARTS = (5, 9, 13, 17)  # joint numbers of the knuckles of index .. pinkie, of 21
# Knuckles (u, v, n) and the three bone lengths of index, middle, ring and pinkie, a little longer than in life.
KNUCKLES = np.array([[0.034, 0.086, 0.0], [0.011, 0.090, 0.0], [-0.012, 0.086, 0.0], [-0.034, 0.077, 0.0]])
BONES = np.array([[0.046, 0.030, 0.024], [0.051, 0.032, 0.025], [0.047, 0.030, 0.024], [0.041, 0.026, 0.022]])

# A finger is (splay towards the thumb, flexion at knuckle, middle and end joint) in degrees.
Finger = tuple[float, float, float, float]
CURLED = (78.0, 98.0, 55.0)
CLAW = (12.0, 62.0, 48.0)
RELAXED = (22.0, 28.0, 18.0)

# A thumb is its four joints (u, v, n): base, knuckle, middle joint, tip.
Thumb = tuple[tuple[float, float, float], ...]
THUMBS: dict[str, Thumb] = {
    "across": ((0.028, 0.022, 0.010), (0.040, 0.046, 0.030), (0.020, 0.062, 0.058), (-0.010, 0.058, 0.062)),
    "folded": ((0.026, 0.024, 0.010), (0.030, 0.044, 0.024), (0.008, 0.058, 0.030), (-0.018, 0.060, 0.030)),
    "out": ((0.028, 0.022, 0.006), (0.060, 0.044, 0.006), (0.089, 0.066, 0.004), (0.114, 0.085, 0.000)),
    "side": ((0.028, 0.030, 0.006), (0.064, 0.036, 0.006), (0.102, 0.038, 0.004), (0.136, 0.040, 0.000)),
    "along": ((0.028, 0.022, 0.006), (0.052, 0.046, 0.006), (0.060, 0.074, 0.004), (0.058, 0.104, 0.000)),
    "claw": ((0.028, 0.022, 0.010), (0.066, 0.040, 0.016), (0.092, 0.062, 0.034), (0.086, 0.076, 0.058)),
    "ring": ((0.028, 0.020, 0.006), (0.066, 0.028, 0.014), (0.094, 0.050, 0.020), (0.092, 0.084, 0.022)),
    "round": ((0.030, 0.015, 0.012), (0.034, 0.012, 0.052), (0.034, 0.036, 0.086), (0.030, 0.080, 0.092)),
}
# The index finger of the ok ring, from knuckle to tip: it meets the "ring" thumb.
OK_INDEX = ((0.034, 0.086, 0.000), (0.060, 0.128, 0.010), (0.088, 0.120, 0.020), (0.092, 0.090, 0.024))

UP, DOWN, INWARD, FRONT, BACK = (np.array(v, float) for v in ((0, -1, 0), (0, 1, 0), (1, 0, 0), (0, 0, -1), (0, 0, 1)))


@dataclass(frozen=True)
class Shape:
    """Articulation and orientation of one hand."""

    fingers: tuple[Finger, Finger, Finger, Finger]  # index, middle, ring, pinkie
    thumb: str  # a key of THUMBS
    along: np.ndarray  # (3,) direction of straight fingers, body frame
    palm: np.ndarray  # (3,) direction of the palm, body frame
    turn_deg: float = 14.0  # largest random turn of the whole hand out of the image plane


def _shape(
    out: dict[int, float],
    thumb: str = "across",
    *,
    palm: np.ndarray = FRONT,
    along: np.ndarray = UP,
    bend: tuple[float, float, float] = CURLED,
    turn_deg: float = 14.0,
) -> Shape:
    """A hand whose fingers in `out` (0 index .. 3 pinkie -> splay in degrees) are straight and the others bent."""
    spread = (3.0, 1.0, -1.0, -4.0)
    fingers = tuple((out[i], 2.0, 3.0, 2.0) if i in out else (spread[i], *bend) for i in range(4))
    return Shape(fingers, thumb, along, palm, turn_deg)


_TOGETHER = {0: 0.0, 1: 0.0, 2: 0.0, 3: 1.0}
_SPLAYED = {0: 20.0, 1: 6.0, 2: -8.0, 3: -25.0}
_V = {0: 20.0, 1: -14.0}
_FORWARD_INWARD = np.array([0.75, 0.0, -0.66])

SHAPES: dict[str, Shape] = {
    "call": _shape({3: -38.0}, "out"),
    "like": _shape({}, "side", along=_FORWARD_INWARD, palm=np.array([0.66, 0.0, 0.75]), turn_deg=12.0),
    "dislike": _shape({}, "side", along=_FORWARD_INWARD, palm=np.array([-0.66, 0.0, -0.75]), turn_deg=12.0),
    "fist": _shape({}),
    "one": _shape({0: 0.0}),
    "three": _shape({0: 15.0, 1: 0.0, 2: -15.0}, "folded"),
    "three2": _shape({0: 12.0, 1: -10.0}, "out"),
    "three3": _shape({0: 16.0, 1: 2.0, 3: -26.0}, "folded"),
    "four": _shape({0: 17.0, 1: 5.0, 2: -8.0, 3: -22.0}, "folded"),
    "mute": _shape({0: 0.0}, palm=np.array([0.8, 0.0, 0.6]), turn_deg=5.0),
    "ok": _shape({1: 6.0, 2: -10.0, 3: -28.0}, "ring"),
    "palm": _shape(_SPLAYED, "out"),
    "peace": _shape(_V, "folded"),
    "peace_inverted": _shape(_V, "folded", palm=BACK),
    "rock": _shape({0: 10.0, 3: -20.0}, "across"),
    "stop": _shape(_TOGETHER, "along"),
    "stop_inverted": _shape(_TOGETHER, "along", palm=BACK),
    "two_up": _shape({0: 0.0, 1: 0.0}, "folded", turn_deg=12.0),
    "two_up_inverted": _shape({0: 0.0, 1: 0.0}, "folded", palm=BACK, turn_deg=12.0),
    "grabbing": Shape(tuple((s, *CLAW) for s in (22.0, 7.0, -9.0, -26.0)), "claw", UP, FRONT),
    "grip": Shape(
        tuple((0.0, 38.0, 52.0, 42.0) for _ in range(4)), "round", UP,
        np.array([0.94, 0.0, -0.34]), 12.0,
    ),
    "point": _shape({0: 0.0}, along=np.array([0.20, -0.16, -0.96]), palm=DOWN, turn_deg=8.0),
    "little_finger": _shape({3: -8.0}),
    "middle_finger": _shape({1: 0.0}, "folded", palm=BACK),
    "three_gun": _shape({0: 0.0, 1: 0.0}, "side"),
    "thumb_index": _shape({0: 0.0}, "side"),
    "none": Shape(tuple((s, *RELAXED) for s in (4.0, 1.0, -2.0, -5.0)), "along", DOWN, INWARD, 12.0),
}  # fmt: skip
