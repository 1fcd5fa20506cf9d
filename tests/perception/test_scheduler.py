"""The budget is kept, nobody starves, new people come first, and costs are learned; all in simulated time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest

from sf_ros.core.config import RuntimeConfig
from sf_ros.core.cues import CUE_OF, CUES, TASKS, CueConfig
from sf_ros.core.types import Box, Person
from sf_ros.engines.base import Query
from sf_ros.perception.scheduler import Group, Scheduler, nearest_pairs, query_groups

SIZE = (1920, 1080)
GROUPS = (*query_groups("person"), *query_groups("pair"))
PRICES = {"gaze": 12.0, "looking_at_me": 4.0, "expression": 9.0, "gesture": 16.0, "domain": 7.0, "relation": 8.0}
CALL_MS = 3.0


def person(track_id: int, x: float | None = None, face_px: float = 40.0, height: float = 200.0) -> Person:
    x = 90.0 * track_id if x is None else x
    return Person(track_id, Box(x, 0, x + 80, height), 0.9, Box(x + 10, 10, x + 10 + face_px, 10 + face_px), 0.9)


def query(group: Group, *ids: int) -> Query:
    return Query(group.view, (), group.tasks, ids)


def tasks_of(queries: list[Query]) -> set[str]:
    return {task for query in queries for task in query.tasks}


def price(queries: list[Query], scale: float) -> float:
    return scale * (CALL_MS + sum(PRICES[task] for query in queries for task in query.tasks)) if queries else 0.0


@dataclass
class Run:
    """What a simulated device did: milliseconds and queries per frame, and the stamps of each task."""

    costs_ms: list[float] = field(default_factory=list)
    queries: list[int] = field(default_factory=list)
    asked: dict[tuple[str, tuple[int, ...]], list[float]] = field(default_factory=lambda: defaultdict(list))
    end: float = 0.0

    def gaps(self, warm_up_s: float) -> dict[tuple[str, tuple[int, ...]], float]:
        """The longest wait of each task after the warm-up, up to the end of the run."""
        longest = {}
        for key, stamps in self.asked.items():
            late = [stamp for stamp in stamps if stamp >= warm_up_s]
            longest[key] = float(np.max(np.diff([warm_up_s, *late, self.end])))
        return longest


def simulate(people: int, scale: float, seconds: float, config: RuntimeConfig, fps: float = 15.0) -> Run:
    """Frames arrive at `fps` or as fast as the device answers, which costs PRICES times `scale`."""
    scheduler, run, stamp = Scheduler(config), Run(), 0.0
    crowd = [person(i + 1) for i in range(people)]
    while stamp < seconds:
        queries = scheduler.pick(crowd, stamp, SIZE)
        elapsed = price(queries, scale)
        scheduler.report(queries, elapsed)
        for query in queries:
            for task in query.tasks:
                run.asked[task, query.ids].append(stamp)
        run.costs_ms.append(elapsed)
        run.queries.append(len(queries))
        stamp += max(1 / fps, elapsed / 1e3)
    run.end = stamp
    return run


def test_tasks_with_the_same_evidence_and_view_form_a_group() -> None:
    assert query_groups("person") == (
        Group("face", "frame", ("gaze",)),
        Group("face", "face", ("looking_at_me", "expression")),
        Group("body", "person", ("gesture",)),
    )
    assert query_groups("pair") == (Group("pair", "frame", ("domain", "relation")),)
    assert query_groups("person", ["expression"]) == (Group("face", "face", ("expression",)),)


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("people", [1, 2, 5, 20])
def test_nobody_starves_on_any_device(people: int, scale: float) -> None:
    config = RuntimeConfig()
    pairs = min(people * (people - 1) // 2, config.max_pairs)
    # When there is no time for all, a group's turn comes every load * period / weight seconds, where load is the
    # device time per second that all groups at their own rates (times weight) would take.
    cues = {group: config.cue(CUE_OF[group.tasks[0]]) for group in GROUPS}
    counts = {group: pairs if group.evidence == "pair" else people for group in GROUPS}
    price_s = {group: price([query(group)], scale) / 1e3 for group in GROUPS}
    load = sum(counts[group] * price_s[group] * cue.weight / cue.period_s for group, cue in cues.items())
    load /= min(1.0, config.budget_ms / (1000 / 15))
    interval = {group: max(1.0, load / cue.weight) * cue.period_s for group, cue in cues.items()}
    warm_up_s = 3 * max(interval.values()) + 1
    run = simulate(people, scale, 2.5 * warm_up_s, config)
    assert {ids[0] for task, ids in run.asked if task == "gaze"} == set(range(1, people + 1))
    assert len({ids for task, ids in run.asked if task == "relation"}) == pairs
    gaps = run.gaps(warm_up_s)
    for group in GROUPS:
        waits = [gap for (task, _), gap in gaps.items() if task in group.tasks]
        longest_period = max(config.cue(CUE_OF[task]).period_s for task in group.tasks)
        assert max(waits, default=0.0) <= 1.5 * max(interval[group], longest_period) + 0.3, group


@pytest.mark.parametrize("people", [2, 8, 20])
def test_equal_people_are_queried_equally_often(people: int) -> None:
    run = simulate(people, 1.0, 60.0, RuntimeConfig())
    for task in ("gaze", "expression", "gesture"):
        counts = [len(run.asked[task, (i + 1,)]) for i in range(people)]
        assert max(counts) - min(counts) <= 0.15 * max(counts) + 2, (task, counts)


def test_a_fast_device_asks_every_task_at_its_period() -> None:
    config = RuntimeConfig()
    run = simulate(3, 0.05, 30.0, config, fps=30.0)
    for (task, ids), gap in run.gaps(2.0).items():
        assert gap <= config.cue(CUE_OF[task]).period_s + 2 / 30, (task, ids)
    # and at most every half period, where it joins a query of another task
    assert len(run.asked["gaze", (1,)]) <= 30.0 / 0.2 + 2
    assert len(run.asked["expression", (1,)]) <= 30.0 / 0.2 + 2


def test_the_budget_is_kept_once_costs_are_known() -> None:
    run = simulate(20, 1.0, 40.0, RuntimeConfig(budget_ms=60.0))
    settled = run.costs_ms[100:]
    assert np.percentile(settled, 95) <= 60.0 * 1.1
    assert np.median(settled) >= 0.6 * 60.0  # and used


def test_one_query_is_sent_even_if_it_breaks_the_budget() -> None:
    run = simulate(2, 50.0, 200.0, RuntimeConfig(budget_ms=10.0))
    assert min(run.queries) >= 1
    assert max(run.queries[30:]) == 1
    assert {task for task, _ in run.asked} == set(TASKS)


def test_costs_are_learned_in_spite_of_a_warm_up_spike() -> None:
    scheduler = Scheduler(RuntimeConfig(budget_ms=1e6))
    rng = np.random.default_rng(1)
    for call in range(400):
        chosen = rng.permutation(len(GROUPS))[: rng.integers(1, 5)]
        queries = [query(GROUPS[i], person) for i in chosen for person in range(rng.integers(1, 4))]
        scheduler.report(queries, 5000.0 if call == 0 else price(queries, 1.0))
    for groups in (GROUPS[:1], GROUPS[1:3], GROUPS[3:], GROUPS):
        queries = [query(group, 1) for group in groups]
        assert scheduler.estimate_ms(queries) == pytest.approx(price(queries, 1.0), rel=0.1)


@pytest.mark.parametrize("elapsed_ms", [float("nan"), -5.0])
def test_a_duration_that_is_no_time_teaches_nothing(elapsed_ms: float) -> None:
    scheduler = Scheduler(RuntimeConfig())
    queries = [query(GROUPS[0], 1)]
    before = scheduler.estimate_ms(queries)
    scheduler.report(queries, elapsed_ms)
    assert scheduler.estimate_ms(queries) == before
    scheduler.report(queries, float("inf"))  # a spike like any other
    assert before < scheduler.estimate_ms(queries) < float("inf")


def test_a_new_person_is_queried_first() -> None:
    scheduler = Scheduler(RuntimeConfig(budget_ms=30.0, max_pairs=0))
    crowd = [person(i) for i in range(1, 9)]
    for index in range(60):
        scheduler.pick(crowd, index / 15, SIZE)
    assert scheduler.pick([*crowd, person(9)], 4.0, SIZE)[0].ids == (9,)


def test_a_stream_of_new_people_does_not_starve_the_others() -> None:
    scheduler = Scheduler(RuntimeConfig(budget_ms=20.0, max_pairs=0))
    asked: list[float] = []
    for index in range(300):
        queries = scheduler.pick([person(1, 0.0), person(index + 10, 200.0)], index / 15, SIZE)
        if any(query.ids == (1,) and "gaze" in query.tasks for query in queries):
            asked.append(index / 15)
    assert len(asked) > 10 and np.max(np.diff(asked)) < 1.0


def test_a_task_joins_a_query_from_half_its_period_on() -> None:
    periods = {"gaze": 0.2, "looking_at_me": 0.2, "expression": 0.4, "gesture": 0.4}
    cues = {name: CueConfig(period_s=period) for name, period in periods.items()}
    scheduler = Scheduler(RuntimeConfig(budget_ms=1e6, cues=cues))
    crowd = [person(1), person(2)]
    first = [(query.tasks, query.ids) for query in scheduler.pick(crowd, 0.0, SIZE)]
    person_groups = [group.tasks for group in query_groups("person")]
    assert sorted(first) == sorted(
        [(tasks, (i,)) for i in (1, 2) for tasks in person_groups] + [(("domain", "relation"), (1, 2))]
    )
    assert scheduler.pick(crowd, 0.1, SIZE) == []
    # looking_at_me is due, expression is half due and joins; gesture has another view
    assert tasks_of(scheduler.pick(crowd, 0.2, SIZE)) == {"gaze", "looking_at_me", "expression"}


def test_a_task_less_than_half_due_does_not_join() -> None:
    cues = {"looking_at_me": CueConfig(period_s=0.2), "expression": CueConfig(period_s=1.0)}
    scheduler = Scheduler(RuntimeConfig(budget_ms=1e6, cues=cues))
    scheduler.pick([person(1)], 0.0, SIZE)
    assert tasks_of(scheduler.pick([person(1)], 0.2, SIZE)) == {"looking_at_me"}


@pytest.mark.parametrize("face", [None, Box(10, 10, 25, 40), Box(-30, 10, 10, 50)])
def test_missing_small_and_cut_off_faces_are_not_queried(face: Box | None) -> None:
    without_face = Person(1, Box(0, 0, 80, 200), 0.9, face, 0.9)
    queries = Scheduler(RuntimeConfig(min_face_px=16)).pick([without_face], 0.0, SIZE)
    assert tasks_of(queries) == {"gesture"}


def test_boxes_follow_the_contract_and_lie_inside_the_image() -> None:
    crowd = [person(1, x=-20.0), person(2, x=100.0)]
    queries = Scheduler(RuntimeConfig(budget_ms=1e6)).pick(crowd, 0.0, SIZE)
    boxes = {(query.tasks[0], query.ids): query.boxes for query in queries}
    assert boxes["gesture", (1,)] == (Box(0, 0, 60, 200),)
    assert boxes["gaze", (2,)] == boxes["looking_at_me", (2,)] == (crowd[1].face,)
    assert boxes["domain", (1, 2)] == (Box(0, 0, 60, 200), crowd[1].body)


@pytest.mark.parametrize("cue", CUES)
def test_a_cue_that_is_off_or_unavailable_is_never_queried(cue: str) -> None:
    off = RuntimeConfig(budget_ms=1e6).with_cues(**{cue: CueConfig(enabled=False)})
    unavailable = [name for name in CUES if name != cue]
    for scheduler in (Scheduler(off), Scheduler(RuntimeConfig(budget_ms=1e6), unavailable)):
        assert tasks_of(scheduler.pick([person(1), person(2)], 0.0, SIZE)) == set(TASKS) - set(CUES[cue].tasks)


def test_a_period_of_zero_is_every_frame_and_starves_nobody() -> None:
    config = RuntimeConfig(cues={"gaze": CueConfig(period_s=0.0)})
    run = simulate(1, 0.5, 10.0, config)
    assert len(run.asked["gaze", (1,)]) == len(run.costs_ms)
    crowded = simulate(10, 1.0, 30.0, config)
    assert all(len(crowded.asked["gesture", (i + 1,)]) > 5 for i in range(10))


def test_pairs_are_the_nearest_ones() -> None:
    crowd = [person(3, 0.0), person(1, 100.0), person(2, 1000.0), person(4, 110.0, height=600.0)]
    assert [(a.track_id, b.track_id) for a, b in nearest_pairs(crowd, 1)] == [(1, 3)]  # 4 overlaps 1 but is nearer
    assert len(nearest_pairs(crowd, 10)) == 6
    assert nearest_pairs(crowd, 0) == []


def test_a_lost_track_is_new_again_and_memory_stays_bounded() -> None:
    scheduler = Scheduler(RuntimeConfig(budget_ms=1e6, lost_after_s=1.0))
    for index in range(200):
        scheduler.pick([person(index % 7 + 10 * index)], index * 0.5, SIZE)
    assert len(scheduler._seen) <= 3
    assert len(scheduler._asked) <= 12


def test_without_people_there_are_no_queries() -> None:
    scheduler = Scheduler(RuntimeConfig())
    assert scheduler.pick([], 0.0, SIZE) == []
    scheduler.report([], 0.0)
    assert scheduler.estimate_ms([]) == pytest.approx(Scheduler(RuntimeConfig()).estimate_ms([]))


@pytest.mark.parametrize("budget_ms", [0.1, 60.0])
def test_everything_is_asked_at_once_about_a_still_image(budget_ms: float) -> None:
    scheduler, people = Scheduler(RuntimeConfig(budget_ms=budget_ms, max_pairs=1)), [person(i) for i in range(1, 6)]
    for stamp in (0.0, 0.1):  # also about the next image of a folder, where nothing is due yet
        queries = scheduler.pick(people, stamp, SIZE, everything=True)
        asked = [(task, query.ids) for query in queries for task in query.tasks]
        assert len(asked) == len(set(asked)) == 5 * 4 + 10 * 2
        assert tasks_of(queries) == set(TASKS)


def test_a_query_brings_what_is_around_its_person() -> None:
    """Faces that a gaze may meet, bodies whose hands may be near."""
    people = [person(0), person(1), person(2)]
    for query in Scheduler(RuntimeConfig()).pick(people, 0.0, SIZE, everything=True):
        rest = [one for one in people if one.track_id not in query.ids]
        if query.view == "frame" and len(query.ids) == 1:
            assert query.others == tuple(one.face for one in rest)
        elif query.view == "person" and len(query.ids) == 1:
            assert query.others == tuple(one.body for one in rest)
        else:
            assert query.others == ()


def test_a_cue_asked_in_turn_is_charged_its_branch_only() -> None:
    # The edge layout at paper size, in ms: whatever is asked, the frame's encoder and prefix; behind it short branches.
    frame_ms, noise = 21.0, np.random.default_rng(0)
    branch_ms = {"gesture": 9.3, "gaze": 0.4, "expression": 4.7, "looking_at_me": 4.7, "domain": 0.3, "relation": 0.3}

    def price(queries: list[Query]) -> float:
        return frame_ms + sum(branch_ms[task] for query in queries for task in query.tasks)

    scheduler, stamp, crowd = Scheduler(RuntimeConfig(budget_ms=60)), 0.0, [person(i) for i in range(1, 5)]
    for _ in range(300):
        queries = scheduler.pick(crowd, stamp, SIZE)
        scheduler.report(queries, price(queries) * float(np.exp(0.05 * noise.standard_normal())))
        stamp += 1 / 15
    alone = [[Query(spec.view, (), (name,), (1,))] for name, spec in TASKS.items()]
    everything = Scheduler(RuntimeConfig()).pick(crowd, 0.0, SIZE, everything=True)
    for queries in ([], *alone, everything):
        assert scheduler.estimate_ms(queries) == pytest.approx(price(queries), rel=1 / 3)
