"""Opening cv2.VideoCapture: without FFmpeg's lines on the terminal, by any path, upright."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sf_ros.io.source import SourceError
from sf_ros.msgs.images import ImageError, check_size

# FFmpeg writes to the terminal from C. OpenCV reads this once, when it first uses FFmpeg. -8: nothing (AV_LOG_QUIET).
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
OPENCV_SILENT = 0  # OpenCV's own log


def open_capture(name: str | int, backends: Sequence[int], settings: Sequence[int] = ()) -> Any:
    """The first cv2.VideoCapture of `backends` that opens, with rotation switched on; else one that is not opened.

    `settings` are FFmpeg's: pairs of a property and its value.
    """
    with quiet():
        capture = cv2.VideoCapture()
        for backend in backends:
            try:
                if settings and backend == cv2.CAP_FFMPEG:
                    capture.open(name, backend, list(settings))
                else:
                    capture.open(name, backend)
            except cv2.error:
                continue
            if capture.isOpened():
                # OpenCV 5 turns what a phone recorded upright by itself, 4.x does not.
                capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
                break
    return capture


def open_file(path: Path) -> Any:
    """The capture of a video file; not opened where no backend can read it."""
    backends = [b for b in cv2.videoio_registry.getStreamBackends() if b != cv2.CAP_IMAGES]  # which reads "%d" in names
    with file_name(path) as name:
        return open_capture(name, backends)


def read(capture: Any) -> np.ndarray | None:
    """The next image as OpenCV gives it; None at the end, or where it cannot be decoded."""
    try:
        ok, image = capture.read()
    except cv2.error:
        return None
    return image if ok and image is not None and image.size else None


def check_frame_size(capture: Any, name: str) -> None:
    """SourceError where the frames that a video or stream announces are larger than any image may be."""
    width, height = capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    try:
        check_size(width, height)
    except ImageError as error:
        raise SourceError(f"{name}: frames of {width:.0f}x{height:.0f}, {error}. Scale it down.") from None


def fourcc(capture: Any) -> str:
    """The codec's four letters, as the container spells them; empty where unknown."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    return code.to_bytes(4, "little").decode("latin-1").strip("\0 ") if 0 < code < 1 << 32 else ""


@contextmanager
def file_name(path: Path, *, folder: bool = False) -> Iterator[str]:
    """A name by which OpenCV opens a file while the context is open, also where its name is not UTF-8.

    It is absolute, as FFmpeg takes "rtsp:x.mp4" for a protocol. OpenCV crashes on other bytes than UTF-8, so those
    names go by a file descriptor: of the file, or for one that does not exist yet (`folder`) of its folder.
    """
    text = os.path.abspath(path)
    if is_utf8(text):
        yield text
        return
    descriptor = os.open(path.parent if folder else path, os.O_RDONLY)
    try:
        yield f"/dev/fd/{descriptor}" + (f"/{path.name}" if folder else "")
    finally:
        os.close(descriptor)


@contextmanager
def quiet() -> Iterator[None]:
    """OpenCV logs nothing inside."""
    log: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 5, OpenCV 4
    level = log.getLogLevel()
    log.setLogLevel(OPENCV_SILENT)
    try:
        yield
    finally:
        log.setLogLevel(level)


def is_utf8(text: str) -> bool:
    """Whether a name is UTF-8; OpenCV crashes on others."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
