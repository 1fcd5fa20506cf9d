"""Hands of one person: MediaPipe's palm detector, then 21 joints of each hand on an upright crop around its palm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from sf_ros.core.views import square
from sf_ros.engines.people.network import Network
from sf_ros.engines.people.squares import Square, view

MAX_HANDS = 2
PALM_SIDE, HAND_SIDE = 192, 224  # pixels of the two networks' square inputs
PALM_SCORE = 0.35  # of a palm that is looked at; the joints' own presence decides
# Sides of the looked-at square relative to the upper body, one view after another until a hand is seen: a palm is
# found at some sizes in a view and missed at others. The last one is for bodies that the edge of the image cuts off:
# what is left of them says too little about where their hands are.
VIEWS, CUT_OFF_VIEW = (1.5, 2.2), 3.3
# Of the middles of a person's own hands from the upper body's, in halves of its side; for bodies that are cut off.
REACH, CUT_OFF_REACH = 1.3, 3.0
EDGE = 0.02  # of the image: nearer to its edge, a body is cut off
HAND_SCORE = 0.7  # presence from which joints are taken for a hand
SAME_PALM = 0.3  # intersection over union of boxes of one palm
SAME_HAND = 0.5  # of boxes around joints: found twice
LONGEST_LOGIT = 100.0
# Crop around a palm's box, along its own axes: the fingers are above it (MediaPipe's hand_landmarker graph).
PALM_SHIFT, PALM_SCALE = -0.5, 2.6
# Crop around known joints, for a second reading.
HAND_SHIFT, HAND_SCALE = -0.1, 2.0
WRIST, MIDDLE_KNUCKLE = 0, 2  # of a palm's seven points
FINGER_BASES = [0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18]  # joints that stay together however fingers bend


@dataclass(frozen=True)
class Hand:
    """One hand in an image."""

    points_px: np.ndarray  # (21, 3) float32: x, y in pixels of the image, z in the same unit; MediaPipe's order
    right: float  # probability that it is the person's own right hand
    score: float  # presence, 0..1


class HandReader:
    """Finds the hands of one person after another."""

    def __init__(self, palms: Network, landmarks: Network) -> None:
        self._palms, self._landmarks = palms, landmarks

    def read(self, image: np.ndarray, body: Box, others: Sequence[Box] = ()) -> tuple[Hand, ...]:
        """Up to two hands, highest score first.

        `image`: RGB uint8 (H, W, 3); `body`: the person's body box, `others`: those of other people, who keep the
        hands that are nearer to them; pixels.
        """
        region, cut_off = upper_body(body), _cut_off(body, image)
        around = [upper_body(other) for other in others]

        def own(hand: Square) -> bool:
            away = _away(hand, region)
            return away <= (CUT_OFF_REACH if cut_off else REACH) and all(away <= _away(hand, o) for o in around)

        for scale in (*VIEWS, CUT_OFF_VIEW) if cut_off else VIEWS:
            palms = self._palm_squares(image, Square(*region.center, scale * region.width, 0.0))
            hands = self._hands(image, [palm for palm in palms if own(palm)])
            if hands:
                return hands
        return ()

    def _hands(self, image: np.ndarray, squares: Sequence[Square]) -> tuple[Hand, ...]:
        hands: list[Hand] = []
        for around in squares:
            hand = self._joints(image, around)
            if hand is None:
                continue
            hand = self._joints(image, _around_joints(hand.points_px)) or hand
            if all(_box(hand).iou(_box(other)) < SAME_HAND for other in hands):
                hands.append(hand)
            if len(hands) == MAX_HANDS:
                break
        return tuple(sorted(hands, key=lambda hand: -hand.score))

    def _palm_squares(self, image: np.ndarray, region: Square) -> list[Square]:
        """Squares around the hands of the palms in a region, best first."""
        answer = self._palms(view(image, region, PALM_SIDE))
        raw = next(value for value in answer.values() if value.shape[-1] == 18)[0]
        logits = next(value for value in answer.values() if value.shape[-1] == 1)[0, :, 0]
        scores = 1 / (1 + np.exp(-np.clip(logits, -LONGEST_LOGIT, LONGEST_LOGIT)))
        chosen = np.flatnonzero(scores >= PALM_SCORE)
        if not len(chosen):
            return []
        values = raw[chosen].reshape(-1, 9, 2) + 0.0  # middle, size, seven points
        values[:, [0, *range(2, 9)]] += _anchors()[chosen, None]
        return [_around_palm(palm, region) for palm in _merged(values, scores[chosen])]

    def _joints(self, image: np.ndarray, square: Square) -> Hand | None:
        """The hand in a square; None where there is none."""
        values = list(self._landmarks(view(image, square, HAND_SIDE)).values())
        points, presence, right = (np.asarray(value, np.float32).reshape(-1) for value in values[:3])
        if not np.isfinite(points).all() or presence[0] < HAND_SCORE:
            return None
        pixels = square.to_image(points.reshape(21, 3), HAND_SIDE)
        return Hand(pixels, float(right[0]), float(presence[0]))


def _anchors() -> np.ndarray:
    """Middles (2016, 2) of the palm detector's anchors in view pixels: two in cells of 8 pixels, six in cells of 16."""
    middles = []
    for stride, count in ((8, 2), (16, 6)):
        cells = (np.arange(PALM_SIDE // stride) + 0.5) * stride
        x, y = np.meshgrid(cells, cells)
        middles.append(np.repeat(np.stack([x, y], axis=-1).reshape(-1, 2), count, axis=0))
    return np.concatenate(middles)


def _merged(palms: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """Palms (N, 9, 2) of which overlapping ones are averaged by score; best first."""
    order = np.argsort(-scores)
    palms, scores = palms[order], scores[order]
    low, high = palms[:, 0] - palms[:, 1] / 2, palms[:, 0] + palms[:, 1] / 2
    area = palms[:, 1].prod(axis=1)
    merged, left = [], np.ones(len(palms), bool)
    while left.any():
        best = int(np.argmax(left))
        shared = (np.minimum(high, high[best]) - np.maximum(low, low[best])).clip(0).prod(axis=1)
        same = left & (shared > SAME_PALM * (area + area[best] - shared))
        same[best] = True
        merged.append(np.average(palms[same], axis=0, weights=scores[same]))
        left &= ~same
    return merged


def _around_palm(palm: np.ndarray, region: Square) -> Square:
    """The square around the hand of a palm (9, 2), found in the view of a region."""
    side = max(palm[1]) * region.side / PALM_SIDE
    middle, wrist, knuckle = region.to_image(palm[[0, 2 + WRIST, 2 + MIDDLE_KNUCKLE]], PALM_SIDE)
    square = Square(float(middle[0]), float(middle[1]), float(side), _upright(knuckle - wrist))
    return replace(square.moved_down(PALM_SHIFT), side=PALM_SCALE * square.side)


def _around_joints(points: np.ndarray) -> Square:
    """The square around a hand of known joints (21, 3), pixels."""
    flat = points[:, :2].astype(float)
    knuckles = 0.25 * flat[5] + 0.5 * flat[9] + 0.25 * flat[13]
    square = Square.around(flat[FINGER_BASES], _upright(knuckles - flat[0]), 1.0)
    return replace(square.moved_down(HAND_SHIFT), side=HAND_SCALE * square.side)


def _upright(up: np.ndarray) -> float:
    """The angle of a square in which a direction (2,) of the image points upwards."""
    return float(np.arctan2(up[0], -up[1]))


def upper_body(body: Box) -> Box:
    """The square of the gesture task: where a person's hands are looked for."""
    return square(body, TASKS["gesture"])


def _cut_off(body: Box, image: np.ndarray) -> bool:
    height, width = image.shape[:2]
    x, y = EDGE * width, EDGE * height
    return bool(body.x1 < x or body.y1 < y or body.x2 > width - x or body.y2 > height - y)


def _away(hand: Square, region: Box) -> float:
    """How far a hand is from the middle of an upper body, in halves of its side."""
    x, y = region.center
    return max(abs(hand.x - x), abs(hand.y - y)) / (region.width / 2)


def _box(hand: Hand) -> Box:
    (x1, y1), (x2, y2) = hand.points_px[:, :2].min(axis=0), hand.points_px[:, :2].max(axis=0)
    return Box(float(x1), float(y1), float(x2), float(y2))
