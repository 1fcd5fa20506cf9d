"""Hands of one person: MediaPipe's palm detector, then 21 joints of each hand on an upright crop around its palm."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sf_ros.core.types import Box
from sf_ros.engines.people.network import Network
from sf_ros.engines.people.squares import Square, view

MAX_HANDS = 2
PALM_SIDE, HAND_SIDE = 192, 224  # pixels of the two networks' square inputs
PALM_SCORE = 0.35  # of a palm that is looked at; the joints' own presence decides
# Sides of the looked-at square relative to the region. Palms are found with room around them; a close person's box
# ends at the image's edge, or holds little but the hand.
VIEWS = (1.5, 2.2)
REACH = 1.3  # of the middles of a person's own hands from the region's, in halves of its side
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
    world_m: np.ndarray  # (21, 3) float32 metres around the hand's own centre, x right, y down, z away
    right: float  # probability that it is the person's own right hand
    score: float  # presence, 0..1


class HandReader:
    """Finds the hands of one person after another."""

    def __init__(self, palms: Network, landmarks: Network) -> None:
        self._palms, self._landmarks = palms, landmarks

    def read(self, image: np.ndarray, region: Box) -> tuple[Hand, ...]:
        """Up to two hands, highest score first.

        `image`: RGB uint8 (H, W, 3); `region`: the square around the person's upper body, pixels.
        """
        for scale in VIEWS:
            side = scale * max(region.width, region.height)
            hands = [hand for hand in self._hands(image, Square(*region.center, side, 0.0)) if _within(hand, region)]
            if hands:
                return tuple(hands)
        return ()

    def _hands(self, image: np.ndarray, region: Square) -> tuple[Hand, ...]:
        hands: list[Hand] = []
        for square in self._palm_squares(image, region):
            hand = self._joints(image, square)
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
        points, presence, right, world = (np.asarray(value, np.float32).reshape(-1) for value in values)
        if not np.isfinite(points).all() or presence[0] < HAND_SCORE:
            return None
        cos, sin = np.cos(square.angle), np.sin(square.angle)
        metres = world.reshape(21, 3) @ np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        pixels = square.to_image(points.reshape(21, 3), HAND_SIDE)
        return Hand(pixels, metres.astype(np.float32), float(right[0]), float(presence[0]))


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


def _within(hand: Hand, region: Box) -> bool:
    """Whether a hand is in reach of the person in a region."""
    offset = np.abs(hand.points_px[:, :2].mean(axis=0) - region.center)
    return bool(offset.max() <= REACH * max(region.width, region.height) / 2)


def _box(hand: Hand) -> Box:
    (x1, y1), (x2, y2) = hand.points_px[:, :2].min(axis=0), hand.points_px[:, :2].max(axis=0)
    return Box(float(x1), float(y1), float(x2), float(y2))
