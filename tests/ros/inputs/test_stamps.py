"""The time of images always advances, whatever their stamps do, and every image is answered but for a few."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import pytest

from sf_ros.ros.inputs.stamps import CALM_S, ImageClock, Moment, clock_problem

SECOND, FRAME = 10**9, 33_333_333
START = 1_795_580_440 * SECOND
UP = 12_345 * SECOND  # of the steady clock at the first image


def feed(
    clock: ImageClock, stamps: Iterable[int], first: int = 0, period: int = FRAME, stamped: bool = True
) -> list[Moment | None]:
    """The moments of images that arrive once a period, from image `first` on."""
    return [clock.take(stamp, UP + (first + i) * period, stamped) for i, stamp in enumerate(stamps)]


def advances(moments: list[Moment | None]) -> bool:
    served = [moment.seconds for moment in moments if moment is not None]
    return all(0 < later - earlier < 1.5 for earlier, later in itertools.pairwise(served))


def test_good_stamps_are_the_time() -> None:
    clock = ImageClock()
    stamps = [START + i * FRAME for i in range(60)]
    assert [moment.seconds for moment in feed(clock, stamps) if moment] == [stamp * 1e-9 for stamp in stamps]
    assert clock.problem == "" and clock.jumps == 0


@pytest.mark.parametrize(
    ("stamp", "words"),
    [
        (lambda i: START, "stand still"),
        (lambda i: START + i % 24 * FRAME, "loop"),  # every 0.8 s
        (lambda i: START + i % 3 * FRAME, "loop"),
        (lambda i: START + (i // 2) * FRAME + (i % 2) * -SECOND // 2, "repeat"),  # two clocks in turn
        (lambda i: START + i * FRAME + (i % 2) * 100 * SECOND, "jump"),
        (lambda i: START + i * 1000, "do not advance with time"),
        (lambda i: START + i * 30 * SECOND, "jump"),
    ],
    ids=["still", "loop", "short loop", "two clocks", "far clocks", "slow", "fast"],
)
def test_bad_stamps_are_replaced_by_arrival(stamp: Callable[[int], int], words: str) -> None:
    clock = ImageClock()
    moments = feed(clock, [stamp(i) for i in range(240)])
    assert sum(moment is None for moment in moments) <= 8
    assert advances(moments) and words in clock.problem
    assert sum(moment is not None and moment.restart for moment in moments) <= 2
    after = feed(clock, [2 * START + i * FRAME for i in range(2, int(CALM_S * 31) + 3)], first=240)
    assert advances(after) and None not in after and clock.problem == ""


def test_one_late_image_is_left_out() -> None:
    clock = ImageClock()
    moments = feed(clock, [START + i * FRAME for i in (0, 1, 3, 2, 4, 5)])
    assert [moment is None for moment in moments] == [False, False, False, True, False, False]
    assert clock.problem == ""


@pytest.mark.parametrize(("jump_s", "words"), [(-5, "back by 5.0 s"), (60, "ahead by 60.0 s")])
def test_a_jump_is_a_restart_that_is_reported(jump_s: int, words: str) -> None:
    clock = ImageClock()
    feed(clock, [START + i * FRAME for i in range(30)])
    after = START + 30 * FRAME + jump_s * SECOND
    jumped, following = feed(clock, [after, after + FRAME], first=30)
    assert jumped is not None and jumped.restart and following is not None and not following.restart
    assert words in clock.jump and clock.jump == clock.problem and clock.jumps == 1
    feed(clock, [after + i * FRAME for i in range(2, 120)], first=32)
    assert clock.problem == ""


def test_recordings_may_run_slowly_and_simulations_pause() -> None:
    for factor in (10, 5, 0.1):
        clock = ImageClock()
        moments = feed(clock, [START + i * FRAME for i in range(300)], period=round(FRAME * factor))
        assert None not in moments and clock.problem == ""
    clock = ImageClock()
    feed(clock, [i * FRAME for i in range(1, 40)])
    (paused,) = feed(clock, [40 * FRAME], first=40 + 60 * 30)  # a minute later
    assert paused == Moment(40 * FRAME * 1e-9) and clock.problem == ""


def test_images_without_a_stamp_have_the_time_of_arrival() -> None:
    clock = ImageClock()
    moments = feed(clock, [0] * 30, stamped=False)
    assert None not in moments and advances(moments) and "no stamp" in clock.problem


def test_a_time_finds_its_images_stamp_exactly() -> None:
    clock, stamps = ImageClock(), [START + i * FRAME + i % 7 for i in range(300)]
    moments = [moment for moment in feed(clock, stamps) if moment is not None]
    now = moments[-1].seconds
    for moment, stamp in zip(moments, stamps, strict=True):
        assert clock.stamp_of(now - (now - moment.seconds)) == stamp
    looping = ImageClock()
    stamps = [START + i % 24 * FRAME for i in range(100)]
    for moment, stamp in zip(feed(looping, stamps), stamps, strict=True):
        assert moment is None or looping.stamp_of(moment.seconds) == stamp


@pytest.mark.parametrize(
    ("behind_s", "simulated", "words"),
    [
        (0.0, False, ""),
        (0.03, False, ""),
        (-0.05, False, ""),  # clocks agree to a few hundredths
        (5.0, False, ""),  # slow
        (-3600, False, "3600.0 s ahead of this node's clock"),
        (3600, False, "3600.0 s behind this node's clock"),
    ],
)
def test_another_clock_is_reported(behind_s: float, simulated: bool, words: str) -> None:
    problem = clock_problem(START, START + round(behind_s * SECOND), simulated)
    assert words in problem and bool(words) == bool(problem)


def test_simulated_time_without_a_clock_is_reported() -> None:
    assert "/clock" in clock_problem(START, 0, True)
    assert clock_problem(SECOND, SECOND, True) == ""
