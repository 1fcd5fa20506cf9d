"""Which questions to ask about this frame: the stalest first, until the latency budget is spent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.types import Box, Person
from sf_ros.engines.base import Question

# A look is what one visual prefix answers; its questions are asked together.
LOOKS = {
    "gaze": ("gaze",),
    "face": ("looking_at_me", "expression"),
    "gesture": ("gesture",),
    "pair": ("domain", "relation"),
}
INITIAL_COST_MS = {
    "gaze": 15.0,
    "looking_at_me": 8.0,
    "expression": 8.0,
    "gesture": 15.0,
    "domain": 10.0,
    "relation": 10.0,
}
INITIAL_CALL_MS = 5.0  # of a call itself, whatever is asked
LEARNING_RATE = 0.3  # of the cost estimates
MIN_COST_MS = 0.1
SPIKE = 10.0  # a call slower than this many estimates (warming up, a stall) counts as this many
MIN_PERIOD_S = 1 / 30  # a period of 0 means every frame, which must not starve the others


@dataclass(frozen=True)
class Look:
    """Questions due about one person or pair. `lateness` is in weighted periods; `new` before a person's first look."""

    kind: str
    questions: tuple[Question, ...]
    lateness: float
    new: bool


class Scheduler:
    """Keeps when each question was last asked about whom, and what questions cost on this device.

    Nobody starves: lateness grows without bound while a question waits, the latest look is always taken even if it
    breaks the budget, and first looks at newcomers take every other frame at most when somebody else waits.
    """

    def __init__(self, config: RuntimeConfig) -> None:
        self.configure(config)
        self.reset()
        self._cost_ms = dict(INITIAL_COST_MS)
        self._call_ms = INITIAL_CALL_MS

    def configure(self, config: RuntimeConfig) -> None:
        """Other rates, weights and budget from the next frame on; what was asked when is kept."""
        self._config = config
        cues = {kind: [(t, config.cue("relation" if kind == "pair" else t)) for t in LOOKS[kind]] for kind in LOOKS}
        self._cues = {kind: [(task, cue) for task, cue in found if cue.enabled] for kind, found in cues.items()}

    def reset(self) -> None:
        """Forget whom was asked about; measured costs stay."""
        self._asked: dict[tuple[str, tuple[int, ...]], float] = {}  # (question, ids) -> stamp
        self._seen: dict[int, tuple[float, float]] = {}  # id -> first and last stamp
        self._newcomers_went_first = False

    def pick(self, people: Sequence[Person], stamp: float, frame_size: tuple[int, int]) -> list[Question]:
        """The questions to ask about this frame of (width, height) pixels; they count as asked at `stamp`."""
        self._remember(people, stamp)
        known: list[Look] = []
        new: list[Look] = []
        for look in self._due(people, stamp, frame_size):
            (new if look.new else known).append(look)
        known.sort(key=lambda look: -look.lateness)
        new.sort(key=lambda look: -look.lateness)
        if self._newcomers_went_first and known:
            order = [known[0], *new, *known[1:]]
        else:
            order = [*new, *known]
        chosen: list[Question] = []
        left_ms = self._config.budget_ms - self._call_ms
        for look in order:
            cost = sum(self._cost_ms[question.task] for question in look.questions)
            if cost <= left_ms or not chosen:
                chosen.extend(look.questions)
                left_ms -= cost
        self._newcomers_went_first = bool(order) and order[0].new
        for question in chosen:
            self._asked[question.task, question.track_ids] = stamp
        return chosen

    def report(self, questions: Sequence[Question], elapsed_ms: float) -> None:
        """Learn from what a call cost.

        The call and each kind of question have a price; the error goes to those involved in proportion to how many
        there were (Kaczmarz's step towards the least-squares prices).
        """
        if not questions:
            return
        counts: dict[str, int] = {}
        for question in questions:
            counts[question.task] = counts.get(question.task, 0) + 1
        expected = self.estimate_ms(questions)
        error = min(elapsed_ms, SPIKE * expected) - expected
        step = LEARNING_RATE * error / (1 + sum(n * n for n in counts.values()))
        self._call_ms = max(self._call_ms + step, 0.0)
        for task, n in counts.items():
            self._cost_ms[task] = max(self._cost_ms[task] + step * n, MIN_COST_MS)

    def estimate_ms(self, questions: Sequence[Question]) -> float:
        """What a call with these questions should cost."""
        return self._call_ms + sum(self._cost_ms[question.task] for question in questions)

    def _remember(self, people: Sequence[Person], stamp: float) -> None:
        for person in people:
            first, _ = self._seen.get(person.track_id, (stamp, stamp))
            self._seen[person.track_id] = first, stamp
        lost = {i for i, (_, last) in self._seen.items() if stamp - last > self._config.lost_after_s}
        if lost:
            self._seen = {i: times for i, times in self._seen.items() if i not in lost}
            self._asked = {key: asked for key, asked in self._asked.items() if lost.isdisjoint(key[1])}

    def _due(self, people: Sequence[Person], stamp: float, frame_size: tuple[int, int]) -> list[Look]:
        looks = []
        for person in people:
            ids = (person.track_id,)
            face = person.face.clipped(*frame_size) if person.face else None
            body = person.body.clipped(*frame_size)
            if face and min(face.width, face.height) >= self._config.min_face_px:
                looks += [self._look("gaze", ids, (face,), stamp), self._look("face", ids, (face,), stamp)]
            if body:
                looks.append(self._look("gesture", ids, (body,), stamp))
        for a, b in nearest_pairs(people, self._config.max_pairs):
            bodies = a.body.clipped(*frame_size), b.body.clipped(*frame_size)
            if bodies[0] and bodies[1]:
                looks.append(self._look("pair", (a.track_id, b.track_id), (bodies[0], bodies[1]), stamp))
        return [look for look in looks if look]

    def _look(self, kind: str, ids: tuple[int, ...], boxes: tuple[Box, ...], stamp: float) -> Look | None:
        """The look's questions if one of them is due; the others come along from half their period on."""
        due: list[Question] = []
        soon: list[Question] = []
        lateness, new = 0.0, False
        for task, cue in self._cues[kind]:
            period = max(cue.period_s, MIN_PERIOD_S)
            asked = self._asked.get((task, ids))
            if asked is not None:
                age = (stamp - asked) / period
            else:
                age = 1 + (stamp - max(self._seen[i][0] for i in ids)) / period
            if age >= 1 - 1e-6 or (cue.period_s == 0 and age > 0):
                due.append(Question(task, ids, boxes))
                lateness = max(lateness, cue.weight * age)
                new |= asked is None and len(ids) == 1
            elif age >= 0.5:
                soon.append(Question(task, ids, boxes))
        return Look(kind, (*due, *soon), lateness, new) if due else None


def nearest_pairs(people: Sequence[Person], limit: int) -> list[tuple[Person, Person]]:
    """At most `limit` pairs, nearest first, each in ascending order of track ids.

    Nearness is the distance of the bodies' middles in units of their mean height, larger when their heights differ: of
    two people at different depths only one looks small.
    """
    ordered = sorted(people, key=lambda person: person.track_id)
    stands = [(person.body.center, max(person.body.height, 1.0)) for person in ordered]
    depths = [math.log(height) for _, height in stands]

    def distance(pair: tuple[int, int]) -> float:
        (place_a, height_a), (place_b, height_b) = stands[pair[0]], stands[pair[1]]
        apart = math.dist(place_a, place_b) / ((height_a + height_b) / 2)
        return apart + abs(depths[pair[0]] - depths[pair[1]])

    nearest = sorted(combinations(range(len(ordered)), 2), key=distance)[:limit]
    return [(ordered[a], ordered[b]) for a, b in nearest]
