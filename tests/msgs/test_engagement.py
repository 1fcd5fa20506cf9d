"""Engagement over time: levels, their thresholds, and what is unknown."""

from __future__ import annotations

from collections.abc import Iterable

from sf_ros.msgs.engagement import Engagement, next_engagement

FPS = 20


def levels(looks: Iterable[bool | None], before: Engagement | None = None) -> list[tuple[float, str]]:
    """The times in seconds at which the level changes, with the new level."""
    changes, engagement = [], before
    for number, looking in enumerate(looks):
        stamp = number / FPS
        after = next_engagement(engagement, looking, stamp)
        if engagement is None or after.level != engagement.level:
            changes.append((stamp, after.level))
        engagement = after
    return changes


def test_looking_and_looking_away_pass_through_every_level() -> None:
    changes = levels([True] * 5 * FPS + [False] * 5 * FPS)
    assert [level for _, level in changes] == ["DISENGAGED", "ENGAGING", "ENGAGED", "DISENGAGING", "DISENGAGED"]
    # 1 - 0.5^t reaches 0.3 at 0.515 s and 0.6 at 1.322 s; 0.97 * 0.5^t falls below 0.4 at 1.28 s and 0.2 at 2.28 s.
    assert [round(stamp, 2) for stamp, _ in changes] == [0.0, 0.55, 1.35, 6.25, 7.25]


def test_a_glance_engages_nobody_and_a_blink_disengages_nobody() -> None:
    glances = ([True] * 5 + [False] * 35) * 5
    assert levels(glances) == [(0.0, "DISENGAGED")]
    engaged = Engagement("ENGAGED", 1.0, 0.0)
    assert levels(([False] * 10 + [True] * 30) * 5, engaged) == []


def test_who_looks_half_of_the_time_does_not_flicker() -> None:
    assert len(levels(([True] * 5 + [False] * 5) * 40)) <= 4


def test_without_an_answer_it_is_unknown_and_a_lost_face_looks_away() -> None:
    assert levels([None] * 40) == [(0.0, "UNKNOWN")]
    assert [level for _, level in levels([None] * 40 + [True] * 40)] == ["UNKNOWN", "DISENGAGED", "ENGAGING", "ENGAGED"]
    assert levels([None] * 100, Engagement("ENGAGED", 1.0, 0.0))[-1][1] == "DISENGAGED"


def test_a_gap_counts_for_a_second_at_most() -> None:
    assert next_engagement(Engagement("DISENGAGED", 0.0, 0.0), True, 60.0).share == 0.5
    assert next_engagement(Engagement("ENGAGED", 0.8, 60.0), True, 10.0).share == 0.8  # time went back
