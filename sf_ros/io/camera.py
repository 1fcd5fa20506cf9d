"""Live cameras and streams."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import cv2

from sf_ros.core.bit_depth import BitDepth
from sf_ros.core.text import printable
from sf_ros.core.types import Frame
from sf_ros.io.capture import check_frame_size, is_utf8, open_capture, quiet, read
from sf_ros.io.images import to_rgb
from sf_ros.io.source import Source, SourceError, nominal_fps
from sf_ros.io.video import Clock

LOG = logging.getLogger(__name__)
FIRST_S = 10.0  # until the first frame
STOPPED_AFTER_S = 2.0  # without a frame, a camera is reported as stopped
CONNECT_S, READ_S = 5.0, 5.0  # for FFmpeg: a stream silent for longer is opened again
RETRY_S, MAX_RETRY_S = 0.5, 8.0  # between two attempts to reopen; doubled each time
MAX_INDEX = 2**31 - 1  # of a camera
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))  # what an address may hold as it is
_SECRET = re.compile(r"(//[^/@\s:]*:)[^/@\s]*(?=@)|((?:user-pw|password)=)\S+")


def is_stream(spec: str) -> bool:
    """Whether a text is an address (rtsp://...) or a GStreamer pipeline (elements joined by "!")."""
    return bool(_ADDRESS.match(spec)) or "!" in spec


class CameraSource(Source):
    """A live camera or stream: a thread keeps only the newest frame, so that a slow consumer never processes old ones.

    `spec` is an index, a /dev path, an address or a GStreamer pipeline. Stamps are monotonic seconds since the epoch.
    A camera that stops is logged within STOPPED_AFTER_S and reopened with growing pauses; `stops` and `reconnects`
    count that. A recording behind an address (http://host/clip.mp4) gives every frame and ends. SourceError when it
    does not open, or gives no frame within FIRST_S.
    """

    live = True

    def __init__(self, spec: int | str, opener: Callable[[Any], Any] | None = None) -> None:
        super().__init__(f"camera {spec}" if isinstance(spec, int) else _SECRET.sub(r"\1\2***", spec), nominal_fps(0))
        self._spec, self._opener = spec, opener or _open
        self.stops = 0
        self._epoch = time.time() - time.monotonic()
        self._depth = BitDepth(self.name)
        self._newest: Frame | None = None
        self._index = 0
        self._opened = False
        self._ended = False  # the thread has nothing more to give
        self._fault: SourceError | None = None
        self._ready = threading.Condition()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()
        with self._ready:
            self._wait(FIRST_S)
        if self._index:  # frames were read
            return
        self.close()
        problem, remedy = "does not open", _remedy(spec)
        if self._opened and self.live:
            problem = f"gave no image within {FIRST_S:g} s"
        elif self._opened:
            problem, remedy = (
                "gave no image",
                "Its server may send the whole file alone: download it, and name the file.",
            )
        subject = f"Camera {spec}" if isinstance(spec, int) else f"'{self.name}'"
        raise self._fault or SourceError(f"{subject} {problem}. {remedy}")

    def __iter__(self) -> Iterator[Frame]:
        while not self._closed.is_set():
            with self._ready:
                if not self._wait(STOPPED_AFTER_S):
                    self.stops += 1
                    LOG.warning("%s gave no frame for %.0f s; waiting for it to come back.", self.name, STOPPED_AFTER_S)
                    self._wait(None)
                    LOG.warning("%s is back.", self.name)
                frame, self._newest = self._newest, None
                self._ready.notify_all()
            if frame is not None:
                yield frame
            elif self._fault is not None:
                raise self._fault
            elif self._ended:
                return

    def close(self) -> None:
        self._closed.set()
        with self._ready:
            self._ready.notify_all()
        self._thread.join(timeout=STOPPED_AFTER_S)  # a driver may hang inside read(); the thread is a daemon

    def _wait(self, timeout_s: float | None) -> bool:
        """Wait for a frame, the end or close; False after `timeout_s`. The lock is held."""
        return self._ready.wait_for(lambda: self._newest is not None or self._ended or self._closed.is_set(), timeout_s)

    def _run(self) -> None:
        try:
            with quiet():  # OpenCV tells of every time-out
                self._serve()
        except SourceError as error:
            self._fault = error
        finally:
            self._ended = True
            with self._ready:
                self._ready.notify_all()

    def _serve(self) -> None:
        """Open, read and reopen until closed."""
        pause_s, count = RETRY_S, 0.0
        while not self._closed.is_set():
            capture, before = self._opener(self._spec), self._index
            if capture.isOpened():
                check_frame_size(capture, self.name)
                self.reconnects += self._opened
                if not self._opened:
                    self.fps = nominal_fps(capture.get(cv2.CAP_PROP_FPS))
                    # OpenCV knows no number of frames where the stream has no end.
                    count = capture.get(cv2.CAP_PROP_FRAME_COUNT) if isinstance(self._spec, str) else 0
                    self.live = count <= 0
                    self._opened = True
                self._read(capture)
            capture.release()
            if self._opened and not self.live and count - self._index > self.fps:  # counts are not exact
                self.skip(self.name, "frames announced but not received", int(count) - self._index)
            if not self._opened or not self.live:
                return
            pause_s = RETRY_S if self._index > before else min(2 * pause_s, MAX_RETRY_S)
            self._closed.wait(pause_s)

    def _read(self, capture: Any) -> None:
        """Pass frames on until there are no more."""
        clock = Clock(self.fps)
        while not self._closed.is_set() and (image := read(capture)) is not None:
            now = self._epoch + time.monotonic()
            stamp = now if self.live else clock.stamp(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            frame = Frame(to_rgb(image, self._depth), stamp, self._index)
            self._index += 1
            with self._ready:
                if not self.live:
                    self._ready.wait_for(lambda: self._newest is None or self._closed.is_set())
                self.dropped += self._newest is not None
                self._newest = frame
                self._ready.notify_all()


def _open(spec: int | str) -> Any:
    if isinstance(spec, int):
        return open_capture(spec, [cv2.CAP_ANY])
    if match := _ADDRESS.match(spec):
        # FFmpeg knows schemes in small letters, and OpenCV ends the process for a text that is not UTF-8.
        spec = match[0].lower() + quote(os.fsencode(spec[match.end() :]), safe=PRINTABLE)
        limits = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, CONNECT_S), (cv2.CAP_PROP_READ_TIMEOUT_MSEC, READ_S)
        settings = [value for name, limit_s in limits for value in (name, int(1e3 * limit_s))]
        return open_capture(spec, [cv2.CAP_FFMPEG, cv2.CAP_GSTREAMER], settings)
    if not is_utf8(spec):
        raise SourceError(f"'{printable(spec)}' is not UTF-8, which OpenCV cannot open. Rename it, or give its index.")
    return open_capture(spec, [cv2.CAP_GSTREAMER if "!" in spec else cv2.CAP_V4L2])


def _remedy(spec: int | str) -> str:
    if isinstance(spec, int) or not is_stream(spec):
        return (
            "Check 'ls /dev/video*', that no other program uses it, and your permissions. "
            "Without a camera, name a video or an image."
        )
    if _ADDRESS.match(spec):
        return "Check the address, user and password, and that the camera is on ('ffprobe ADDRESS')."
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        return (
            "A text with '!' is a GStreamer pipeline, and this OpenCV was built without GStreamer "
            "(cv2.getBuildInformation()). Use one that has it, or an address such as rtsp://HOST/PATH."
        )
    return "Try the pipeline with gst-launch-1.0; for OpenCV it ends in 'videoconvert ! appsink'."
