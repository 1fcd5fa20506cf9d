"""Video files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from sf_ros.core.types import Frame
from sf_ros.io.images import to_rgb
from sf_ros.io.source import UNKNOWN_FPS, Source, SourceError

MAX_GAP_S = 10.0  # between two frames of a video


class VideoSource(Source):
    """A video file; stamps are the container's where they increase, else index / fps."""

    def __init__(self, path: Path) -> None:
        self._capture = cv2.VideoCapture(str(path))
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        super().__init__(str(path), fps if math.isfinite(fps) and 0 < fps <= 1000 else UNKNOWN_FPS)
        self._first: np.ndarray | None = self._capture.read()[1] if self._capture.isOpened() else None
        if self._first is None:
            self._capture.release()
            size = path.stat().st_size
            raise SourceError(
                f"{path}: no frame can be decoded ({size} bytes). Expected a video that this OpenCV reads; "
                "check it with 'ffprobe' or convert it to H.264 MP4."
            )
        self._promised = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    @property
    def expected(self) -> int | None:
        return self._promised or None

    def __iter__(self) -> Iterator[Frame]:
        image, index, stamp = self._first, 0, 0.0
        while image is not None:
            position = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            # A container without usable times repeats or jumps; the frame rate is then the better clock.
            if index == 0:
                stamp = position if 0 < position < MAX_GAP_S else 0.0
            elif 0 < position - stamp < MAX_GAP_S:
                stamp = position
            else:
                stamp += 1 / self.fps
            yield Frame(to_rgb(image), stamp, index)
            index += 1
            image = self._capture.read()[1]
        if missing := max(self._promised - index, 0):
            self.skipped[f"{Path(self.name).name}: frames announced by the file but not decodable"] += missing

    def close(self) -> None:
        self._capture.release()
