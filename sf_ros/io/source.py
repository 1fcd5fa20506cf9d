"""The base of all image sources: an iterator of Frame."""

from __future__ import annotations

import math
import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator

from sf_ros.core.text import printable
from sf_ros.core.types import Frame

IMAGES_FPS = 10.0  # nominal rate of a folder of images
UNKNOWN_FPS = 30.0  # where a camera or container does not tell
MAX_FPS = 1000.0  # a container that announces more does not know its rate


class SourceError(RuntimeError):
    """A source that cannot be read: names what was expected, what was found and the remedy."""


def nominal_fps(fps: float) -> float:
    """The rate that a camera or container announces, or UNKNOWN_FPS where that is no rate."""
    return fps if math.isfinite(fps) and 0 < fps <= MAX_FPS else UNKNOWN_FPS


def natural_order(name: str) -> tuple[object, ...]:
    """A sort key that counts: 2.jpg comes before 10.jpg."""
    parts = re.split(r"([0-9]+)", name)
    return (*(int(part) if index % 2 else part for index, part in enumerate(parts)), name)


class Source(ABC):
    """An iterator of Frame that counts its losses; a context manager.

    `name` is printable. `fps` is nominal. `dropped` counts frames of a live source that a newer one replaced before
    they were read, `reconnects` how often it was opened again. `skipped` counts what could not be read, by
    "name: reason".
    """

    live = False  # a camera or stream: it has no end of its own

    def __init__(self, name: str | os.PathLike[str], fps: float) -> None:
        self.name = printable(str(name))
        self.fps = fps
        self.dropped = 0
        self.reconnects = 0
        self.skipped: Counter[str] = Counter()

    def skip(self, name: str, reason: str, count: int = 1) -> None:
        """Count what could not be read."""
        self.skipped[f"{printable(name)}: {reason}"] += count

    @property
    def expected(self) -> int | None:
        """Number of frames; None where unknown."""
        return None

    def label(self, frame: Frame) -> str:
        """A frame's name for people."""
        return f"frame {frame.index}"

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    @abstractmethod
    def close(self) -> None:
        """Release the device or file."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
