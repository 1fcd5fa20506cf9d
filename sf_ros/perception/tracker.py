"""Stable track ids: ByteTrack (Zhang et al. 2022) with a memory in seconds of the stream's stamps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

ROUNDING_S = 1e-6  # of differences of stamps
LOW_SCORE = 0.1  # weaker boxes may continue a track but not start one (ByteTrack's second association)
# Largest cost (1 - IoU, or 1 - IoU * score) of a match: with sure boxes, with weak ones, of people seen once.
MAX_COST, MAX_WEAK_COST, MAX_NEW_COST = 0.8, 0.5, 0.7
SAME_COST = 0.15  # a found and a lost track nearer than this are one person: the older one stays
# ByteTrack's Kalman filter at 30 frames a second: standard deviations in box heights.
FRAMES_PER_S, POSITION, VELOCITY = 30.0, 1 / 20, 1 / 160


class PersonTracker:
    """ByteTrack on person boxes. Ids count from 1 in the order in which people are confirmed."""

    def __init__(self, score: float, lost_after_s: float) -> None:
        """score: of boxes that may start a track. lost_after_s: how long a track is remembered unseen."""
        self._score, self._lost_after_s = score, lost_after_s
        self.reset()

    def reset(self) -> None:
        """Forget all tracks; ids start at 1 again."""
        self.lose_all()
        self._ids = 0

    def lose_all(self) -> None:
        """Forget all tracks; those that start next get new ids, at once."""
        self._tracks: list[_Track] = []
        self._stamp: float | None = None

    def update(self, boxes: np.ndarray, scores: np.ndarray, stamp: float) -> list[tuple[int, int]]:
        """Boxes (N, 4) xyxy pixels and scores (N,) -> pairs (track id, index of its box).

        A person who appears mid-stream gets an id in the second frame, which keeps flickering boxes out; in the first
        frame, and after a gap in which all tracks were lost, everyone gets one at once.
        """
        gap_s = 0.0 if self._stamp is None else max(stamp - self._stamp, 1e-3)
        at_once = self._stamp is None or gap_s > self._lost_after_s + ROUNDING_S
        self._stamp = stamp
        self._tracks = [track for track in self._tracks if stamp - track.seen <= self._lost_after_s + ROUNDING_S]
        for track in self._tracks:
            track.motion.predict(gap_s * FRAMES_PER_S, lost=not track.found)
        boxes = np.asarray(boxes, float).reshape(-1, 4)
        sure = [int(i) for i in np.flatnonzero(scores >= self._score)]
        weak = [int(i) for i in np.flatnonzero((scores >= min(LOW_SCORE, self._score)) & (scores < self._score))]
        confirmed = [track for track in self._tracks if track.id]
        new = [track for track in self._tracks if not track.id]
        pairs: list[tuple[_Track, int]] = []

        def match(tracks: list[_Track], rows: list[int], maximum: float, weigh: bool) -> None:
            """Add pairs, and take their tracks and rows out of the lists."""
            cost = _costs(tracks, boxes[rows], scores[rows] if weigh else None)
            matched = [(tracks[i], rows[j]) for i, j in _assign(cost, maximum)]
            for track, row in matched:
                tracks.remove(track)
                rows.remove(row)
            pairs.extend(matched)

        match(confirmed, sure, MAX_COST, weigh=True)
        match([track for track in confirmed if track.found], weak, MAX_WEAK_COST, weigh=False)
        match(new, sure, MAX_NEW_COST, weigh=True)
        found = {id(track) for track, _ in pairs}
        for track, row in pairs:
            track.see(boxes[row], stamp)
        # Unconfirmed people who were not seen a second time were none.
        self._tracks = [track for track in self._tracks if id(track) in found or track.id]
        for track in self._tracks:
            track.found = id(track) in found
        for row in sure:
            track = _Track(_Motion(boxes[row]), stamp, stamp)
            self._tracks.append(track)
            if at_once:
                pairs.append((track, row))
        for track, _ in pairs:
            if not track.id:
                self._ids += 1
                track.id = self._ids
        doubles = self._doubles()
        self._tracks = [track for track in self._tracks if id(track) not in doubles]
        return sorted((track.id, row) for track, row in pairs if id(track) not in doubles)

    def _doubles(self) -> set[int]:
        """Identities of tracks to drop: of a found and a lost one in the same place, the one known for less time."""
        found = [track for track in self._tracks if track.found and track.id]
        lost = [track for track in self._tracks if not track.found]
        near = np.argwhere(_costs(found, np.array([track.motion.box for track in lost]).reshape(-1, 4)) < SAME_COST)
        pairs = [(found[i], lost[j]) for i, j in near.tolist()]
        return {id(b if a.seen - a.born > b.seen - b.born else a) for a, b in pairs}


class _Motion:
    """A Kalman filter of constant velocity for centre, width and height; the four do not depend on each other."""

    def __init__(self, box: np.ndarray) -> None:
        self.value = _centred(box)  # (4,): centre x, y, width, height
        self.velocity = np.zeros(4)  # per frame
        height = self._height
        # Variances of value and velocity, and their covariance.
        self._pp = np.full(4, (2 * POSITION * height) ** 2)
        self._vv = np.full(4, (10 * VELOCITY * height) ** 2)
        self._pv = np.zeros(4)

    @property
    def _height(self) -> float:
        return max(float(self.value[3]), 1.0)

    @property
    def box(self) -> np.ndarray:
        """xyxy."""
        return np.concatenate([self.value[:2] - self.value[2:] / 2, self.value[:2] + self.value[2:] / 2])

    def predict(self, frames: float, lost: bool) -> None:
        """Move on by a time in frames; the size of a person who is lost stays."""
        if lost:
            self.velocity[2:] = 0.0
        self.value = self.value + frames * self.velocity
        self.value[2:] = np.maximum(self.value[2:], 1.0)
        height = self._height
        self._pp = self._pp + 2 * frames * self._pv + frames**2 * self._vv + frames * (POSITION * height) ** 2
        self._pv = self._pv + frames * self._vv
        self._vv = self._vv + frames * (VELOCITY * height) ** 2

    def correct(self, box: np.ndarray) -> None:
        """Take a measured box (4,) xyxy into account."""
        total = self._pp + (POSITION * self._height) ** 2
        error, gain, velocity_gain = _centred(box) - self.value, self._pp / total, self._pv / total
        self.value, self.velocity = self.value + gain * error, self.velocity + velocity_gain * error
        self._vv = self._vv - velocity_gain * self._pv
        self._pp, self._pv = (1 - gain) * self._pp, (1 - gain) * self._pv


@dataclass(eq=False)
class _Track:
    """One person. `id` is 0 until confirmed."""

    motion: _Motion
    born: float
    seen: float
    id: int = 0
    found: bool = field(default=True)  # in the newest frame

    def see(self, box: np.ndarray, stamp: float) -> None:
        self.motion.correct(box)
        self.seen = stamp


def _centred(box: np.ndarray) -> np.ndarray:
    """xyxy -> centre x, y, width, height."""
    return np.concatenate([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])


def _costs(tracks: Sequence[_Track], boxes: np.ndarray, scores: np.ndarray | None = None) -> np.ndarray:
    """1 - IoU (times the box's score) of each track's predicted box (T,) with each box (N, 4)."""
    predicted = np.array([track.motion.box for track in tracks]).reshape(-1, 1, 4)
    shared = np.minimum(predicted[..., 2:], boxes[None, :, 2:]) - np.maximum(predicted[..., :2], boxes[None, :, :2])
    intersection = np.maximum(shared, 0).prod(axis=-1)
    areas = [(side[..., 2:] - side[..., :2]).clip(0).prod(axis=-1) for side in (predicted, boxes[None])]
    iou = intersection / np.maximum(areas[0] + areas[1] - intersection, 1e-9)
    return np.asarray(1 - (iou if scores is None else iou * scores))


def _assign(cost: np.ndarray, maximum: float) -> list[tuple[int, int]]:
    """One-to-one pairs (row, column) of least total cost, each at most `maximum`."""
    from scipy.optimize import linear_sum_assignment

    if not cost.size:
        return []
    capped = np.where(cost <= maximum, cost, 1e3)  # no pair beyond the maximum pays for better ones
    return [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(capped), strict=True) if cost[i, j] <= maximum]
