"""Flicker, delay and accuracy of cues: recorded answers replayed through the robot's filters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from calibration.smoothing.recordings import Stream
from sf_ros.core.cues import TASKS, CueConfig
from sf_ros.engines.base import Answer
from sf_ros.io.truth import GAZE_NEAR_NORM
from sf_ros.perception.smoothing import GazeFilter, LabelFilter

GAP_S = 0.25  # the truth between frames further apart is unknown
MOVING_NORM_S = 0.15  # of the image per second: a true gaze point that is faster is moving to another target
TRANSIT_S = 0.8  # longest movement from one true gaze point to the next
EARLY_S = 0.2  # a cue may change this much before the truth, which switches in the middle of a movement
WATCHED_S = 1.0  # a change whose new truth lasts less is not scored


@dataclass(frozen=True)
class Segment:
    """A time of constant truth from `start_s` to `end_s`, in the frames first..last."""

    start_s: float
    end_s: float
    first: int
    last: int
    follows: bool  # whether an observed change of the truth starts it


@dataclass
class Steadiness:
    """Counts of one or several tasks with one setting; `+=` adds them up."""

    flickers: int = 0  # published changes during constant truth, except the one that follows a true change
    still_s: float = 0.0  # time of constant truth
    delays_s: list[float] = field(default_factory=list)  # from a true change to the published one
    missed_s: list[float] = field(default_factory=list)  # durations of truths that were never published
    frames: int = 0  # with a known truth and a published answer
    right: int = 0
    distance_norm: float = 0.0  # gaze: from the truth, summed over frames
    travel_norm: list[float] = field(default_factory=list)  # gaze: movements between queries during constant truth

    def __iadd__(self, other: Steadiness) -> Steadiness:
        self.flickers += other.flickers
        self.still_s += other.still_s
        self.delays_s += other.delays_s
        self.missed_s += other.missed_s
        self.frames += other.frames
        self.right += other.right
        self.distance_norm += other.distance_norm
        self.travel_norm += other.travel_norm
        return self

    @property
    def changes(self) -> int:
        """Number of true changes that are scored."""
        return len(self.delays_s) + len(self.missed_s)

    @property
    def flicker_per_min(self) -> float:
        return 60 * self.flickers / self.still_s if self.still_s else math.nan

    @property
    def delay_s(self) -> float:
        """Mean over all true changes; a missed one counts with the duration of its truth."""
        return float(np.mean(self.delays_s + self.missed_s)) if self.changes else math.nan

    @property
    def accuracy(self) -> float:
        return self.right / self.frames if self.frames else math.nan

    @property
    def error_norm(self) -> float:
        """Mean distance of the gaze point from the true one."""
        return self.distance_norm / self.frames if self.travel_norm else math.nan

    @property
    def jitter_norm(self) -> float:
        """Mean movement of the gaze point between queries during constant truth (the median is 0: points are cells)."""
        return float(np.mean(self.travel_norm)) if self.travel_norm else math.nan

    def figures(self) -> dict[str, Any]:
        """Rounded numbers for JSON; NaN becomes None."""
        values = {
            "flicker_per_min": self.flicker_per_min,
            "delay_s": self.delay_s,
            "delay_followed_s": float(np.median(self.delays_s)) if self.delays_s else math.nan,
            "accuracy": self.accuracy,
            "error_norm": self.error_norm,
            "jitter_norm": self.jitter_norm,
        }
        rounded = {name: round(value, 4) if math.isfinite(value) else None for name, value in values.items()}
        return {**rounded, "changes": self.changes, "missed": len(self.missed_s), "still_s": round(self.still_s, 1)}


def total_steadiness(streams: Iterable[Stream], cue: CueConfig) -> Steadiness:
    """The sum over streams with the settings of one cue."""
    total = Steadiness()
    for stream in streams:
        total += measure(stream, replay(stream, cue))
    return total


def replay(stream: Stream, cue: CueConfig) -> np.ndarray:
    """The published answer after each query: indices of labels (N,), or gaze points (N, 2)."""
    published: list[Any] = []
    task, stamps = TASKS[stream.task], stream.queries.tolist()
    if task.kind == "heatmap":
        gazes = GazeFilter(cue, task)
        for stamp, heatmap in zip(stamps, stream.answers.astype(np.float32), strict=True):
            gazes.update(Answer(heatmap=heatmap), stamp)
            published.append((0.0, 0.0) if gazes.current is None else gazes.current.point_norm)
    else:
        labels = LabelFilter(cue, task)
        for stamp, probabilities in zip(stamps, stream.answers.astype(np.float64), strict=True):
            labels.update(Answer(probabilities=probabilities), stamp)
            published.append(labels.chosen)
    return np.array(published)


def measure(stream: Stream, published: np.ndarray) -> Steadiness:
    """Compare the published answer after each query with the truth; a gaze point is right if it is near."""
    counts = Steadiness()
    constant = segments(stream)
    for number, segment in enumerate(constant):
        after = constant[number + 1] if number + 1 < len(constant) else None
        begin = int(np.searchsorted(stream.queries, segment.start_s))
        end = int(np.searchsorted(stream.queries, segment.end_s, "left" if after and after.follows else "right"))
        if end == 0:
            continue  # before the first query
        right = [_right(stream, published[i], stream.queries[i], segment) for i in range(begin, end)]
        was_right = begin > 0 and _right(stream, published[begin - 1], segment.start_s, segment)
        answer = next((begin + i for i, is_right in enumerate(right) if is_right), None)
        if segment.follows and begin > 0 and segment.end_s - segment.start_s >= WATCHED_S:
            if was_right or answer is not None:
                counts.delays_s.append(0.0 if was_right else float(stream.queries[answer] - segment.start_s))
            else:
                counts.missed_s.append(segment.end_s - segment.start_s)
        for i in range(max(begin, 1), end):
            expected = (not was_right and i == answer) or _early(
                stream, published[i], stream.queries[i], segment, after
            )
            if not expected:
                counts.flickers += int(_differ(stream, published[i - 1], published[i]))
                if published.ndim == 2:
                    counts.travel_norm.append(math.dist(published[i - 1], published[i]))
        counts.still_s += segment.end_s - max(segment.start_s, float(stream.queries[0]))
        frames = slice(segment.first, segment.last + 1)
        latest = np.searchsorted(stream.queries, stream.frames[frames], side="right") - 1
        shown, true = published[latest][latest >= 0], stream.truth[frames][latest >= 0]
        counts.frames += len(shown)
        counts.right += int((~_differ(stream, shown, true)).sum())
        if stream.truth.ndim == 2:
            counts.distance_norm += float(np.linalg.norm(shown - true, axis=1).sum())
    return counts


def segments(stream: Stream) -> list[Segment]:
    """The times of constant truth of a stream, in order.

    A slowly drifting gaze point is constant. A fast movement belongs to no segment; the change is in its middle.
    """
    runs = list(_runs(stream))
    result: list[Segment] = []
    for number, (first, last) in enumerate(runs):
        start, end, follows = float(stream.frames[first]), float(stream.frames[last]), False
        if number > 0:
            start, follows = _joint(stream, runs[number - 1][1], first)
        if number + 1 < len(runs) and (joint := _joint(stream, last, runs[number + 1][0]))[1]:
            end = joint[0]
        result.append(Segment(start, end, first, last, follows))
    return result


def _runs(stream: Stream) -> Iterator[tuple[int, int]]:
    """First and last frame of each time without a change or a fast movement of the gaze point."""
    if not len(stream.frames):
        return
    gaps = np.diff(stream.frames)
    if stream.truth.ndim == 1:
        breaks = (gaps > GAP_S) | (np.diff(stream.truth) != 0)
    else:
        breaks = (gaps > GAP_S) | (np.linalg.norm(np.diff(stream.truth, axis=0), axis=1) > MOVING_NORM_S * gaps)
    edges = [-1, *np.flatnonzero(breaks).tolist(), len(stream.frames) - 1]
    runs = [(a + 1, b) for a, b in pairwise(edges)]
    if stream.truth.ndim == 1:
        yield from runs
        return
    merged: list[tuple[int, int]] = []
    for first, last in runs:
        if first == last:
            continue
        before = merged[-1][1] if merged else None
        if (
            before is not None
            and _near_in_time(stream, before, first)
            and not _differ(stream, stream.truth[before], stream.truth[first])
        ):
            merged[-1] = merged[-1][0], last
        else:
            merged.append((first, last))
    yield from merged


def _joint(stream: Stream, last: int, first: int) -> tuple[float, bool]:
    """When the truth changed between the frames `last` and `first`, and whether the change was observed."""
    if not _near_in_time(stream, last, first):
        return float(stream.frames[first]), False
    if stream.truth.ndim == 1:
        return float(stream.frames[first]), True
    return float(stream.frames[last] + stream.frames[first]) / 2, True


def _near_in_time(stream: Stream, last: int, first: int) -> bool:
    """Whether the truth is known all the time between two frames."""
    between = np.diff(stream.frames[last : first + 1])
    limit = GAP_S if stream.truth.ndim == 1 else TRANSIT_S
    return bool((between <= GAP_S).all() and between.sum() <= limit)


def _right(stream: Stream, published: Any, stamp: float, segment: Segment) -> bool:
    """Whether a published answer agrees with the truth of a segment, at its latest frame before `stamp`."""
    frame = int(np.searchsorted(stream.frames, stamp, side="right")) - 1
    return not _differ(stream, published, stream.truth[min(max(frame, segment.first), segment.last)])


def _early(stream: Stream, published: Any, stamp: float, segment: Segment, after: Segment | None) -> bool:
    """Whether an answer published at the end of a segment agrees with the next one's truth."""
    if after is None or not after.follows or stamp < segment.end_s - EARLY_S:
        return False
    return not _differ(stream, published, stream.truth[after.first])


def _differ(stream: Stream, a: Any, b: Any) -> Any:
    """Whether labels differ, or gaze points are not near each other; elementwise for arrays."""
    return np.linalg.norm(np.subtract(a, b), axis=-1) > GAZE_NEAR_NORM if stream.truth.ndim == 2 else a != b
