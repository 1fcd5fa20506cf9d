"""FrameCues as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from sf_ros.core.types import Frame, FrameCues
from sf_ros.io.cues_json import from_json, to_json
from sf_ros.io.recorders.base import FREE_SPACE, RecorderError


class CuesRecorder:
    """One JSON object per frame, as documented in `cues_json`. A killed process leaves complete frames."""

    def __init__(self, path: str | Path) -> None:
        self._path, self._bytes = Path(path), 0
        self._file = self._path.open("w", encoding="utf-8", buffering=1)

    def write(self, frame: Frame, cues: FrameCues) -> None:
        self._bytes += self._file.write(json.dumps(to_json(cues)) + "\n")  # JSON is ASCII: characters are bytes

    def close(self) -> None:
        self._file.close()
        if (size := self._path.stat().st_size) != self._bytes:
            raise RecorderError(f"{self._path}: {size} of {self._bytes} bytes are on the disk. {FREE_SPACE}")


def read_cues(path: str | Path) -> list[FrameCues]:
    """The inverse of CuesRecorder, up to its rounding and without heatmaps.

    A last line truncated by a killed process is skipped; RecorderError names any other line that is not a frame.
    """
    text = Path(path).read_text(encoding="utf-8")
    lines = text.splitlines()
    if lines and not text.endswith("\n"):
        lines.pop()
    return list(_frames(path, lines))


def _frames(path: str | Path, lines: list[str]) -> Iterator[FrameCues]:
    for number, line in enumerate(lines, 1):
        try:
            yield from_json(json.loads(line))
        except (KeyError, TypeError, ValueError) as error:
            raise RecorderError(f"{path}, line {number}: not a frame ({type(error).__name__}: {error}).") from error
