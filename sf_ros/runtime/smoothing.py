"""Answers of single looks -> steady cues: one filter per track (or pair) and cue, driven by stamps alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sf_ros.core import gaze
from sf_ros.core.attention import looked_at, pixel_of
from sf_ros.core.config import CueConfig, RuntimeConfig
from sf_ros.core.tasks import TASKS
from sf_ros.core.types import Gaze, Label, Person, PersonCues, Relation
from sf_ros.runtime.engine import Answer, Question

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
    probabilities: np.ndarray | None = None
    told: tuple[float, ...] = ()  # the same, as they are handed out with every frame
    chosen: int = 0
    given: bool = False
    stamp: float = 0.0  # of the newest look

    def update(self, probabilities: np.ndarray, stamp: float) -> None:
        """Take in one look: probabilities (L,), stamp in seconds."""
        keep = 0.0 if self.probabilities is None else _keep(stamp - self.stamp, self.config.half_life_s)
        old = probabilities if self.probabilities is None else self.probabilities
        first, self.stamp = self.probabilities is None, stamp
        self.probabilities = keep * old + (1 - keep) * probabilities
        self.told = tuple(self.probabilities.tolist())
        best, before = int(np.argmax(self.probabilities)), self.chosen
        if (
            first
            or self.probabilities[best] >= self.config.enter
            or self.probabilities[self.chosen] < self.config.leave
        ):
            self.chosen = best
        held = self.given and self.chosen == before and self.config.enter > 0
        limit = self.minimum * (self.config.leave / self.config.enter if held else 1.0)
        silent = self.event not in ("", self.labels[self.chosen])
        self.given = silent or bool(self.probabilities[self.chosen] >= limit)

    def label(self, stamp: float) -> Label | None:
        """The belief at `stamp`; None before the first look and while it is withheld."""
        if self.probabilities is None or not self.given:
            return None
        return Label(self.labels[self.chosen], self.told[self.chosen], self.told, max(stamp - self.stamp, 0.0))


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

    def gaze(self, stamp: float) -> Gaze | None:
        """The belief at `stamp`, without a target; None before the first look and below the least confidence."""
        if self.believed is None or self.believed.confidence < self.config.min_confidence:
            return None
        return dataclasses.replace(self.believed, age_s=max(stamp - self.stamp, 0.0))


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
        self._config = config
        self._thresholds = thresholds or {}
        self._tracks: dict[tuple[int, ...], _Track] = {}

    def configure(self, config: RuntimeConfig) -> None:
        """Other filters and thresholds from the next look on; what is believed is kept."""
        self._config = config
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
            Relation((key[0], key[1]), self._label(key, "domain", stamp), self._label(key, "relation", stamp))
            for key in pairs
        )
        return (
            tuple(self._person(person, people, stamp, width, height) for person in people),
            tuple(found for found in relations if found.domain or found.relation),
        )

    def _person(self, person: Person, people: Sequence[Person], stamp: float, width: int, height: int) -> PersonCues:
        key = (person.track_id,)
        track = self._tracks.get(key)
        look = track.gaze.gaze(stamp) if track and track.gaze and self._config.gaze.enabled else None
        if look is not None:
            target = looked_at(pixel_of(look, (width, height)), person.track_id, people)
            look = dataclasses.replace(look, target_id=target)
        looking, expression = self._label(key, "looking_at_me", stamp), self._label(key, "expression", stamp)
        if person.face is None:
            limit = self._config.lost_after_s
            look = look if look and look.age_s <= limit else None
            looking = looking if looking and looking.age_s <= limit else None
            expression = expression if expression and expression.age_s <= limit else None
        return PersonCues(person, look, looking, expression, self._label(key, "gesture", stamp))

    def _label(self, key: tuple[int, ...], task: str, stamp: float) -> Label | None:
        track = self._tracks.get(key)
        found = track.labels.get(task) if track and self._config.cue(CUE_OF[task]).enabled else None
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
