"""Where pictures come from: a camera, a video, images, the demo clip, a rosbag. All of them are iterators of Frame."""

from __future__ import annotations

import importlib.resources
import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sf_ros.core.types import Frame

LOG = logging.getLogger(__name__)
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
BAG_SUFFIXES = frozenset({".bag", ".mcap", ".db3"})
IMAGES_FPS = 10.0  # nominal rate of a folder of pictures
UNKNOWN_FPS = 30.0  # where a camera or container does not tell
MAX_GAP_S = 10.0  # between two frames of a video
STOPPED_AFTER_S = 2.0  # without a frame, a camera is reported as stopped
RETRY_S = 0.5  # between two attempts to open a camera again


class SourceError(RuntimeError):
    """Pictures that cannot be had: says what was expected, what was found and what to do."""


class Source(ABC):
    """An iterator of Frame with its losses counted; a context manager.

    `fps` is nominal. `dropped` counts frames of a live source that a newer one replaced before they were taken.
    `skipped` counts what could not be read, by "what: why".
    """

    def __init__(self, name: str, fps: float) -> None:
        self.name = name
        self.fps = fps
        self.dropped = 0
        self.skipped: Counter[str] = Counter()

    @property
    def expected(self) -> int | None:
        """Frames to expect; None where unknown."""
        return None

    def label(self, frame: Frame) -> str:
        """What people call a frame of this source."""
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


def open_source(spec: str | int, topic: str | None = None) -> Source:
    """The source that `spec` names: 'demo', a camera index, a video or image file, a folder of images, or a rosbag.

    `topic` is the one of a rosbag that is wanted, where several have pictures. SourceError where nothing can be read.
    """
    text = str(spec)
    path = Path(text)
    if path.exists() and (path.suffix.lower() in BAG_SUFFIXES or (path / "metadata.yaml").is_file()):
        from sf_ros.io.bag import BagSource  # rosbags, which no other source needs

        return BagSource(path, topic)
    if topic is not None:
        raise SourceError(f"{text}: has no topic '{topic}'; only a rosbag has topics.")
    if text == "demo":
        path = demo_file("clip.mp4")
        if not path.is_file():
            raise SourceError(
                f"{path}: the demo clip is missing from this installation. Install sf_ros again, or name a video file."
            )
        return VideoSource(path)
    if text.isdecimal():
        return CameraSource(int(text))
    if not path.exists():
        raise SourceError(
            f"{path}: no such file or folder. Expected 'demo', a camera index, a video, an image, a folder of images "
            "or a rosbag."
        )
    if path.is_dir():
        return ImagesSource(
            path, sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        )
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return ImagesSource(path, [path])
    return VideoSource(path)


def demo_file(name: str) -> Path:
    """The path of a file of the demo that ships inside the package (which may be missing)."""
    return Path(str(importlib.resources.files("sf_ros"))) / "demo" / name


def to_rgb(image: np.ndarray) -> np.ndarray:
    """What OpenCV decodes -> RGB uint8 (H, W, 3): grey is repeated, alpha left out, 16 bit and 0..1 floats scaled."""
    if image.dtype == np.uint16:
        image = (image >> 8).astype(np.uint8)
    elif image.dtype != np.uint8:
        image = (np.clip(np.nan_to_num(image), 0, 1) * 255).astype(np.uint8)
    channels = 1 if image.ndim == 2 else image.shape[2]
    code = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}.get(channels)
    if code is None:
        raise SourceError(f"A picture has {channels} channels; expected 1 (grey), 3 (BGR) or 4 (BGRA).")
    return cv2.cvtColor(image, code)


def read_image(path: Path) -> np.ndarray | None:
    """An image file as RGB uint8 (H, W, 3), turned as its EXIF says; None when it is empty, broken or cut short."""
    data = path.read_bytes()
    # OpenCV fills the rest of a JPEG that was cut short with grey and says nothing: the end marker must follow the
    # last start of scan.
    if not data or (data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")):
        return None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else to_rgb(image)


class ImagesSource(Source):
    """Image files in the order given, at a nominal 10 per second; broken ones are skipped, counted and named."""

    def __init__(self, path: Path, files: list[Path]) -> None:
        super().__init__(str(path), IMAGES_FPS)
        if not files:
            raise SourceError(
                f"{path}: no images in this folder. Expected files ending in {', '.join(sorted(IMAGE_SUFFIXES))}."
            )
        self._files = files

    @property
    def expected(self) -> int | None:
        return len(self._files)

    def label(self, frame: Frame) -> str:
        return self._files[frame.index].name

    def __iter__(self) -> Iterator[Frame]:
        read = 0
        for index, path in enumerate(self._files):
            image = read_image(path)
            if image is None:
                self.skipped[f"{path.name}: empty, broken or cut short"] += 1
                continue
            read += 1
            yield Frame(image, index / self.fps, index)
        if not read:
            raise SourceError(
                f"{self.name}: none of {len(self._files)} images can be decoded. "
                "Open one in a viewer, or copy them again."
            )

    def close(self) -> None:
        """Nothing is held between pictures."""


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
            # A container without usable times repeats them, or jumps; then the frame rate is the better clock.
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


class CameraSource(Source):
    """A live camera: a thread keeps the newest frame only, so that a slow consumer never works on old pictures.

    Stamps are seconds since the epoch, kept monotonic. A camera that stops is logged within STOPPED_AFTER_S and opened
    again; `stops` counts that. SourceError when it does not open at all.
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
