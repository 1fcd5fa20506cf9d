"""Live cameras."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import cv2

from sf_ros.core.types import Frame
from sf_ros.io.images import to_rgb
from sf_ros.io.source import UNKNOWN_FPS, Source, SourceError

LOG = logging.getLogger(__name__)
STOPPED_AFTER_S = 2.0  # without a frame, a camera is reported as stopped
RETRY_S = 0.5  # between two attempts to reopen a camera


class CameraSource(Source):
    """A live camera: a thread keeps only the newest frame, so that a slow consumer never processes old ones.

    Stamps are monotonic seconds since the epoch. A camera that stops is logged within STOPPED_AFTER_S and reopened;
    `stops` counts that. SourceError when it does not open at all.
    """

    def __init__(self, index: int, opener: Callable[[int], Any] = cv2.VideoCapture) -> None:
        self._index, self._opener = index, opener
        capture = opener(index)
        if not capture.isOpened():
            capture.release()
            raise SourceError(
                f"Camera {index} does not open. Check 'ls /dev/video*', that no other program uses it, "
                "and your permissions."
            )
        fps = capture.get(cv2.CAP_PROP_FPS)
        super().__init__(f"camera {index}", fps if math.isfinite(fps) and 0 < fps <= 1000 else UNKNOWN_FPS)
        self.stops = 0
        self._epoch = time.time() - time.monotonic()
        self._newest: Frame | None = None
        self._ready = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(capture,), name=self.name, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Frame]:
        while not self._closed.is_set():
            with self._ready:
                if not self._ready.wait_for(lambda: self._newest is not None or self._closed.is_set(), STOPPED_AFTER_S):
                    self.stops += 1
                    LOG.warning("%s gave no frame for %.0f s; waiting for it to come back.", self.name, STOPPED_AFTER_S)
                    self._ready.wait_for(lambda: self._newest is not None or self._closed.is_set())
                    LOG.warning("%s is back.", self.name)
                frame, self._newest = self._newest, None
            if frame is not None:
                yield frame

    def close(self) -> None:
        self._closed.set()
        with self._ready:
            self._ready.notify_all()
        self._thread.join(timeout=STOPPED_AFTER_S)  # a driver may hang inside read(); the thread is a daemon

    def _read(self, capture: Any) -> None:
        index = 0
        while not self._closed.is_set():
            ok, image = capture.read()
            if not ok or image is None or image.size == 0:
                capture.release()
                self._closed.wait(RETRY_S)
                capture = self._opener(self._index)
                continue
            frame = Frame(to_rgb(image), self._epoch + time.monotonic(), index)
            index += 1
            with self._ready:
                self.dropped += self._newest is not None
                self._newest = frame
                self._ready.notify_all()
        capture.release()
