"""Depth images: the one that belongs to a camera image, checked and in metres."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, NamedTuple

import numpy as np

from sf_ros.core.camera import same_aspect
from sf_ros.msgs.images import ImageError, depth_to_metres

KEPT = 5  # newest depth images, to find the one nearest to a camera image
PATIENCE_S = 2.0  # without usable depth until it is a problem
SECOND = 1_000_000_000


class _Depth(NamedTuple):
    stamp: int | None
    received: int
    message: Any


class DepthImages:
    """The newest depth images. `add` and `problem` may be called by other threads than `at`; times in nanoseconds."""

    def __init__(self, slop_s: float, max_m: float, now: int) -> None:
        self.unused = 0  # camera images without depth
        self._slop, self._max_m = round(slop_s * SECOND), max_m
        self._images: deque[_Depth] = deque(maxlen=KEPT)
        self._lock = threading.Lock()
        self._reason = ""  # why the last camera image had no depth
        self._used = now

    def add(self, message: Any, stamp: int | None, received: int) -> None:
        """Keep a depth image with its stamp (None: it has none) and time of arrival."""
        with self._lock:
            self._images.append(_Depth(stamp, received, message))

    def at(self, stamp: int | None, received: int, size: tuple[int, int], frame_id: str) -> np.ndarray | None:
        """Depth (H, W) in metres, or None, for a camera image of `size` (width, height) in `frame_id`."""
        depth, reason = self._find(stamp, received, size, frame_id)
        self._reason = reason
        if depth is None:
            self.unused += 1
        else:
            self._used = received
        return depth

    def problem(self, now: int) -> str:
        """Why images have had no depth for PATIENCE_S; '' where they had."""
        return self._reason if now - self._used > PATIENCE_S * SECOND else ""

    def _find(
        self, stamp: int | None, received: int, size: tuple[int, int], frame_id: str
    ) -> tuple[np.ndarray | None, str]:
        with self._lock:
            images = list(self._images)
        if not images:
            return None, "no depth image arrived"

        def apart(image: _Depth) -> int:
            """Difference of the stamps, or of the arrivals where one of the two has no stamp."""
            return image.received - received if stamp is None or image.stamp is None else image.stamp - stamp

        nearest = min(reversed(images), key=lambda image: abs(apart(image)))
        if abs(apart(nearest)) > self._slop:
            seconds, side = abs(apart(nearest)) / SECOND, "after" if apart(nearest) > 0 else "before"
            return None, f"the nearest depth image is {seconds:.2f} s {side} the image; depth_slop_s is " + (
                f"{self._slop / SECOND:g}"
            )
        message = nearest.message
        named, wanted = message.header.frame_id.lstrip("/"), frame_id.lstrip("/")
        if named and wanted and named != wanted:
            return None, f"depth is of the frame '{named}' and images are of '{wanted}': not aligned"
        if not same_aspect((message.width, message.height), size):
            return None, f"depth is {message.width}x{message.height} and images {size[0]}x{size[1]}: not aligned"
        try:
            depth = depth_to_metres(message, self._max_m)
        except ImageError as error:
            return None, str(error)
        if not np.isfinite(depth).any():
            return None, (
                f"nothing is measured in depth images of {message.encoding}: no value lies between 0 and depth_max_m "
                f"{self._max_m:g} (16-bit values are mm, 32FC1 is m)"
            )
        return depth, ""
