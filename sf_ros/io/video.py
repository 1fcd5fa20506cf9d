"""Video files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import cv2

from sf_ros.core.text import printable
from sf_ros.core.types import Frame
from sf_ros.io.capture import check_frame_size, fourcc, open_file, read
from sf_ros.io.containers import is_cut_off, listing
from sf_ros.io.images import kind_of, to_rgb
from sf_ros.io.source import Source, SourceError, nominal_fps

LATE_S = 1.0  # a frame up to this late is one out of order; a later one starts the recording's clock again
MAX_LATE = 16  # frames out of order, one after the other; H.264 allows no more
NUDGE_S = 1e-3  # after the frame before: a frame out of order, or with the same time


class VideoSource(Source):
    """A video file; stamps are the container's, upright as recorded.

    Frames that an MP4 lists and that cannot be decoded are counted, and so is the missing rest of a file that is cut
    off. SourceError where no frame can be decoded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            kind = kind_of(path)
        except (OSError, ValueError) as error:
            raise SourceError(f"{printable(str(path))}: {getattr(error, 'strerror', None) or error}.") from error
        if kind:
            raise SourceError(f"{printable(str(path))}: not a file but {kind}.")
        self._capture = open_file(path)
        super().__init__(path, nominal_fps(self._capture.get(cv2.CAP_PROP_FPS)))
        check_frame_size(self._capture, self.name)
        self._first = read(self._capture) if self._capture.isOpened() else None
        self._listing = listing(path)
        if self._first is None:
            codec = self._listing.codec if self._listing is not None else fourcc(self._capture)
            facts = [f"{path.stat().st_size} bytes", *([f"codec {printable(codec)}"] if codec else [])]
            facts += ["cut off"] * is_cut_off(path)
            self._capture.release()
            raise SourceError(
                f"{self.name}: no frame can be decoded ({', '.join(facts)}). Expected a video that this OpenCV reads; "
                "copy it again, or convert it: ffmpeg -i FILE -c:v libx264 -pix_fmt yuv420p NEW.mp4"
            )

    @property
    def expected(self) -> int | None:
        if self._listing is not None:
            return self._listing.frames or None
        return max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0) or None

    def __iter__(self) -> Iterator[Frame]:
        clock = Clock(self.fps)
        image, index = self._first, 0
        while image is not None:
            yield Frame(to_rgb(image), clock.stamp(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000), index)
            index += 1
            image = read(self._capture)
        if self._listing is not None:
            if missing := max(self._listing.frames - index, 0):
                self.skip(self._path.name, "frames listed by the file but not decodable", missing)
        elif is_cut_off(self._path):
            self.skip(self._path.name, "the file is cut off; the rest of it is missing")

    def close(self) -> None:
        self._capture.release()


class Clock:
    """Stamps of frames from the container's times, which may be missing, repeat, or start again."""

    def __init__(self, fps: float) -> None:
        self._period_s = 1 / fps
        self._latest = -math.inf  # time of the container
        self._offset = self._stamp = 0.0
        self._late = 0  # frames in a row

    def stamp(self, time_s: float) -> float:
        """Seconds, always more than before: the container's, whatever the pause between two frames."""
        time_s = time_s if math.isfinite(time_s) else 0.0
        if self._latest == -math.inf:
            self._stamp = max(time_s, 0.0)
        elif time_s > self._latest:
            self._stamp = max(time_s + self._offset, self._stamp + NUDGE_S)
            self._late = 0
        elif time_s > 0 and self._latest - time_s <= LATE_S and self._late < MAX_LATE:
            self._stamp += NUDGE_S
            self._late += 1
            return self._stamp
        else:  # no times at all, or a clock that starts again
            self._stamp += self._period_s
            self._offset = self._stamp - time_s
        self._latest = time_s
        return self._stamp
