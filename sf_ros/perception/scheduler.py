"""Which queries to send for this frame: the stalest first, until the latency budget is spent."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUE_OF, CUES, TASKS, cues_of
from sf_ros.core.types import Box, Person
from sf_ros.engines.base import Query

INITIAL_CALL_MS = 5.0  # first estimate of a call's fixed cost
FIRST_ERROR = 3.0  # of the first estimates, as a multiple of them; one standard deviation, as those below
NOISE = 0.2  # of a call's duration, as a share of it
DRIFT = 0.05  # of a price from call to call, as a share of it: temperature, other load
MIN_COST_MS = 0.1
MAX_SPIKE = 10.0  # a call slower than this many estimates (warm-up, a stall) counts as this many
MIN_PERIOD_S = 1 / 30  # a period of 0 means every frame, which must not starve the others
JOIN_AGE = 0.5  # of its period: a task this old joins a query that another task makes due


@dataclass(frozen=True)
class Group:
    """Tasks that one query may ask together: the same evidence and the same view."""

    evidence: str  # face | body | pair
    view: str  # frame | face | person
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """A query that is due. `lateness` is in weighted periods; `first`: a person's first query of this group."""

    query: Query
    lateness: float
    first: bool


def query_groups(subject: str, cues: Collection[str] = tuple(CUES)) -> tuple[Group, ...]:
    """The groups of tasks about a person or a pair, in table order; only those of `cues`."""
    members: dict[tuple[object, ...], list[str]] = {}
    for cue in cues_of(subject):
        for task in cue.tasks if cue.name in cues else ():
            members.setdefault((cue.evidence, *TASKS[task].view_key), []).append(task)
    return tuple(Group(str(key[0]), str(key[1]), tuple(tasks)) for key, tasks in members.items())


class Scheduler:
    """Remembers when each task was last asked about whom, and what tasks cost on this device.

    Nobody starves: lateness grows without bound while a query waits, the latest query is always sent even if it breaks
    the budget, and first queries about new people take at most every other frame while others wait.
    """

    def __init__(self, config: RuntimeConfig, cues: Collection[str] = tuple(CUES)) -> None:
        """cues: those that the engine can answer."""
        self._available = tuple(cues)
        self.configure(config)
        self.reset()
        # Prices in ms: of a call, then of each task, and their covariance.
        self._prices = np.array([INITIAL_CALL_MS, *(task.cost_ms for task in TASKS.values())])
        self._covariance = np.diag((FIRST_ERROR * self._prices) ** 2)

    def configure(self, config: RuntimeConfig) -> None:
        """Use other rates, weights and budget from the next frame on."""
        self._config = config
        enabled = [name for name in self._available if config.cue(name).enabled]
        self._person_groups = query_groups("person", enabled)
        self._pair_groups = query_groups("pair", enabled)

    def reset(self) -> None:
        """Forget all people; measured costs stay."""
        self._asked: dict[tuple[str, tuple[int, ...]], float] = {}  # (task, ids) -> stamp
        self._seen: dict[int, tuple[float, float]] = {}  # id -> first and last stamp
        self._newcomers_went_first = False

    def pick(
        self, people: Sequence[Person], stamp: float, frame_size: tuple[int, int], *, everything: bool = False
    ) -> list[Query]:
        """The queries for this frame of (width, height) pixels; they count as asked at `stamp`.

        With `everything`, every task about every person and pair, whatever the rates, the budget and `max_pairs`.
        """
        self._remember(people, stamp)
        if everything:
            self._asked.clear()
        limit = len(people) ** 2 if everything else self._config.max_pairs
        due = self._due(people, stamp, frame_size, limit)
        candidates = sorted(due, key=lambda candidate: -candidate.lateness)
        newcomers = [candidate for candidate in candidates if candidate.first]
        others = [candidate for candidate in candidates if not candidate.first]
        order = [*newcomers, *others]
        if self._newcomers_went_first and others:
            order = [others[0], *newcomers, *others[1:]]
        chosen: list[Query] = []
        left_ms = self._config.budget_ms - float(self._prices[0])
        for candidate in order:
            cost = float(self._prices[1:] @ _counts([candidate.query]))
            if cost <= left_ms or not chosen or everything:
                chosen.append(candidate.query)
                left_ms -= cost
        self._newcomers_went_first = bool(order) and order[0].first
        for query in chosen:
            self._asked.update(dict.fromkeys(((task, query.ids) for task in query.tasks), stamp))
        return chosen

    def report(self, queries: Sequence[Query], elapsed_ms: float) -> None:
        """Update the cost estimates from a call's duration.

        The call and each task have a price, estimated by a Kalman filter: in the edge layout most of a call is what it
        costs whatever is asked, the frame's encoder and prefix, and only calls of different sizes tell that apart.
        A duration that is no time (NaN, below 0) teaches nothing.
        """
        if not queries or not elapsed_ms >= 0:
            return
        counts = np.array([1.0, *_counts(queries)])
        expected = float(self._prices @ counts)
        measured = min(elapsed_ms, MAX_SPIKE * expected)
        self._covariance += np.diag((DRIFT * self._prices * (counts > 0)) ** 2)
        uncertain = self._covariance @ counts
        gain = uncertain / (counts @ uncertain + (NOISE * measured) ** 2)
        self._covariance -= np.outer(gain, uncertain)
        lowest = np.array([0.0, *(MIN_COST_MS for _ in TASKS)])
        self._prices = np.maximum(self._prices + gain * (measured - expected), lowest)

    def estimate_ms(self, queries: Sequence[Query]) -> float:
        """Expected duration of a call with these queries."""
        return float(self._prices @ [1.0, *_counts(queries)])

    def _remember(self, people: Sequence[Person], stamp: float) -> None:
        for person in people:
            first, _ = self._seen.get(person.track_id, (stamp, stamp))
            self._seen[person.track_id] = first, stamp
        lost = {i for i, (_, last) in self._seen.items() if stamp - last > self._config.lost_after_s}
        if lost:
            self._seen = {i: times for i, times in self._seen.items() if i not in lost}
            self._asked = {key: asked for key, asked in self._asked.items() if lost.isdisjoint(key[1])}

    def _due(
        self, people: Sequence[Person], stamp: float, frame_size: tuple[int, int], max_pairs: int
    ) -> list[Candidate]:
        candidates: list[Candidate | None] = []
        faces = {person.track_id: person.face.clipped(*frame_size) for person in people if person.face}
        bodies = {person.track_id: person.body.clipped(*frame_size) for person in people}
        for person in people:
            boxes = {"body": bodies[person.track_id]}
            face = faces.get(person.track_id)
            if face and min(face.width, face.height) >= self._config.min_face_px:
                boxes["face"] = face
            for group in self._person_groups:
                if box := boxes.get(group.evidence):
                    around = {"frame": faces, "person": bodies}.get(group.view, {})
                    others = tuple(other for i, other in around.items() if other and i != person.track_id)
                    candidates.append(self._candidate(group, (person.track_id,), (box,), stamp, others))
        for a, b in nearest_pairs(people, max_pairs) if self._pair_groups else ():
            first, second = bodies[a.track_id], bodies[b.track_id]
            if first and second:
                for group in self._pair_groups:
                    candidates.append(self._candidate(group, (a.track_id, b.track_id), (first, second), stamp))
        return [candidate for candidate in candidates if candidate]

    def _candidate(
        self, group: Group, ids: tuple[int, ...], boxes: tuple[Box, ...], stamp: float, others: tuple[Box, ...] = ()
    ) -> Candidate | None:
        """The group's query if one of its tasks is due; the others join from JOIN_AGE on."""
        due: list[str] = []
        joining: list[str] = []
        lateness, first = 0.0, False
        for task in group.tasks:
            cue = self._config.cues[CUE_OF[task]]
            period = max(cue.period_s, MIN_PERIOD_S)
            asked = self._asked.get((task, ids))
            if asked is not None:
                age = (stamp - asked) / period
            else:
                age = 1 + (stamp - max(self._seen[i][0] for i in ids)) / period
            if age >= 1 - 1e-6 or (cue.period_s == 0 and age > 0):
                due.append(task)
                lateness = max(lateness, cue.weight * age)
                first |= asked is None and len(ids) == 1
            elif age >= JOIN_AGE:
                joining.append(task)
        return Candidate(Query(group.view, boxes, (*due, *joining), ids, others), lateness, first) if due else None


def _counts(queries: Sequence[Query]) -> np.ndarray:
    """How often each task is asked, in the order of TASKS."""
    asked = [task for query in queries for task in query.tasks]
    return np.array([asked.count(name) for name in TASKS], float)


def nearest_pairs(people: Sequence[Person], limit: int) -> list[tuple[Person, Person]]:
    """At most `limit` pairs, nearest first, each in ascending order of track ids.

    Distance is between the bodies' centres in units of their mean height, plus the log ratio of their heights: people
    at different depths differ in size.
    """
    ordered = sorted(people, key=lambda person: person.track_id)
    bodies = [(person.body.center, max(person.body.height, 1.0)) for person in ordered]
    log_heights = [math.log(height) for _, height in bodies]

    def distance(pair: tuple[int, int]) -> float:
        (center_a, height_a), (center_b, height_b) = bodies[pair[0]], bodies[pair[1]]
        apart = math.dist(center_a, center_b) / ((height_a + height_b) / 2)
        return apart + abs(log_heights[pair[0]] - log_heights[pair[1]])

    nearest = sorted(combinations(range(len(ordered)), 2), key=distance)[:limit]
    return [(ordered[a], ordered[b]) for a, b in nearest]
