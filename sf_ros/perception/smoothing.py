"""Answers of single looks -> steady cues: one filter per track (or pair) and cue, driven by stamps alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sf_ros.core import gaze
from sf_ros.core.attention import looked_at, pixel_of
from sf_ros.core.config import CueConfig, RuntimeConfig
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Gaze, Label, Person, PersonCues, Relation
from sf_ros.engines.base import Answer, Question

JUMP_NORM = 0.2  # of the picture: a look this far from the smoothed point starts anew instead of blending


@dataclass
class LabelFilter:
    """Exponentially smoothed probabilities of one question, and the label believed now (hysteresis).

    The first look decides at once. Later, another label takes over when it is the largest and either reaches `enter`
    or the present one fell below `leave`. A label is given from `minimum` on, until it falls below the same share of
    `minimum` that `leave` is of `enter`.
    """

    config: CueConfig
    labels: tuple[str, ...]
    minimum: float = 0.0  # probability below which `event` is withheld
    event: str = ""  # '': every label
    probabilities: tuple[float, ...] = ()  # () before the first look
    chosen: int = 0
    given: bool = False
    stamp: float = 0.0  # of the newest look

    def update(self, probabilities: np.ndarray, stamp: float) -> None:
        """Take in one look: probabilities (L,), stamp in seconds."""
        fresh, old = tuple(probabilities.tolist()), self.probabilities
        keep = _keep(stamp - self.stamp, self.config.half_life_s)
        mixed = tuple(keep * a + (1 - keep) * b for a, b in zip(old, fresh, strict=True)) if old else fresh
        self.probabilities, self.stamp = mixed, stamp
        best, before = mixed.index(max(mixed)), self.chosen
        if not old or mixed[best] >= self.config.enter or mixed[self.chosen] < self.config.leave:
            self.chosen = best
        held = self.given and self.chosen == before and self.config.enter > 0
        limit = self.minimum * (self.config.leave / self.config.enter if held else 1.0)
        silent = self.event not in ("", self.labels[self.chosen])
        self.given = silent or mixed[self.chosen] >= limit

    def label(self, stamp: float) -> Label | None:
        """The belief at `stamp`; None before the first look and while it is withheld."""
        if not self.probabilities or not self.given:
            return None
        told = self.probabilities
        return Label(self.labels[self.chosen], told[self.chosen], told, max(stamp - self.stamp, 0.0))


@dataclass
class GazeFilter:
    """An exponentially smoothed heatmap; the point is its highest cell, so two candidates never average to nothing."""

    config: CueConfig
    believed: Gaze | None = None
    stamp: float = 0.0

    def update(self, heatmap: np.ndarray, stamp: float) -> None:
        """Take in one look: heatmap (size, size) in 0..1, stamp in seconds."""
        (point, confidence), old = gaze.decode(heatmap), self.believed
        if old is not None and old.heatmap is not None and math.dist(old.point_norm, point) <= JUMP_NORM:
            keep = _keep(stamp - self.stamp, self.config.half_life_s)
            heatmap = keep * old.heatmap + (1 - keep) * heatmap
            point, confidence = gaze.decode(heatmap)
        spread = gaze.spread(heatmap, point)  # once a look, and not in every frame
        self.believed = Gaze(point, min(max(confidence, 0.0), 1.0), heatmap, spread_norm=spread)
        self.stamp = stamp

    def gaze(self, stamp: float, target: Callable[[Gaze], int | None] = lambda _: None) -> Gaze | None:
        """The belief at `stamp`, on whom `target` says; None before the first look and below the least confidence."""
        held = self.believed
        if held is None or held.confidence < self.config.min_confidence:
            return None
        age_s = max(stamp - self.stamp, 0.0)
        # Written out, since replace() takes twice as long, for everybody in every frame.
        return Gaze(held.point_norm, held.confidence, held.heatmap, age_s, target(held), held.spread_norm)


@dataclass
class _Track:
    """The filters of one person or pair."""

    labels: dict[str, LabelFilter] = field(default_factory=dict)
    gaze: GazeFilter | None = None
    seen: float = 0.0


class Smoother:
    """Filters of everybody in view. A track unseen for `lost_after_s` is forgotten, and its pairs with it.

    `thresholds` are the bundle's operating points by question, which a cue's own `min_confidence` goes before.
    """

    def __init__(self, config: RuntimeConfig, thresholds: Mapping[str, float] | None = None) -> None:
        self._thresholds = thresholds or {}
        self._tracks: dict[tuple[int, ...], _Track] = {}
        self.configure(config)

    def configure(self, config: RuntimeConfig) -> None:
        """Other filters and thresholds from the next look on; what is believed is kept."""
        self._config = config
        self._enabled = {task for task, cue in CUE_OF.items() if config.cue(cue).enabled}
        for track in self._tracks.values():
            for task, found in track.labels.items():
                found.config, found.minimum = config.cue(CUE_OF[task]), self._minimum(task)
            if track.gaze is not None:
                track.gaze.config = config.gaze

    def reset(self) -> None:
        """Forget everything."""
        self._tracks.clear()

    def update(self, questions: Sequence[Question], answers: Sequence[Answer], stamp: float) -> None:
        """Take in the answers to the questions asked about the frame of `stamp`, in the same order."""
        for question, answer in zip(questions, answers, strict=True):
            track = self._tracks.setdefault(tuple(sorted(question.track_ids)), _Track(seen=stamp))
            spec, cue = TASKS[question.task], self._config.cue(CUE_OF[question.task])
            if spec.kind == "heatmap":
                track.gaze = track.gaze or GazeFilter(cue)
                track.gaze.update(_given(answer.heatmap, question), stamp)
            else:
                fresh = LabelFilter(cue, spec.labels, self._minimum(spec.name), spec.event)
                track.labels.setdefault(spec.name, fresh).update(_given(answer.probabilities, question), stamp)

    def cues(
        self, people: Sequence[Person], stamp: float, width: int, height: int
    ) -> tuple[tuple[PersonCues, ...], tuple[Relation, ...]]:
        """What is believed about the people of a frame of (width, height) pixels, and about the pairs among them.

        Cues read from a face outlive it by `lost_after_s` at most; cues that are switched off are left out.
        """
        present = {person.track_id for person in people}
        self._forget(present, stamp)
        pairs = sorted(key for key in self._tracks if len(key) == 2 and present.issuperset(key))
        pairs = pairs if self._config.relation.enabled else []
        relations = (
            Relation(key, *(self._label(self._tracks[key], task, stamp) for task in ("domain", "relation")))
            for key in pairs
        )
        return (
            tuple(self._person(person, people, stamp, width, height) for person in people),
            tuple(found for found in relations if found.domain or found.relation),
        )

    def _person(self, person: Person, people: Sequence[Person], stamp: float, width: int, height: int) -> PersonCues:
        track = self._tracks.get((person.track_id,))
        if track is None:
            return PersonCues(person)

        def target(look: Gaze) -> int | None:
            return looked_at(pixel_of(look, (width, height)), person.track_id, people)

        look = track.gaze.gaze(stamp, target) if track.gaze and "gaze" in self._enabled else None
        looking, expression = self._label(track, "looking_at_me", stamp), self._label(track, "expression", stamp)
        if person.face is None:
            limit = self._config.lost_after_s
            look = look if look and look.age_s <= limit else None
            looking = looking if looking and looking.age_s <= limit else None
            expression = expression if expression and expression.age_s <= limit else None
        return PersonCues(person, look, looking, expression, self._label(track, "gesture", stamp))

    def _label(self, track: _Track, task: str, stamp: float) -> Label | None:
        found = track.labels.get(task) if task in self._enabled else None
        return found.label(stamp) if found else None

    def _minimum(self, task: str) -> float:
        """From which probability on an answer to the question is given."""
        own = self._config.cue(CUE_OF[task]).min_confidence
        return own if own >= 0 else self._thresholds.get(task, 0.0)

    def _forget(self, present: set[int], stamp: float) -> None:
        for key, track in list(self._tracks.items()):
            if present.issuperset(key):
                track.seen = stamp
            elif stamp - track.seen > self._config.lost_after_s:
                del self._tracks[key]


CUE_OF = {
    "domain": "relation",
    **{name: name for name in TASKS if name != "domain"},
}  # question -> cue of RuntimeConfig


def _keep(elapsed_s: float, half_life_s: float) -> float:
    """The weight of old evidence after `elapsed_s`."""
    return 0.0 if half_life_s == 0 else 0.5 ** (max(elapsed_s, 0.0) / half_life_s)


def _given(value: np.ndarray | None, question: Question) -> np.ndarray:
    if value is None:
        raise ValueError(f"The engine gave no answer of the kind that '{question.task}' wants.")
    return value
