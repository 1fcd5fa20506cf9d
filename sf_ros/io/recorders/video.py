"""The overlay of every frame as a video that a killed process leaves readable."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import cv2

from sf_ros.core.types import Frame, FrameCues
from sf_ros.io.capture import file_name, quiet
from sf_ros.io.draw import draw
from sf_ros.io.recorders.base import FREE_SPACE, RecorderError

PIPE_BYTES = 1 << 16  # read at once
MAX_SIDE = 8190  # of MPEG-4 part 2, in pixels


class VideoRecorder:
    """The overlay of every frame as MPEG-4 part 2 in Matroska, in the size of the first frame, at most MAX_SIDE.

    Matroska needs no index at the end: what a killed process has written can be read. FFmpeg collects 256 KiB before it
    writes to a file, and OpenCV tells nobody about a full disk; so FFmpeg writes to a pipe, which it does with every
    frame, and a thread from there to the file. ValueError where fps is not above 0; RecorderError where OpenCV cannot
    write the format or the file cannot be written, at the next write or at close().
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        if not fps > 0:
            raise ValueError(f"{path}: fps is {fps}; it must be above 0.")
        self.path, self.fps = Path(path), fps
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._fault: OSError | None = None

    def write(self, frame: Frame, cues: FrameCues) -> None:
        if self._writer is None:
            self._size = _video_size(frame.width, frame.height)
            self._open()
        assert self._writer is not None
        overlay = cv2.cvtColor(draw(frame.image, cues), cv2.COLOR_RGB2BGR)
        if (frame.width, frame.height) != self._size:
            overlay = cv2.resize(overlay, self._size, interpolation=cv2.INTER_AREA)
        self._writer.write(overlay)
        self._raise_fault()

    def close(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.release()
        self._thread.join()
        os.close(self._file)
        self._raise_fault()

    def _open(self) -> None:
        with ExitStack() as undo:
            try:
                self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            except OSError as error:
                raise RecorderError(f"{self.path}: {error.strerror}. Check that the folder is writable.") from error
            undo.callback(os.close, self._file)
            with TemporaryDirectory(prefix="sf_ros_") as folder, quiet():
                pipe = Path(folder, "video.mkv")
                os.mkfifo(pipe)
                # Not blocking, as nobody writes yet.
                source = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
                undo.callback(os.close, source)
                with file_name(pipe, folder=True) as name:
                    codec = cv2.VideoWriter.fourcc(*"mp4v")
                    writer = cv2.VideoWriter(name, cv2.CAP_FFMPEG, codec, self.fps, self._size)
            if not writer.isOpened():
                raise RecorderError(
                    f"{self.path}: OpenCV cannot write MPEG-4 video of {self._size[0]}x{self._size[1]} here. "
                    "Check that cv2.getBuildInformation() lists FFMPEG."
                )
            os.set_blocking(source, True)
            undo.pop_all()
        self._writer = writer
        self._thread = Thread(target=self._copy, args=(source,), name="video file", daemon=True)
        self._thread.start()

    def _copy(self, source: int) -> None:
        """Write what comes through the pipe to the file; after a fault it is read on, so that FFmpeg does not wait."""
        with open(source, "rb", buffering=0) as pipe:
            while data := pipe.read(PIPE_BYTES):
                try:
                    while data and self._fault is None:
                        data = data[os.write(self._file, data) :]
                except OSError as error:
                    self._fault = error

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise RecorderError(f"{self.path}: {self._fault.strerror}. {FREE_SPACE}") from self._fault


def _video_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of a video of images of this size."""
    scale = min(MAX_SIDE / max(width, height), 1.0)
    return max(int(width * scale), 2), max(int(height * scale), 2)
