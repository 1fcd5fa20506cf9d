"""The budget is kept, nobody starves, newcomers come first, and costs are learned. All in simulated time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import pytest

from sf_ros.core.config import CueConfig, RuntimeConfig
from sf_ros.core.types import Box, Person
from sf_ros.engines.base import Question
from sf_ros.perception.scheduler import LOOKS, Scheduler, nearest_pairs

SIZE = (1920, 1080)
PRICES = {"gaze": 12.0, "looking_at_me": 4.0, "expression": 9.0, "gesture": 16.0, "domain": 7.0, "relation": 8.0}
CALL_MS = 3.0


def person(track_id: int, x: float | None = None, face_px: float = 40.0, height: float = 200.0) -> Person:
    x = 90.0 * track_id if x is None else x
    return Person(track_id, Box(x, 0, x + 80, height), 0.9, Box(x + 10, 10, x + 10 + face_px, 10 + face_px), 0.9)


def price(questions: list[Question], scale: float) -> float:
    return scale * (CALL_MS + sum(PRICES[question.task] for question in questions)) if questions else 0.0


@dataclass
class Run:
    """What a simulated device did: milliseconds per frame, and the stamps at which each question was asked."""

    costs_ms: list[float] = field(default_factory=list)
    asked: dict[tuple[str, tuple[int, ...]], list[float]] = field(default_factory=lambda: defaultdict(list))
    sizes: list[int] = field(default_factory=list)
    end: float = 0.0

    def gaps(self, warm_up_s: float) -> dict[tuple[str, tuple[int, ...]], float]:
        """The longest wait of each question after the warm-up, up to the end of the run."""
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
        questions = scheduler.pick(crowd, stamp, SIZE)
        elapsed = price(questions, scale)
        scheduler.report(questions, elapsed)
        for question in questions:
            run.asked[question.task, question.track_ids].append(stamp)
        run.costs_ms.append(elapsed)
        run.sizes.append(len(questions))
        stamp += max(1 / fps, elapsed / 1e3)
    run.end = stamp
    return run


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("people", [1, 2, 5, 20])
def test_nobody_starves_on_any_device(people: int, scale: float) -> None:
    config = RuntimeConfig()
    pairs = min(people * (people - 1) // 2, config.max_pairs)
    # When all cannot be asked in time, a look comes round every load * period / weight seconds, where load is the
    # device time per second that looks at their own rates (times weight) would take.
    cues = {"gaze": config.gaze, "face": config.looking_at_me, "gesture": config.gesture, "pair": config.relation}
    looks = {kind: (pairs if kind == "pair" else people, cue.period_s, cue.weight) for kind, cue in cues.items()}
    price_s = {kind: scale * (CALL_MS + sum(PRICES[task] for task in LOOKS[kind])) / 1e3 for kind in looks}
    load = sum(count * price_s[kind] * weight / period for kind, (count, period, weight) in looks.items())
    load /= min(1.0, config.budget_ms / (1000 / 15))
    interval = {kind: max(1.0, load / weight) * period for kind, (_, period, weight) in looks.items()}
    warm_up_s = 3 * max(interval.values()) + 1
    run = simulate(people, scale, 2.5 * warm_up_s, config)
    assert {ids[0] for task, ids in run.asked if task == "gaze"} == set(range(1, people + 1))
    assert len({ids for task, ids in run.asked if task == "relation"}) == pairs
    gaps = run.gaps(warm_up_s)
    for kind, tasks in LOOKS.items():
        waits = [gap for (task, _), gap in gaps.items() if task in tasks]
        period = config.expression.period_s if kind == "face" else 0.0
        assert max(waits, default=0.0) <= 1.5 * max(interval[kind], period) + 0.3, kind


@pytest.mark.parametrize("people", [2, 8, 20])
def test_equal_people_are_asked_about_equally_often(people: int) -> None:
    run = simulate(people, 1.0, 60.0, RuntimeConfig())
    for task in ("gaze", "expression", "gesture"):
        counts = [len(run.asked[task, (i + 1,)]) for i in range(people)]
        assert max(counts) - min(counts) <= 0.15 * max(counts) + 2, (task, counts)


def test_a_fast_device_asks_every_question_at_its_period() -> None:
    config = RuntimeConfig()
    run = simulate(3, 0.05, 30.0, config, fps=30.0)
    for (task, ids), gap in run.gaps(2.0).items():
        period = config.cue("relation" if len(ids) == 2 else task).period_s
        assert gap <= period + 2 / 30, (task, ids)
    # and no more often than half a period (a question that comes along with its neighbour)
    assert len(run.asked["gaze", (1,)]) <= 30.0 / 0.2 + 2
    assert len(run.asked["expression", (1,)]) <= 30.0 / 0.2 + 2


def test_the_budget_is_kept_once_costs_are_known() -> None:
    run = simulate(20, 1.0, 40.0, RuntimeConfig(budget_ms=60.0))
    settled = run.costs_ms[100:]
    assert np.percentile(settled, 95) <= 60.0 * 1.1
    assert np.median(settled) >= 0.6 * 60.0  # and used


def test_a_look_that_breaks_the_budget_alone_is_still_taken() -> None:
    run = simulate(2, 50.0, 200.0, RuntimeConfig(budget_ms=10.0))
    assert min(run.sizes) >= 1
    assert max(run.sizes[30:]) <= 2  # one look, which may be two questions
    assert {task for task, _ in run.asked} == set(PRICES)


def test_costs_are_learned_in_spite_of_a_warm_up_spike() -> None:
    scheduler = Scheduler(RuntimeConfig(budget_ms=1e6))
    rng = np.random.default_rng(1)
    for call in range(400):
        kinds = rng.permutation(list(LOOKS))[: rng.integers(1, 5)]
        questions = [
            Question(task, (i,), ()) for kind in kinds for i in range(rng.integers(1, 4)) for task in LOOKS[kind]
        ]
        scheduler.report(questions, 5000.0 if call == 0 else price(questions, 1.0))
    for some in (["gaze"], ["face", "gesture"], ["pair"], list(LOOKS)):
        questions = [Question(task, (1,), ()) for kind in some for task in LOOKS[kind]]
        assert scheduler.estimate_ms(questions) == pytest.approx(price(questions, 1.0), rel=0.1)


def test_a_newcomer_is_looked_at_first() -> None:
    scheduler = Scheduler(RuntimeConfig(budget_ms=30.0, max_pairs=0))
    crowd = [person(i) for i in range(1, 9)]
    stamp = 0.0
    for _ in range(60):
        scheduler.pick(crowd, stamp, SIZE)
        stamp += 1 / 15
    questions = scheduler.pick([*crowd, person(9)], stamp, SIZE)
    assert questions[0].track_ids == (9,)


def test_an_endless_stream_of_newcomers_does_not_starve_those_known() -> None:
    config = RuntimeConfig(budget_ms=20.0, max_pairs=0)
    scheduler = Scheduler(config)
    asked: list[float] = []
    for index in range(300):
        stamp = index / 15
        questions = scheduler.pick([person(1, 0.0), person(index + 10, 200.0)], stamp, SIZE)
        if any(question == Question("gaze", (1,), question.boxes) for question in questions):
            asked.append(stamp)
    assert np.max(np.diff(asked)) < 1.0


def test_questions_on_the_same_view_are_asked_together() -> None:
    periods = {"gaze": 0.2, "looking_at_me": 0.2, "expression": 0.4, "gesture": 0.4}
    config = RuntimeConfig(budget_ms=1e6, **{name: CueConfig(period_s=period) for name, period in periods.items()})
    scheduler = Scheduler(config)
    crowd = [person(1), person(2)]
    first = [(q.task, q.track_ids) for q in scheduler.pick(crowd, 0.0, SIZE)]
    assert sorted(first) == sorted(
        [(task, (i,)) for i in (1, 2) for task in ("gaze", "looking_at_me", "expression", "gesture")]
        + [("domain", (1, 2)), ("relation", (1, 2))]
    )
    assert scheduler.pick(crowd, 0.1, SIZE) == []
    # looking_at_me is due, expression is half due and comes along; gesture does not
    assert {q.task for q in scheduler.pick(crowd, 0.2, SIZE)} == {"gaze", "looking_at_me", "expression"}


def test_a_question_less_than_half_due_does_not_come_along() -> None:
    config = RuntimeConfig(budget_ms=1e6, looking_at_me=CueConfig(period_s=0.2), expression=CueConfig(period_s=1.0))
    scheduler = Scheduler(config)
    scheduler.pick([person(1)], 0.0, SIZE)
    again = {q.task for q in scheduler.pick([person(1)], 0.2, SIZE)}
    assert "looking_at_me" in again
    assert "expression" not in again


@pytest.mark.parametrize("face", [None, Box(10, 10, 25, 40), Box(-30, 10, 10, 50)])
def test_small_absent_or_mostly_cut_off_faces_are_not_asked_about(face: Box | None) -> None:
    someone = Person(1, Box(0, 0, 80, 200), 0.9, face, 0.9)
    questions = Scheduler(RuntimeConfig(min_face_px=16)).pick([someone], 0.0, SIZE)
    assert [q.task for q in questions] == ["gesture"]


def test_boxes_follow_the_contract_and_lie_inside_the_picture() -> None:
    crowd = [person(1, x=-20.0), person(2, x=100.0)]
    questions = Scheduler(RuntimeConfig(budget_ms=1e6)).pick(crowd, 0.0, SIZE)
    by_task = {(q.task, q.track_ids): q.boxes for q in questions}
    assert by_task["gesture", (1,)] == (Box(0, 0, 60, 200),)
    assert by_task["gaze", (2,)] == (crowd[1].face,)
    assert by_task["relation", (1, 2)] == (Box(0, 0, 60, 200), crowd[1].body)


def test_a_disabled_cue_is_never_asked() -> None:
    off = CueConfig(enabled=False)
    config = RuntimeConfig(budget_ms=1e6, gaze=off, relation=off, expression=off)
    questions = Scheduler(config).pick([person(1), person(2)], 0.0, SIZE)
    assert {q.task for q in questions} == {"looking_at_me", "gesture"}


def test_a_period_of_zero_is_asked_in_every_frame_without_starving_the_others() -> None:
    config = RuntimeConfig(gaze=CueConfig(period_s=0.0))
    run = simulate(1, 0.5, 10.0, config)
    assert len(run.asked["gaze", (1,)]) == len(run.sizes)
    crowded = simulate(10, 1.0, 30.0, config)
    assert all(len(crowded.asked["gesture", (i + 1,)]) > 5 for i in range(10))


def test_pairs_are_the_nearest_ones() -> None:
    crowd = [person(3, 0.0), person(1, 100.0), person(2, 1000.0), person(4, 110.0, height=600.0)]
    assert [(a.track_id, b.track_id) for a, b in nearest_pairs(crowd, 1)] == [(1, 3)]  # 4 overlaps 1 but stands nearer
    assert len(nearest_pairs(crowd, 10)) == 6
    assert nearest_pairs(crowd, 0) == []


def test_a_forgotten_track_is_new_again_and_nothing_is_remembered_for_ever() -> None:
    scheduler = Scheduler(RuntimeConfig(budget_ms=1e6, lost_after_s=1.0))
    for index in range(200):
        scheduler.pick([person(index % 7 + 10 * index)], index * 0.5, SIZE)
    assert len(scheduler._seen) <= 3
    assert len(scheduler._asked) <= 12


def test_an_empty_picture_asks_nothing() -> None:
    scheduler = Scheduler(RuntimeConfig())
    assert scheduler.pick([], 0.0, SIZE) == []
    scheduler.report([], 0.0)
    assert scheduler.estimate_ms([]) == pytest.approx(Scheduler(RuntimeConfig()).estimate_ms([]))
