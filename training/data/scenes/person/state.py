"""The state of one person: body, clothes, head, eyes and arms, with gaze and reaching."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from training.data.scenes.person.arms import Arms, Hand, pose_arms
from training.data.scenes.person.head import FaceAppearance, sample_appearance

AGES = ("child", "adult", "elder")
EYES = np.array([0.0, -0.02, -0.09])  # midway between the eyes, head frame, metres at head scale 1
HEAD = np.array([0.0, -0.24, 0.0])  # head centre in the body frame, metres at scale 1
HEAD_SIZE = 1.12
MAX_EYE_TURN, MAX_NECK_TURN = np.deg2rad(30), np.deg2rad(72)
UPPER_ARM_M, FOREARM_M, SHOULDER_M = 0.28, 0.25, 0.19

Color = tuple[int, int, int]

# Casual clothes, patterns and colours of the test split never occur in train or val. Business clothes and aprons show a
# relation and occur in every split, in its own colours.
_TRAIN_CASUAL, _TEST_CASUAL = ("t-shirt", "sweater", "hoodie", "gown"), ("polo", "vest", "jacket")
CASUAL = {"train": _TRAIN_CASUAL, "val": _TRAIN_CASUAL, "test": _TEST_CASUAL}
_TRAIN_PRINTS, _TEST_PRINTS = ("plain", "plain", "stripes", "spots"), ("plain", "plain", "sash", "block")
PRINTS = {"train": _TRAIN_PRINTS, "val": _TRAIN_PRINTS, "test": _TEST_PRINTS}
_TRAIN_CLOTH = (
    (186, 52, 58), (222, 150, 60), (238, 214, 110), (80, 140, 80), (62, 110, 170), (40, 56, 96), (120, 80, 150),
    (215, 140, 160), (228, 226, 220), (70, 72, 76), (110, 150, 150), (140, 100, 70),
)  # fmt: skip
_TEST_CLOTH = (
    (150, 30, 90), (205, 95, 40), (170, 180, 60), (40, 110, 110), (100, 165, 215), (88, 70, 130), (205, 195, 170),
    (95, 60, 50), (50, 80, 60),
)  # fmt: skip
CLOTH_COLORS = {"train": _TRAIN_CLOTH, "val": _TRAIN_CLOTH, "test": _TEST_CLOTH}


@dataclass(frozen=True)
class Dress:
    """Clothes: `kind` is one of CASUAL, 'suit' or 'shirt' (business), or 'apron' (service)."""

    kind: str
    top: Color
    bottom: Color
    accent: Color
    pattern: str = "plain"
    badge: bool = False

    @property
    def style(self) -> str:
        """'casual', 'business' or 'service'."""
        return {"suit": "business", "shirt": "business", "apron": "service"}.get(self.kind, "casual")


@dataclass
class PersonState:
    """One person. Positions and targets in camera metres; the body frame is that of arms.py times `scale`."""

    track_id: int
    appearance: FaceAppearance
    age: str
    dress: Dress
    scale: float
    shoulders: np.ndarray  # (3,) midway between the shoulders
    yaw: float  # of the body, radians; 0 faces along -z, positive towards image right
    arms: Arms  # both hands present; body frame at scale 1
    head_rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    lean: np.ndarray = field(default_factory=lambda: np.zeros(3))  # shift of the head, body frame at scale 1
    gaze_target: str = "none"  # 'camera' | 'person:<id>' | 'object:<name>' | 'none'
    gaze_point: np.ndarray = field(default_factory=lambda: np.array([0.0, 0.0, -1.0]))  # (3,)
    expression: str = "neutral"
    intensity: float = 0.0
    gesture: str = "none"
    sitting: bool = False
    face_seed: int = 0  # of brows, lids and mouth shape
    blink: float = 0.0

    @property
    def body_rotation(self) -> np.ndarray:
        """(3, 3), body frame -> camera frame."""
        return rotation(self.yaw, 0.0, 0.0)

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Body-frame points (..., 3) at scale 1 -> camera metres."""
        return self.scale * np.asarray(points, float) @ self.body_rotation.T + self.shoulders

    def to_body(self, points: np.ndarray) -> np.ndarray:
        """Camera points (..., 3) -> body frame at scale 1."""
        return (np.asarray(points, float) - self.shoulders) @ self.body_rotation / self.scale

    @property
    def head_scale(self) -> float:
        """Size of the head: 12 % larger than real, for readable faces; grows with the square root of the body's."""
        return HEAD_SIZE * float(self.scale**0.5)

    @property
    def head_center(self) -> np.ndarray:
        """The middle of the head, camera point (3,)."""
        return self.to_camera(HEAD * self.head_scale / (HEAD_SIZE * self.scale) + self.lean)

    @property
    def eye_point(self) -> np.ndarray:
        """The origin of the gaze, midway between the eyes, camera point (3,)."""
        return self.head_center + self.head_rotation @ EYES * self.head_scale

    @property
    def gaze_direction(self) -> np.ndarray:
        """Unit vector (3,) from the eyes to the gaze point."""
        return unit(self.gaze_point - self.eye_point)

    @property
    def to_lens(self) -> np.ndarray:
        """Unit vector (3,) from the head to the camera."""
        return unit(-self.head_center)


def unit(vector: np.ndarray) -> np.ndarray:
    """A vector (3,) scaled to length 1."""
    return vector / math.sqrt(vector @ vector)


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Rotation (3, 3) of a camera-facing frame: yaw towards image right, pitch down, roll clockwise; radians."""
    cy, cp, cr, sy, sp, sr = (f(angle) for f in (math.cos, math.sin) for angle in (yaw, pitch, roll))
    about_y_and_x = np.array([[cy, -sy * sp, -sy * cp], [0.0, cp, -sp], [sy, cy * sp, cy * cp]])
    return about_y_and_x @ np.array([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]])


def angles(direction: np.ndarray) -> np.ndarray:
    """(yaw, pitch) of a direction (3,): rotation(yaw, pitch, 0) @ (0, 0, -1) is its unit vector."""
    x, y, z = unit(direction)
    return np.array([np.arctan2(x, -z), np.arcsin(np.clip(y, -1, 1))])


def angle_between(a: np.ndarray, b: np.ndarray) -> float:
    """Radians between two directions (3,)."""
    return float(np.arccos(np.clip(unit(a) @ unit(b), -1, 1)))


def wrap(angle: np.ndarray | float):
    """Angles wrapped to [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def look_at(person: PersonState, target: np.ndarray, name: str, share: float, roll: float = 0.0) -> None:
    """Turn head and eyes to a camera point (3,); the head covers `share` of the angle from the body's direction.

    The head turns further if the rest is beyond MAX_EYE_TURN, up to MAX_NECK_TURN.
    """
    person.head_rotation = rotation(*angles(target - person.head_center), 0.0)
    goal = angles(target - person.eye_point)
    start = np.array([person.yaw, 0.0])
    full_turn = wrap(goal - start)
    angle = float(np.hypot(*full_turn))
    share = max(share, 1 - MAX_EYE_TURN / angle) if angle > 1e-6 else share
    turn = share * full_turn
    turn[0] = np.clip(turn[0], -MAX_NECK_TURN, MAX_NECK_TURN)
    person.head_rotation = rotation(*(start + turn), roll)
    person.gaze_target, person.gaze_point = name, np.asarray(target, float)


def _with_resting_hand(arms: Arms, rng: np.random.Generator, hand_scale: float) -> Arms:
    """Arms with a resting hand added on the side that makes no gesture."""
    present = {hand.side for hand in arms.hands}
    if len(present) == 2:
        return arms
    rest = pose_arms("none", rng, hand_scale=hand_scale)
    added = tuple(
        Hand(hand.side, hand.joints - hand.joints[0] + arms.wrists[hand.side], hand.palm_normal)
        for hand in rest.hands
        if hand.side not in present
    )
    return Arms(arms.hands + added, arms.elbows, arms.wrists)


def gesture_arms(gesture: str, rng: np.random.Generator, scale: float = 1.0, side: str | None = None) -> Arms:
    """Arms that make a gesture, or rest, with both hands present; small people get relatively larger hands."""
    hand_scale = (1.1 if gesture == "none" else 1.3) / scale**0.5
    return _with_resting_hand(pose_arms(gesture, rng, side=side, hand_scale=hand_scale), rng, 1.1 / scale**0.5)


def reach(person: PersonState, side: str, target: np.ndarray, *, bend=(0.0, 1.0, 0.3)) -> None:
    """Move one hand to a camera point (3,), or as near as the arm reaches.

    The elbow points towards `bend` (3,), in the body frame with x away from the body.
    """
    outward = 1.0 if side == "left" else -1.0
    shoulder = np.array([outward * SHOULDER_M, 0.0, 0.0])
    offset = person.to_body(target) - shoulder
    distance = float(np.linalg.norm(offset))
    wrist_distance = min(distance, 0.98 * (UPPER_ARM_M + FOREARM_M))
    wrist = shoulder + offset * wrist_distance / distance
    axis = offset / distance
    along = (UPPER_ARM_M**2 - FOREARM_M**2 + wrist_distance**2) / (2 * wrist_distance)
    pole = np.array(bend, float) * [outward, 1, 1]
    pole = unit(pole - (pole @ axis) * axis + 1e-6)
    elbow = shoulder + along * axis + np.sqrt(max(0.0, UPPER_ARM_M**2 - along**2)) * pole
    arms = person.arms
    hands = []
    for hand in arms.hands:
        if hand.side == side:
            turn = _turn_between(unit(hand.joints[9] - hand.joints[0]), unit(wrist - elbow))
            hand = Hand(side, (hand.joints - hand.joints[0]) @ turn.T + wrist, turn @ hand.palm_normal)
        hands.append(hand)
    person.arms = Arms(tuple(hands), arms.elbows | {side: elbow}, arms.wrists | {side: wrist})


def sample_dress(rng: np.random.Generator, split: str, style: str) -> Dress:
    """Random clothes of a style ('casual', 'business', 'service') in the split's colours and patterns."""
    palette = CLOTH_COLORS[split]
    top, bottom, accent = (palette[i] for i in rng.choice(len(palette), 3, replace=False))
    if style == "service":
        return Dress("apron", top, bottom, accent)
    if style == "business":
        kind = "suit" if rng.random() < 0.7 else "shirt"
        return Dress(kind, top, bottom, accent, badge=kind == "shirt" or rng.random() < 0.4)
    return Dress(str(rng.choice(CASUAL[split])), top, bottom, accent, str(rng.choice(PRINTS[split])))


def sample_person(
    rng: np.random.Generator, split: str, track_id: int, *, age: str | None = None, style: str | None = None
):
    """A random person with arms at rest and a position still to be set."""
    age = age or str(rng.choice(AGES, p=(0.2, 0.62, 0.18)))
    style = style or str(rng.choice(("casual", "business", "service"), p=(0.7, 0.2, 0.1)))
    appearance = sample_appearance(rng, split, age)
    if style == "service":
        appearance = replace(appearance, hat="")  # a service person wears a cap
    scale = {"child": rng.uniform(0.65, 0.8), "adult": rng.uniform(0.88, 1.06), "elder": rng.uniform(0.86, 1.0)}[age]
    return PersonState(
        track_id=track_id,
        appearance=appearance,
        age=age,
        dress=sample_dress(rng, split, style),
        scale=float(scale),
        shoulders=np.array([0.0, 0.0, 2.0]),
        yaw=0.0,
        arms=gesture_arms("none", rng, float(scale)),
        face_seed=int(rng.integers(2**31)),
    )


def set_position(person: PersonState, x: float, z: float, camera_height: float) -> None:
    """Put a person at camera (x, z) metres; the height of near people is clipped to keep them in the image."""
    y = camera_height - 1.42 * person.scale + (0.3 if person.sitting else 0.0)
    person.shoulders = np.array([x, float(np.clip(y, -0.45 * z + 0.42 * person.head_scale, 0.22 * z)), z])


def yaw_to_camera(x: float, z: float) -> float:
    """Body yaw of a person at (x, z) who faces the camera."""
    return float(np.arctan2(-x, z))


def _turn_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest rotation (3, 3) that takes unit vector a to unit vector b."""
    axis, cosine = np.cross(a, b), float(a @ b)
    if cosine < -0.999:
        return np.diag([1.0, -1.0, -1.0])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + cosine)
