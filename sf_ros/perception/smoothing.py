"""Answers of single frames -> steady cues: one filter per track (or pair) and task, driven by stamps alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sf_ros.core import gaze
from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUE_OF, CUES, TASKS, CueConfig, Task, cues_of
from sf_ros.core.types import CueValue, Gaze, Label, PairCues, Person, PersonCues
from sf_ros.engines.base import Answer, Answers, Query

JUMP_NORM = 0.2  # of the image: an answer this far from the smoothed point replaces it instead of blending


@dataclass
class LabelFilter:
    """Exponentially smoothed probabilities of one task, and the current label (hysteresis).

    The first answer sets the label. Later, another label replaces it when it is the largest and either reaches `enter`
    or the current one falls below `leave`. A label is published from `minimum` on, until it falls below
    `minimum * leave / enter`.
    """

    config: CueConfig
    task: Task
    minimum: float = 0.0  # probability below which the label (where the task has an event: the event) is withheld
    probabilities: tuple[float, ...] = ()  # () before the first answer
    chosen: int = 0
    published: bool = False
    stamp: float = 0.0  # of the newest answer

    def update(self, answer: Answer, stamp: float) -> None:
        """Add an answer: probabilities (L,), stamp in seconds."""
        fresh, old = tuple(_required(answer.probabilities, self.task).tolist()), self.probabilities
        keep = _old_weight(stamp - self.stamp, self.config.half_life_s)
        mixed = tuple(keep * a + (1 - keep) * b for a, b in zip(old, fresh, strict=True)) if old else fresh
        self.probabilities, self.stamp = mixed, stamp
        best, before = mixed.index(max(mixed)), self.chosen
        if not old or mixed[best] >= self.config.enter or mixed[self.chosen] < self.config.leave:
            self.chosen = best
        held = self.published and self.chosen == before and self.config.enter > 0
        limit = self.minimum * (self.config.leave / self.config.enter if held else 1.0)
        exempt = self.task.event not in ("", self.task.labels[self.chosen])
        self.published = exempt or mixed[self.chosen] >= limit

    def value(self, stamp: float) -> Label | None:
        """The label at `stamp`; None before the first answer and while it is withheld."""
        if not self.probabilities or not self.published:
            return None
        probabilities = self.probabilities
        name, age_s = self.task.labels[self.chosen], max(stamp - self.stamp, 0.0)
        return Label(name, probabilities[self.chosen], probabilities, age_s)


@dataclass
class GazeFilter:
    """An exponentially smoothed heatmap; the point is its highest cell, so two peaks are never averaged."""

    config: CueConfig
    task: Task
    minimum: float = 0.0  # peak below which the gaze is withheld
    current: Gaze | None = None
    stamp: float = 0.0

    def update(self, answer: Answer, stamp: float) -> None:
        """Add an answer: a heatmap (size, size) in 0..1, stamp in seconds."""
        heatmap, old = _required(answer.heatmap, self.task), self.current
        point, confidence = gaze.decode(heatmap)
        if old is not None and old.heatmap is not None and math.dist(old.point_norm, point) <= JUMP_NORM:
            keep = _old_weight(stamp - self.stamp, self.config.half_life_s)
            heatmap = keep * old.heatmap + (1 - keep) * heatmap
            point, confidence = gaze.decode(heatmap)
        spread = gaze.spread(heatmap, point)  # once per answer, not per frame
        self.current = Gaze(point, min(max(confidence, 0.0), 1.0), heatmap, spread_norm=spread)
        self.stamp = stamp

    def value(self, stamp: float) -> Gaze | None:
        """The gaze at `stamp`, without a target; None before the first answer and below the minimum confidence."""
        held = self.current
        if held is None or held.confidence < self.minimum:
            return None
        # Constructed directly: dataclasses.replace takes twice as long, for everyone in every frame.
        return Gaze(
            held.point_norm, held.confidence, held.heatmap, max(stamp - self.stamp, 0.0), None, held.spread_norm
        )


@dataclass
class _Track:
    """The filters of one person or pair, by task."""

    filters: dict[str, LabelFilter | GazeFilter] = field(default_factory=dict)
    seen: float = 0.0


class Smoother:
    """The filters of everyone in view. A track unseen for `lost_after_s` is dropped, and its pairs with it.

    `thresholds` are the bundle's operating points by task; a cue's own `min_confidence` overrides them. `cues` are
    those that the engine can answer.
    """

    def __init__(
        self,
        config: RuntimeConfig,
        thresholds: Mapping[str, float] | None = None,
        cues: Collection[str] = tuple(CUES),
    ) -> None:
        self._thresholds = thresholds or {}
        self._available = tuple(cues)
        self._tracks: dict[tuple[int, ...], _Track] = {}
        self.configure(config)

    def configure(self, config: RuntimeConfig) -> None:
        """Use other filters and thresholds from the next answer on; current values stay."""
        self._config = config
        enabled = [name for name in self._available if config.cue(name).enabled]
        self._tasks = {  # subject -> (task, whether it is read from the face) of the cues that are on
            subject: [(t, c.evidence == "face") for c in cues_of(subject) if c.name in enabled for t in c.tasks]
            for subject in ("person", "pair")
        }
        for track in self._tracks.values():
            for task, kept in track.filters.items():
                kept.config = config.cue(CUE_OF[task])
                kept.minimum = self._minimum(task)

    def reset(self) -> None:
        """Forget everything."""
        self._tracks.clear()

    def update(self, queries: Sequence[Query], answers: Sequence[Answers], stamp: float) -> None:
        """Add the answers to the queries about the frame of `stamp`, in the same order."""
        for query, answered in zip(queries, answers, strict=True):
            track = self._tracks.setdefault(tuple(sorted(query.ids)), _Track(seen=stamp))
            for task in query.tasks:
                if task not in track.filters:
                    track.filters[task] = self._new_filter(TASKS[task])
                track.filters[task].update(answered[task], stamp)

    def cues(self, people: Sequence[Person], stamp: float) -> tuple[tuple[PersonCues, ...], tuple[PairCues, ...]]:
        """The cues of the people in a frame, and of the pairs among them.

        Values read from a face outlive it by at most `lost_after_s`; cues that are off are left out.
        """
        present = {person.track_id for person in people}
        self._forget(present, stamp)
        pairs = []
        for key in sorted(key for key in self._tracks if len(key) == 2 and present.issuperset(key)):
            values = self._values(key, "pair", stamp, face_visible=True)
            labels = {task: value for task, value in values.items() if isinstance(value, Label)}
            if labels:
                pairs.append(PairCues((key[0], key[1]), labels))
        return tuple(self._person(person, stamp) for person in people), tuple(pairs)

    def _person(self, person: Person, stamp: float) -> PersonCues:
        return PersonCues(person, self._values((person.track_id,), "person", stamp, person.face is not None))

    def _values(self, key: tuple[int, ...], subject: str, stamp: float, face_visible: bool) -> dict[str, CueValue]:
        track = self._tracks.get(key)
        values: dict[str, CueValue] = {}
        for task, from_face in self._tasks[subject] if track is not None else ():
            kept = track.filters.get(task) if track is not None else None
            value = kept.value(stamp) if kept is not None else None
            if value is None or (from_face and not face_visible and value.age_s > self._config.lost_after_s):
                continue
            values[task] = value
        return values

    def _new_filter(self, task: Task) -> LabelFilter | GazeFilter:
        config = self._config.cue(CUE_OF[task.name])
        kind = GazeFilter if task.kind == "heatmap" else LabelFilter
        return kind(config, task, self._minimum(task.name))

    def _minimum(self, task: str) -> float:
        """The probability from which the task's label is published."""
        own = self._config.cue(CUE_OF[task]).min_confidence
        return own if own >= 0 else self._thresholds.get(task, 0.0)

    def _forget(self, present: set[int], stamp: float) -> None:
        for key, track in list(self._tracks.items()):
            if present.issuperset(key):
                track.seen = stamp
            elif stamp - track.seen > self._config.lost_after_s:
                del self._tracks[key]


def _old_weight(elapsed_s: float, half_life_s: float) -> float:
    """The weight of earlier answers after `elapsed_s`."""
    return 0.0 if half_life_s == 0 else 0.5 ** (max(elapsed_s, 0.0) / half_life_s)


def _required(value: np.ndarray | None, task: Task) -> np.ndarray:
    if value is None:
        raise ValueError(f"The engine's answer to '{task.name}' lacks its {task.kind}.")
    return value
