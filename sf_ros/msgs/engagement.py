"""hri_msgs/EngagementLevel of a person, from whether they look at the robot, over time."""

from __future__ import annotations

from dataclasses import dataclass

HALF_LIFE_S = 1.0  # of the share of time looked at the robot, an exponentially weighted mean
MAX_STEP_S = 1.0  # of time that one frame stands for: a longer gap was not observed
ENGAGING, ENGAGED = 0.3, 0.6  # the share from which a level is entered: after 0.5 s and 1.3 s of looking
DISENGAGING, DISENGAGED = 0.4, 0.2  # the share below which: after 1.3 s and 2.3 s of looking away


@dataclass(frozen=True)
class Engagement:
    """The level (a constant of hri_msgs/EngagementLevel) of a person at a time, and the share it follows from."""

    level: str = "UNKNOWN"
    share: float = 0.0  # of recent time looked at the robot, 0..1
    stamp: float = 0.0  # seconds


def next_engagement(before: Engagement | None, looking: bool | None, stamp: float) -> Engagement:
    """The engagement at `stamp`; `looking` is None where nothing says whether the person looks at the robot.

    Without any answer so far, it is unknown. Somebody whose face is no longer seen does not look at the robot.
    """
    if before is None or before.level == "UNKNOWN":
        return Engagement("UNKNOWN" if looking is None else "DISENGAGED", 0.0, stamp)
    step_s = min(max(stamp - before.stamp, 0.0), MAX_STEP_S)
    now = 1.0 if looking else 0.0
    share = now + (before.share - now) * 0.5 ** (step_s / HALF_LIFE_S)
    return Engagement(_next_level(before.level, share), share, stamp)


def _next_level(level: str, share: float) -> str:
    if level in ("ENGAGED", "DISENGAGING", "ENGAGING"):
        if share >= ENGAGED:
            return "ENGAGED"
        if share < DISENGAGED:
            return "DISENGAGED"
        return "DISENGAGING" if level == "ENGAGED" and share < DISENGAGING else level
    return "ENGAGING" if share >= ENGAGING else "DISENGAGED"
