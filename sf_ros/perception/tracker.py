"""Stable track ids: ultralytics' ByteTrack with a memory in seconds.

The Apache-2.0 package `trackers` needs NumPy 2, which cv_bridge of ROS 2 Humble and JetPack 6's torch cannot use.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

LOW_SCORE = 0.1  # weaker boxes may continue a track but not start one (ByteTrack's second association)


class PersonTracker:
    """ByteTrack (Zhang et al. 2022) on person boxes, with a memory in seconds of the stream's stamps."""

    def __init__(self, score: float, lost_after_s: float) -> None:
        quiet_ultralytics()
        from ultralytics.trackers.byte_tracker import BYTETracker

        self._lost_after_s = lost_after_s
        self._step_s = 0.0  # smoothed time between frames
        self._stamp: float | None = None
        self._tracker = BYTETracker(
            SimpleNamespace(
                track_high_thresh=score,
                track_low_thresh=min(LOW_SCORE, score),
                new_track_thresh=score,
                track_buffer=30,
                match_thresh=0.8,
                fuse_score=True,
            )
        )

    def update(self, boxes: np.ndarray, scores: np.ndarray, stamp: float) -> list[tuple[int, int]]:
        """Boxes (N, 4) xyxy pixels and scores (N,) -> pairs (track id, index of its box).

        A person who appears mid-stream gets an id in the second frame, which keeps flickering boxes out.
        """
        if self._stamp is not None:
            step = max(stamp - self._stamp, 1e-3)
            if step > self._lost_after_s:  # all tracks are lost; ids continue
                self._tracker.tracked_stracks, self._tracker.lost_stracks, self._tracker.frame_id = [], [], 0
            else:
                self._step_s = 0.8 * self._step_s + 0.2 * step if self._step_s else step
                self._tracker.max_frames_lost = max(round(self._lost_after_s / self._step_s), 1)
        self._stamp = stamp
        rows = self._tracker.update(_Detections(boxes, scores))
        return [(int(row[4]), int(row[7])) for row in rows]

    def reset(self) -> None:
        """Forget all tracks; ids start at 1 again."""
        self._tracker.reset()
        self._stamp, self._step_s = None, 0.0


@dataclass(frozen=True)
class _Detections:
    """The interface BYTETracker expects of detections."""

    xyxy: np.ndarray
    conf: np.ndarray

    @property
    def xywh(self) -> np.ndarray:
        return np.concatenate([(self.xyxy[:, :2] + self.xyxy[:, 2:]) / 2, self.xyxy[:, 2:] - self.xyxy[:, :2]], axis=1)

    @property
    def cls(self) -> np.ndarray:
        return np.zeros(len(self.conf))

    def __len__(self) -> int:
        return len(self.conf)

    def __getitem__(self, mask: np.ndarray) -> _Detections:
        return _Detections(self.xyxy[mask], self.conf[mask])


def quiet_ultralytics() -> None:
    """Keep ultralytics off the network and out of the user's folders. Call before its first import."""
    os.environ.setdefault("YOLO_OFFLINE", "1")
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    os.environ.setdefault("YOLO_VERBOSE", "false")
    if "YOLO_CONFIG_DIR" not in os.environ:
        folder = os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp(prefix="sf_ros_yolo_")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    from ultralytics.utils import SETTINGS

    dict.__setitem__(SETTINGS, "sync", False)  # no usage statistics; SETTINGS' own assignment would write a file
