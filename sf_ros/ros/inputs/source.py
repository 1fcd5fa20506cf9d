"""Where images come from: one camera, or several on one topic."""

from __future__ import annotations

from collections import deque

WINDOW_S, CHANGES = 10.0, 5  # more changes of size or frame in that time are several cameras


class ImageSource:
    """Watches size and frame id of the images. A change gives everybody a new id; many of them give ids to nobody."""

    def __init__(self) -> None:
        self._last: tuple[tuple[int, int], str] | None = None
        self._changes: deque[float] = deque()

    def problem(self, size: tuple[int, int], frame_id: str, now_s: float) -> str:
        """What is wrong with an image of `size` (width, height) in `frame_id` at a time of a steady clock."""
        last, self._last = self._last, (size, frame_id)
        while self._changes and now_s - self._changes[0] > WINDOW_S:
            self._changes.popleft()
        if last is not None and last != self._last:
            self._changes.append(now_s)
        if len(self._changes) <= CHANGES:
            return ""
        kinds = [f"{width}x{height} '{frame}'" for (width, height), frame in sorted({last or self._last, self._last})]
        return f"images change between {' and '.join(kinds)}: does more than one camera publish them?"
