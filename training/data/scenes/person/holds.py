"""How people hold their hands: each gesture of one hand as ranges of joint angles, thumb places and directions.

gestures.py has the shapes that are drawn, one per gesture and clearly apart; here are the ranges in which people
make them, for learning from joints alone (training/tools/gestures.py). Frames and joint order are those of arms.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from training.data.scenes.person.gestures import (
    BACK,
    BONES,
    DOWN,
    FINGER_STARTS,
    FRONT,
    INWARD,
    KNUCKLES,
    OK_INDEX,
    THUMBS,
    UP,
)

# Flexion at knuckle, middle and end joint of a finger in degrees: mean of a hand, its spread from hand to hand, and
# that from finger to finger of one hand. Hands at ease are between the other states.
STATES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float], float]] = {
    "straight": ((4.0, 7.0, 4.0), (9.0, 6.0, 4.0), 5.0),
    "curled": ((66.0, 98.0, 48.0), (14.0, 10.0, 14.0), 8.0),
    "loose": ((35.0, 92.0, 45.0), (18.0, 14.0, 14.0), 9.0),  # tips on the palm's upper half
    "claw": ((14.0, 62.0, 44.0), (12.0, 11.0, 10.0), 6.0),
    "round": ((38.0, 54.0, 40.0), (10.0, 10.0, 8.0), 5.0),
    "relaxed": ((20.0, 30.0, 18.0), (14.0, 16.0, 9.0), 8.0),
}
OUT, IN, LOOSE, CLAW, ROUND, RELAXED = STATES
APART = (16.0, 5.0, -7.0, -21.0)  # splay of index .. pinkie in a spread hand, degrees towards the thumb
TOGETHER = (-1.5, -0.5, 0.5, 3.0)  # fingers that touch: their knuckles are further apart than their tips
SIDEWAYS = np.array([0.85, 0.0, 0.5])  # a palm towards the other side, half to the person
AWAY = np.array([0.75, 0.0, -0.66])  # the other side, half to the camera


@dataclass(frozen=True)
class Hold:
    """One way to hold a right hand; angles in degrees."""

    states: tuple[str, str, str, str]  # of index .. pinkie
    thumbs: tuple[str, ...]  # between these places of gestures.THUMBS
    splay: tuple[float, float, float, float] = TOGETHER
    splay_scale: tuple[float, float] = (1.0, 1.0)  # range of a hand's factor on `splay`
    along: np.ndarray = field(default_factory=lambda: UP)  # direction of straight fingers, body frame
    palm: np.ndarray = field(default_factory=lambda: FRONT)
    turn: tuple[float, float, float] = (13.0, 13.0, 16.0)  # standard deviation of roll, tilt and yaw
    ring: bool = False  # thumb and index meet
    share: float = 1.0  # of the gesture's hands, beside its other holds


def _straight(fingers: str, rest: str = IN) -> tuple[str, str, str, str]:
    """States of a hand whose named fingers (i, m, r, p) are straight."""
    index, middle, ring, pinkie = (OUT if name in fingers else rest for name in "imrp")
    return index, middle, ring, pinkie


_HIDDEN = ("folded", "across")
_V = (13.0, -11.0, 0.0, 0.0)
_V_RANGE = (0.6, 1.6)
_TWO = (-2.0, 1.0, 0.0, 0.0)
_SIDE_TURN = (16.0, 14.0, 28.0)

HOLDS: dict[str, tuple[Hold, ...]] = {
    # The thumb points up and the pinkie to the side, with the palm or the back to the camera; seldom upright.
    "call": (
        Hold(_straight("p"), ("out", "side"), (2, 0, -4, -22), (0.4, 1.6), INWARD, BACK, (24, 16, 24), share=2),
        Hold(_straight("p"), ("out", "side"), (2, 0, -4, -22), (0.4, 1.6), AWAY, SIDEWAYS, (24, 16, 24)),
        Hold(_straight("p"), ("out", "side"), (2, 0, -4, -22), (0.4, 1.6), turn=(22, 14, 20)),
        Hold(_straight("p"), ("out", "side"), (2, 0, -4, -22), (0.4, 1.6), palm=BACK, turn=(22, 14, 20)),
    ),
    "like": (
        Hold(_straight(""), ("side", "out"), along=AWAY, palm=np.array([0.66, 0, 0.75]), turn=_SIDE_TURN),
        Hold(_straight(""), ("side", "out"), along=INWARD, palm=BACK, turn=_SIDE_TURN, share=0.7),
    ),
    "dislike": (
        Hold(_straight(""), ("side", "out"), along=AWAY, palm=np.array([-0.66, 0, -0.75]), turn=_SIDE_TURN),
        Hold(_straight(""), ("side", "out"), along=INWARD, palm=FRONT, turn=_SIDE_TURN, share=0.7),
        Hold(_straight(""), ("side", "out"), along=-INWARD, palm=BACK, turn=_SIDE_TURN, share=0.4),
    ),
    "fist": (  # the thumb across the fingers, beside the index, or between
        Hold(_straight(""), (*_HIDDEN, "along")),
        Hold(_straight("", LOOSE), (*_HIDDEN, "along"), share=0.5),
        Hold(_straight(""), ("across", "along"), palm=SIDEWAYS, share=0.3),
    ),
    "one": (Hold(_straight("i"), _HIDDEN),),
    "three": (Hold(_straight("imr"), _HIDDEN, (13, 0, -13, 0), (0.15, 1.4)),),
    "three2": (Hold(_straight("im"), ("out", "side"), _V, (0.3, 1.6)),),
    "three3": (Hold(_straight("imp"), _HIDDEN, (12, 0, 0, -20), (0.3, 1.3)),),
    "four": (Hold(_straight("imrp"), ("folded", "folded", "across"), APART, (0.3, 1.25)),),
    "mute": (Hold(_straight("i"), ("along", *_HIDDEN), palm=SIDEWAYS, turn=(16, 12, 18)),),
    "ok": (Hold(_straight("mrp"), ("ring",), (0, 5, -7, -20), (0.2, 1.5), ring=True, turn=(16, 13, 22)),),
    "palm": (Hold(_straight("imrp"), ("out", "side"), APART, (0.55, 1.3)),),
    "peace": (Hold(_straight("im"), _HIDDEN, _V, _V_RANGE),),
    "peace_inverted": (Hold(_straight("im"), _HIDDEN, _V, _V_RANGE, palm=BACK),),
    "rock": (Hold(_straight("ip"), _HIDDEN, (6, 0, 0, -12), (0.0, 1.8)),),
    "stop": (Hold(_straight("imrp"), ("along", "along", "out"), TOGETHER),),
    "stop_inverted": (Hold(_straight("imrp"), ("along", "along", "out"), TOGETHER, palm=BACK),),
    "two_up": (Hold(_straight("im"), _HIDDEN, _TWO),),
    "two_up_inverted": (Hold(_straight("im"), _HIDDEN, _TWO, palm=BACK),),
    "grabbing": (Hold((CLAW,) * 4, ("claw",), APART, (0.5, 1.3)),),
    "grip": (Hold((ROUND,) * 4, ("round",), palm=np.array([0.94, 0, -0.34])),),
    "point": (Hold(_straight("i"), _HIDDEN, along=np.array([0.20, -0.16, -0.96]), palm=DOWN, turn=(12, 9, 9)),),
    "little_finger": (Hold(_straight("p"), _HIDDEN, (0, 0, 0, -8), (0.0, 2.0)),),
    "middle_finger": (Hold(_straight("m"), _HIDDEN, palm=BACK),),
    "three_gun": (Hold(_straight("im"), ("side", "out"), _TWO),),
    "thumb_index": (Hold(_straight("i"), ("side", "out")),),
}  # fmt: skip

# Hands that make no gesture: they hang, lie, hold something, or are on their way between gestures.
_ANY = (90.0, 60.0, 90.0)
REST: tuple[Hold, ...] = (
    # hanging, lying, folded
    Hold((RELAXED,) * 4, ("along", "folded", "out"), along=DOWN, palm=INWARD, turn=(24, 24, 50), share=4),
    Hold((OUT,) * 4, ("along", "out"), along=DOWN, palm=INWARD, turn=(30, 30, 60), share=1),
    Hold((IN,) * 4, ("along", *_HIDDEN), along=DOWN, palm=INWARD, turn=(30, 30, 60), share=1),
    Hold((RELAXED,) * 4, ("along", "folded", "out"), along=INWARD, palm=DOWN, turn=(40, 40, 60), share=2),
    Hold((RELAXED,) * 4, ("along", "out", "side"), along=INWARD, palm=BACK, turn=(30, 30, 40), share=2),
    # around an object, before the body or at the mouth; at the chin or the cheek
    Hold((ROUND,) * 4, ("along", "out", "claw"), along=INWARD, palm=BACK, turn=(40, 40, 60), share=2),
    Hold((ROUND,) * 4, ("round", "claw", "along"), palm=SIDEWAYS, turn=(25, 25, 35), share=2),
    Hold((RELAXED,) * 4, ("along", "folded", "round"), palm=BACK, turn=(25, 25, 35), share=1.5),
    Hold((LOOSE, LOOSE, LOOSE, LOOSE), ("along", "across", "round"), palm=BACK, turn=(30, 30, 40), share=1),
    # on its way
    Hold((RELAXED, RELAXED, LOOSE, LOOSE), ("along", "out", "across"), turn=_ANY, share=1),
    Hold((LOOSE,) * 4, ("along", "out", "across"), along=DOWN, palm=INWARD, turn=(50, 50, 90), share=1),
)  # fmt: skip


def sample_holds(holds: tuple[Hold, ...], count: int, rng: np.random.Generator) -> np.ndarray:
    """Joints (count, 21, 3) of right hands that are held in these ways: body frame, metres, at the size of life.

    The wrist is the origin. Bones, angles, thumbs and directions vary from hand to hand.
    """
    shares = np.array([hold.share for hold in holds])
    counts = rng.multinomial(count, shares / shares.sum())
    hands = np.concatenate([_sample(hold, int(n), rng) for hold, n in zip(holds, counts, strict=True)])
    return hands[rng.permutation(count)]


def _sample(hold: Hold, count: int, rng: np.random.Generator) -> np.ndarray:
    joints = np.zeros((count, 21, 3))
    joints[:, 1:5] = _thumbs(hold, count, rng)
    scale = rng.uniform(*hold.splay_scale, count)[:, None]
    splay = np.deg2rad(scale * hold.splay + rng.normal(0, 2.5, (count, 4)))
    common = rng.normal(0, 1, (count, 3))
    knuckles = KNUCKLES * (1 + rng.normal(0, 0.06, (count, 1, 3))) + rng.normal(0, 0.0015, (count, 4, 3))
    lengths = BONES * (1 + rng.normal(0, 0.05, (count, 1, 1)) + rng.normal(0, 0.05, (count, 4, 3)))
    for finger, start in enumerate(FINGER_STARTS):
        mean, spread, own = STATES[hold.states[finger]]
        bend = np.cumsum(np.deg2rad(mean + spread * common + rng.normal(0, own, (count, 3))), axis=1)[..., None]
        side = splay[:, finger]
        forward = np.stack([np.sin(side), np.cos(side), np.zeros(count)], axis=1)[:, None]
        bones = np.cos(bend) * forward + np.sin(bend) * [0.0, 0.0, 1.0]
        joints[:, start] = knuckles[:, finger]
        joints[:, start + 1 : start + 4] = knuckles[:, finger, None] + np.cumsum(
            lengths[:, finger, :, None] * bones, axis=1
        )
    if hold.ring:
        joints[:, 5:9] = knuckles[:, :1] + (np.array(OK_INDEX) - OK_INDEX[0])
        joints[:, 5:9] += rng.normal(0, 0.004, (count, 4, 3))
        joints[:, [4, 8]] = joints[:, [4, 8]].mean(axis=1, keepdims=True) + rng.normal(0, 0.004, (count, 2, 3))
    return joints @ _frames(hold, count, rng).transpose(0, 2, 1)


def _thumbs(hold: Hold, count: int, rng: np.random.Generator) -> np.ndarray:
    """Thumbs (count, 4, 3) between the hold's places."""
    places = np.array([THUMBS[name] for name in hold.thumbs])
    mixed = np.einsum("np,pjc->njc", rng.dirichlet(np.full(len(places), 0.7), count), places)
    drift = rng.normal(0, 1, (count, 1, 3)) * np.array([0.001, 0.003, 0.005, 0.007])[:, None]
    return mixed * (1 + rng.normal(0, 0.05, (count, 1, 1))) + drift + rng.normal(0, 0.0015, (count, 4, 3))


def _frames(hold: Hold, count: int, rng: np.random.Generator) -> np.ndarray:
    """Columns u, v, n (count, 3, 3) of hands that are turned at random from the hold's directions."""
    v = hold.along / np.linalg.norm(hold.along)
    n = hold.palm - (hold.palm @ v) * v
    n = n / np.linalg.norm(n)
    frame = np.stack([np.cross(v, n), v, n], axis=1)
    roll, tilt, yaw = np.deg2rad(rng.normal(0, 1, (3, count)) * np.array(hold.turn)[:, None])
    return _about(1, yaw) @ _about(0, tilt) @ _about(2, roll) @ frame


def _about(axis: int, angle: np.ndarray) -> np.ndarray:
    """Rotations (N, 3, 3) about a coordinate axis."""
    a, b = [i for i in range(3) if i != axis]
    turn = np.zeros((len(angle), 3, 3))
    turn[:, axis, axis] = 1
    turn[:, a, a] = turn[:, b, b] = np.cos(angle)
    turn[:, a, b], turn[:, b, a] = -np.sin(angle), np.sin(angle)
    return turn
