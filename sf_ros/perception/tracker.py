"""Stable track ids: ByteTrack (Zhang et al. 2022) with a memory in seconds of the stream's stamps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sf_ros.core.types import Box

ROUNDING_S = 1e-6  # of differences of stamps
LOW_SCORE = 0.1  # weaker boxes may continue a track but not start one (ByteTrack's second association)
# Largest cost (1 - IoU, or 1 - IoU * score) of a match: with sure boxes, with weak ones, of people seen once, and with
# boxes that overlap another person's by so much that they may be a second one of that body.
MAX_COST, MAX_WEAK_COST, MAX_NEW_COST, MAX_DOUBTFUL_COST = 0.8, 0.5, 0.7, 0.3
# Boxes of people whom the left or the right edge cuts off change shape quickly, from an arm to all that is visible and
# back. Where two boxes touch the same edge (within EDGE of the image's width), the share of the smaller one inside the
# larger, times CUT_OFF, counts as their IoU if it is more, unless the areas' ratio is below CUT_OFF_AREA.
EDGE, CUT_OFF, CUT_OFF_AREA = 0.02, 0.7, 0.3
# Before that, by faces: where people overlap, a body box jumps from one to the other or takes in both; faces stay.
MAX_FACE_COST, FACE_MEMORY_S = 0.5, 0.5
SAME_IOU = 0.85  # a found and a lost track that overlap by more are one person: the one known for longer stays
# ByteTrack's Kalman filter at 30 frames a second: standard deviations in box heights.
FRAMES_PER_S, POSITION, VELOCITY = 30.0, 1 / 20, 1 / 160


Cost = Callable[[list["_Track"], list[int]], np.ndarray]  # tracks, indices of boxes -> (T, N)


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

    def update(
        self,
        boxes: np.ndarray,
        scores: np.ndarray,
        stamp: float,
        faces: Mapping[int, Box] | None = None,
        doubtful_from: int | None = None,
        width: float | None = None,
    ) -> list[tuple[int, int]]:
        """Boxes (N, 4) xyxy pixels and scores (N,) -> pairs (track id, index of its box). faces: by index of their box.

        doubtful_from: index of the first of the boxes that may be second ones of a body; they start no track. width: of
        the image, pixels; None: its edges are not known.

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
        sure = [int(i) for i in np.flatnonzero(scores[:doubtful_from] >= self._score)]
        low = [int(i) for i in np.flatnonzero(scores >= min(LOW_SCORE, self._score))]
        doubtful = [i for i in low if doubtful_from is not None and i >= doubtful_from]
        weak = [i for i in low if i not in sure and i not in doubtful]
        confirmed = [track for track in self._tracks if track.id]
        new = [track for track in self._tracks if not track.id]
        faces = faces or {}
        pairs: list[tuple[_Track, int]] = []

        def match(tracks: list[_Track], rows: list[int], cost: Cost, maximum: float) -> None:
            """Add pairs of those that have none yet."""
            tracks = [track for track in tracks if all(track is not other for other, _ in pairs)]
            rows = [row for row in rows if all(row != other for _, other in pairs)]
            if tracks and rows:
                pairs.extend((tracks[i], rows[j]) for i, j in _assign(cost(tracks, rows), maximum))

        def by_face(tracks: list[_Track], rows: list[int]) -> np.ndarray:
            known, shown = [track.face for track in tracks if track.face], [faces[row] for row in rows]
            return 1 - np.array([[a.iou(b) for b in shown] for a in known], float)

        def by_body(tracks: list[_Track], rows: list[int]) -> np.ndarray:
            return np.asarray(1 - _overlaps(tracks, boxes[rows], width))

        def by_body_and_score(tracks: list[_Track], rows: list[int]) -> np.ndarray:
            return np.asarray(1 - _overlaps(tracks, boxes[rows], width) * scores[rows])

        seen_faces = [track for track in confirmed if track.face and stamp - track.face_seen <= FACE_MEMORY_S]
        match(seen_faces, [row for row in sure if row in faces], by_face, MAX_FACE_COST)
        match(confirmed, sure, by_body_and_score, MAX_COST)
        match([track for track in confirmed if track.found], weak, by_body, MAX_WEAK_COST)
        match([track for track in confirmed if track.found], doubtful, by_body, MAX_DOUBTFUL_COST)
        match(new, sure, by_body_and_score, MAX_NEW_COST)
        matched = {id(track) for track, _ in pairs}
        for track, row in pairs:
            track.see(boxes[row], stamp, faces.get(row))
        # Unconfirmed people who were not seen a second time were none.
        self._tracks = [track for track in self._tracks if id(track) in matched or track.id]
        for track in self._tracks:
            track.found = id(track) in matched
        used = {row for _, row in pairs}
        for row in (row for row in sure if row not in used):
            track = _Track(_Motion(boxes[row]), stamp, stamp, faces.get(row), stamp)
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
        near = np.argwhere(_ious(found, np.array([track.motion.box for track in lost]).reshape(-1, 4)) > SAME_IOU)
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
    face: Box | None = None  # where it was last
    face_seen: float = 0.0
    id: int = 0
    found: bool = True  # in the newest frame

    def see(self, box: np.ndarray, stamp: float, face: Box | None) -> None:
        self.motion.correct(box)
        self.seen = stamp
        if face is not None:
            self.face, self.face_seen = face, stamp


def _centred(box: np.ndarray) -> np.ndarray:
    """xyxy -> centre x, y, width, height."""
    return np.concatenate([(box[:2] + box[2:]) / 2, box[2:] - box[:2]])


def _ious(tracks: Sequence[_Track], boxes: np.ndarray) -> np.ndarray:
    """Intersection over union (T, N) of each track's predicted box with each box (N, 4)."""
    shared, areas, other_areas = _areas(_predicted(tracks), boxes)
    return np.asarray(shared / np.maximum(areas + other_areas - shared, 1e-9))


def _overlaps(tracks: Sequence[_Track], boxes: np.ndarray, width: float | None) -> np.ndarray:
    """As _ious, or more where the same edge of the image cuts off both boxes (T, N)."""
    ious = _ious(tracks, boxes)
    if width is None:
        return ious
    predicted, margin = _predicted(tracks), EDGE * width
    shared, areas, other_areas = _areas(predicted, boxes)
    smaller, larger = np.minimum(areas, other_areas), np.maximum(areas, other_areas)
    left = (predicted[:, None, 0] < margin) & (boxes[None, :, 0] < margin)
    right = (predicted[:, None, 2] > width - margin) & (boxes[None, :, 2] > width - margin)
    alike = (left | right) & (smaller > CUT_OFF_AREA * larger)
    return np.where(alike, np.maximum(ious, CUT_OFF * shared / np.maximum(smaller, 1e-9)), ious)


def _predicted(tracks: Sequence[_Track]) -> np.ndarray:
    """(T, 4) xyxy."""
    return np.array([track.motion.box for track in tracks]).reshape(-1, 4)


def _areas(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Areas of the intersections (A, B) of boxes (A, 4) and (B, 4), of a as (A, 1), and of b as (1, B)."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    own, other = ((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=-1) for boxes in (a, b))
    return np.maximum(sides, 0).prod(axis=-1), own[:, None], other[None]


def _assign(cost: np.ndarray, maximum: float) -> list[tuple[int, int]]:
    """One-to-one pairs (row, column) of least total cost, each at most `maximum`."""
    from scipy.optimize import linear_sum_assignment

    if not cost.size:
        return []
    capped = np.where(cost <= maximum, cost, 1e3)  # no pair beyond the maximum pays for better ones
    return [(int(i), int(j)) for i, j in zip(*linear_sum_assignment(capped), strict=True) if cost[i, j] <= maximum]
