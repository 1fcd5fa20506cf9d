"""Poses as (4, 4) matrices, and a log of transforms (/tf) that interpolates between messages."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

import numpy as np
from scipy.spatial.transform import Rotation, Slerp


class PoseError(ValueError):
    """Poses that cannot be read or do not exist."""


def pose_matrix(rotation: Rotation, translation_m: np.ndarray) -> np.ndarray:
    """The pose as a matrix (4, 4)."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation.as_matrix(), translation_m
    return pose


def pose_from_quaternion(translation_m: np.ndarray, rotation_xyzw: np.ndarray) -> np.ndarray:
    """The pose (4, 4) of a translation (3,) and a quaternion (4,). PoseError if the quaternion is not normalised."""
    if not abs(np.linalg.norm(rotation_xyzw) - 1) < 1e-2:
        raise PoseError(f"Quaternion {list(rotation_xyzw)} is not normalised; the order is x, y, z, w.")
    return pose_matrix(Rotation.from_quat(rotation_xyzw), translation_m)


class TransformLog:
    """A tree of frames with their recorded transforms, as in tf2."""

    def __init__(self) -> None:
        self._parents: dict[str, str] = {}
        self._static: dict[str, np.ndarray] = {}
        self._stamps: dict[str, list[float]] = defaultdict(list)
        self._poses: dict[str, list[np.ndarray]] = defaultdict(list)

    def add(self, parent: str, child: str, stamp_s: float, pose: np.ndarray, static: bool = False) -> None:
        """Add the child's pose (4, 4) in its parent, at a time or (static) at all times."""
        self._parents[child] = parent
        if static:
            self._static[child] = pose
            return
        stamps = self._stamps[child]
        index = bisect_left(stamps, stamp_s)
        stamps.insert(index, stamp_s)
        self._poses[child].insert(index, pose)

    def pose(self, base: str, frame: str, stamp_s: float) -> np.ndarray | None:
        """The pose (4, 4) of a frame in the base at a time; None outside the recorded time.

        PoseError if the frames are not connected.
        """
        up, down = self._ancestors(frame), self._ancestors(base)
        if not (shared := [name for name in up if name in down]):
            recorded = ", ".join(sorted({*self._parents, *self._parents.values()})) or "none"
            raise PoseError(f"No transforms connect {base} and {frame}. Recorded frames: {recorded}.")
        to_frame, to_base = self._climb(frame, shared[0], stamp_s), self._climb(base, shared[0], stamp_s)
        return None if to_frame is None or to_base is None else np.linalg.inv(to_base) @ to_frame

    def _ancestors(self, frame: str) -> list[str]:
        """The frame and its parents up to the root."""
        names = [frame]
        while (parent := self._parents.get(names[-1])) is not None and parent not in names:
            names.append(parent)
        return names

    def _climb(self, frame: str, ancestor: str, stamp_s: float) -> np.ndarray | None:
        """The pose of a frame in one of its ancestors."""
        pose = np.eye(4)
        while frame != ancestor:
            step = self._static[frame] if frame in self._static else self._between(frame, stamp_s)
            if step is None:
                return None
            pose, frame = step @ pose, self._parents[frame]
        return pose

    def _between(self, frame: str, stamp_s: float) -> np.ndarray | None:
        """The pose of a frame in its parent, interpolated between the two messages around that time."""
        stamps, poses = self._stamps[frame], self._poses[frame]
        if not stamps[0] <= stamp_s <= stamps[-1]:
            return None
        after = min(max(bisect_left(stamps, stamp_s), 1), len(stamps) - 1)
        if len(stamps) == 1 or stamps[after] == stamps[after - 1]:
            return poses[after]
        share = (stamp_s - stamps[after - 1]) / (stamps[after] - stamps[after - 1])
        rotations = Rotation.from_matrix([poses[after - 1][:3, :3], poses[after][:3, :3]])
        translation = (1 - share) * poses[after - 1][:3, 3] + share * poses[after][:3, 3]
        return pose_matrix(Slerp([0.0, 1.0], rotations)(share), translation)
