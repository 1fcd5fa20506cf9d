"""The time of images: their stamps while those advance with time, else their arrival."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sf_ros.perception.pipeline import RESTART_S

LATE_MAX = 3.0  # images in a row that were not newer: from here on stamps are not trusted
FORGIVEN = 0.25  # of a late image, by one that is newer
PACE = 50  # stamps that advance faster or slower than time by this factor are not trusted; recordings are played at 0.1
PACE_S, PACE_IMAGES = 2.0, 10  # over which the pace is measured
PAUSE_S = 1.0  # without images: the pace is measured anew
CALM_S = 10.0  # of good stamps until they are trusted again
JUMP_SHOWN_S = 3.0
MEMORY = 4096  # images whose stamps are known: two minutes at 30 Hz
AHEAD_S, BEHIND_S = 0.1, 60.0  # stamps further from the node's clock are from another clock
SECOND = 1_000_000_000
UNSTAMPED = "images have no stamp"
REPEATED = "stamps of the images repeat, loop or stand still"
JUMPING = "stamps of the images jump"
OFF_PACE = "stamps of the images do not advance with time"


@dataclass(frozen=True)
class Moment:
    """The time of an image in the pipeline, in seconds. `restart`: it is not continuous with the last one."""

    seconds: float
    restart: bool = False


class ImageClock:
    """A time that always advances, from stamps which may repeat, loop, stand still or jump.

    An image that is not newer than the last one is left out, as long as that is rare. `jumps` counts stamps that jumped
    back or ahead; `jump` describes the last one.
    """

    def __init__(self) -> None:
        self.jumps = 0
        self.jump = ""
        self._distrust = ""  # why stamps are not used; '' while they are
        self._late = 0.0
        self._time = 0  # of the last image in the pipeline; this and the others in nanoseconds
        self._stamp: int | None = None  # of the last image that was not left out
        self._seen = 0  # stamp of the last image
        self._received = 0  # arrival of the last image
        self._served = 0  # arrival of the last image that was not left out
        self._bad_at = self._jump_at = -(10**18)  # arrival of the last bad stamp, and of the last jump
        self._pace: tuple[int, int, int] = 0, 0, 0  # stamp and arrival at the start of the measurement, images since
        self._stamps: dict[int, int] = {}  # time in the pipeline -> stamp

    def take(self, stamp: int, received: int, stamped: bool = True) -> Moment | None:
        """The time of an image with a stamp, received at a time of a steady clock; None: leave it out.

        `stamped`: the stamp is the camera's. A stamp of the node makes no time of its own.
        """
        if self._stamp is None:
            self._pace = stamp, received, 0
            return self._serve(stamp, received, stamp if stamped else received)
        trouble = self._trouble(stamp, received, stamped)
        step, elapsed = stamp - self._stamp, max(received - self._served, 1)
        self._seen, self._received = stamp, received
        if trouble:
            self._bad_at = received
        if self._distrust:
            if received - self._bad_at <= CALM_S * SECOND:
                return self._serve(stamp, received, self._time + elapsed)
            self._distrust, self._late = "", 0.0
        if not trouble and step > 0:
            self._late = max(self._late - FORGIVEN, 0.0)
            return self._serve(stamp, received, self._time + step)
        self._late += 1
        if trouble in (UNSTAMPED, OFF_PACE) or self._late >= LATE_MAX:
            self._distrust = trouble or REPEATED
            return self._serve(stamp, received, self._time + elapsed)
        if trouble == JUMPING:
            self.jumps += 1
            self._jump_at = received
            self.jump = f"stamps of the images jumped {'back' if step < 0 else 'ahead'} by {abs(step) / SECOND:.1f} s"
            return self._serve(stamp, received, self._time + elapsed, restart=True)
        return None

    def stamp_of(self, seconds: float) -> int:
        """The stamp of the image with a time in the pipeline, nanoseconds."""
        time = round(seconds * 1e9)
        return self._stamps.get(time, time - self._time + (self._stamp or 0))

    @property
    def problem(self) -> str:
        """What is wrong with the stamps; '' while nothing is."""
        if self._distrust:
            return f"{self._distrust}; the time of arrival is used"
        return self.jump if self._received - self._jump_at < JUMP_SHOWN_S * SECOND else ""

    def _trouble(self, stamp: int, received: int, stamped: bool) -> str:
        """What is wrong with a stamp in comparison with the image before it."""
        if not stamped:
            return UNSTAMPED
        step, elapsed = stamp - self._seen, max(received - self._received, 1)
        if elapsed > PAUSE_S * SECOND:
            self._pace = stamp, received, 0
        if step <= 0:
            self._pace = stamp, received, 0
            return JUMPING if -step > RESTART_S * SECOND else REPEATED
        if step > PACE * elapsed + RESTART_S * SECOND:
            self._pace = stamp, received, 0
            return JUMPING
        start, since, images = self._pace
        self._pace = start, since, images + 1
        if received - since < PACE_S * SECOND or images < PACE_IMAGES:
            return ""
        self._pace = stamp, received, 0
        pace = (stamp - start) / (received - since)
        return "" if 1 / PACE < pace < PACE else OFF_PACE

    def _serve(self, stamp: int, received: int, time: int, restart: bool = False) -> Moment:
        self._time, self._stamp, self._served = time, stamp, received
        self._seen, self._received = stamp, received
        seconds = time * 1e-9
        self._stamps[round(seconds * 1e9)] = stamp
        if len(self._stamps) > MEMORY:
            del self._stamps[next(iter(self._stamps))]
        return Moment(seconds, restart)


def clock_problem(stamp: int, now: int, simulated: bool) -> str:
    """What is wrong between the camera's clock and the node's, both in nanoseconds; '' where they agree.

    `simulated`: the node's time comes from /clock, and is 0 before the first message.
    """
    if simulated and now == 0:
        return "no time: use_sim_time is true and nothing arrived on /clock"
    behind_s = (now - stamp) / SECOND
    if behind_s < -AHEAD_S:
        return f"stamps of the images are {-behind_s:.1f} s ahead of this node's clock"
    if behind_s > BEHIND_S:
        return f"stamps of the images are {behind_s:.1f} s behind this node's clock: another clock, or a recording"
    return ""


def nanoseconds(header: Any) -> int | None:
    """The stamp of a header; None where the driver left it at 0, or wrote what is no time."""
    sec, nanosec = int(header.stamp.sec), int(header.stamp.nanosec)
    return sec * SECOND + nanosec if sec >= 0 and 0 <= nanosec < SECOND and (sec or nanosec) else None
