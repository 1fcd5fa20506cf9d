"""The base of all image sources: an iterator of Frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator

from sf_ros.core.types import Frame

IMAGES_FPS = 10.0  # nominal rate of a folder of images
UNKNOWN_FPS = 30.0  # where a camera or container does not tell


class SourceError(RuntimeError):
    """A source that cannot be read: names what was expected, what was found and the remedy."""


class Source(ABC):
    """An iterator of Frame that counts its losses; a context manager.

    `fps` is nominal. `dropped` counts frames of a live source that a newer one replaced before they were read.
    `skipped` counts what could not be read, by "name: reason".
    """

    def __init__(self, name: str, fps: float) -> None:
        self.name = name
        self.fps = fps
        self.dropped = 0
        self.skipped: Counter[str] = Counter()

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
