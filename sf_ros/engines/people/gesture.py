"""Gestures of one person's hands: a small classifier of the joints, trained on the drawn world's hands alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from importlib import resources

import numpy as np
from safetensors.numpy import load

from sf_ros.core.cues import TASKS
from sf_ros.engines.people.hands import Hand

WEIGHTS = "gesture.safetensors"
LABELS = TASKS["gesture"].labels
OPERATING_POINT = 0.5  # probability of a label from which it is published
FAR = 4.0  # places of the other hand are squashed beyond about this many sizes of the hand
TIPS = (4, 8, 12, 16, 20)
_PAIRS = np.array(list(itertools.combinations((*TIPS, 6, 10, 5, 17), 2))).T


def features(points: np.ndarray, other: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """What the classifier sees of right hands (N, 21, 3) in pixels: float32 (N, F).

    `other`: the person's second hands (N, 21, 3), in the same image; any values where not `seen` (N,). The place and
    the size of a hand do not count, its direction does.
    """
    middle = points[:, :, :2].mean(axis=1, keepdims=True)
    size = np.sqrt(((points[:, :, :2] - middle) ** 2).sum(axis=2).mean(axis=1))[:, None, None] + 1e-6
    flat = (points[:, :, :2] - middle) / size
    depth = (points[:, :, 2:] - points[:, :, 2:].mean(axis=1, keepdims=True)) / size
    gaps = np.linalg.norm(flat[:, _PAIRS[0]] - flat[:, _PAIRS[1]], axis=2)
    there = seen.astype(float)[:, None]
    place = FAR * np.tanh((other[:, :, :2] - middle) / size / FAR) * there[:, :, None]
    count = len(points)
    parts = (flat.reshape(count, -1), depth[:, :, 0], gaps, place.reshape(count, -1), there)
    return np.concatenate(parts, axis=1).astype(np.float32)


def classify(weights: Mapping[str, np.ndarray], values: np.ndarray) -> np.ndarray:
    """Probabilities (N, 34) of the labels and, last, of no gesture, for features (N, F)."""
    hidden = (values - weights["mean"]) / weights["deviation"]
    layers = sum(name.endswith(".weight") for name in weights)
    for layer in range(layers):
        hidden = hidden @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]
        if layer < layers - 1:
            hidden = np.maximum(hidden, 0)
    raised = np.exp(hidden - hidden.max(axis=1, keepdims=True))
    probabilities: np.ndarray = raised / raised.sum(axis=1, keepdims=True)
    return probabilities


class GestureReader:
    """Names the gesture of one person after another."""

    def __init__(self) -> None:
        self._weights = load((resources.files(__package__) / "weights" / WEIGHTS).read_bytes())

    def probabilities(self, hands: Sequence[Hand]) -> np.ndarray:
        """Probabilities (33,) of the labels, float32, summing to 1; nearly even where none of a person's hands makes
        a gesture.
        """
        even = np.full(len(LABELS), 1 / len(LABELS), np.float32)
        if not hands:
            return even
        answers = np.array([self._of(hand, [o for o in hands if o is not hand]) for hand in hands])
        rest = answers[:, -1]
        weights = (1 - rest) + 1e-6
        labels = (weights[:, None] * answers[:, :-1] / answers[:, :-1].sum(axis=1, keepdims=True)).sum(axis=0)
        labels /= labels.sum()
        result: np.ndarray = ((1 - rest.min()) * labels + rest.min() * even).astype(np.float32)
        return result

    def _of(self, hand: Hand, others: Sequence[Hand]) -> np.ndarray:
        """Probabilities (34,) of one hand: as a right and as a left one, by what is known about that."""
        other = others[0].points_px if others else np.zeros((21, 3))
        mirror = np.array([[[1.0, 1, 1]], [[-1.0, 1, 1]]])
        both = features(hand.points_px * mirror, other * mirror, np.full(2, bool(others)))
        result: np.ndarray = np.array([hand.right, 1 - hand.right]) @ classify(self._weights, both)
        return result
