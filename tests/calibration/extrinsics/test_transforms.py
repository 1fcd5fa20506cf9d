"""Poses between messages, along chains of frames, static and moving."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from calibration.extrinsics.transforms import PoseError, TransformLog, pose_from_quaternion, pose_matrix


def turned(degrees: float, x: float = 0.0) -> np.ndarray:
    return pose_matrix(Rotation.from_euler("z", degrees, degrees=True), np.array([x, 0, 0]))


@pytest.fixture
def log() -> TransformLog:
    """base -> torso (static, 1 m up) -> neck (turns 0 to 90 degrees in a second) -> head (static, 0.1 m ahead)."""
    log = TransformLog()
    log.add("base", "torso", 0.0, pose_matrix(Rotation.identity(), np.array([0, 0, 1.0])), static=True)
    log.add("neck", "head", 0.0, turned(0, 0.1), static=True)
    for stamp, degrees in ((11.0, 90.0), (10.0, 0.0)):  # messages may arrive out of order
        log.add("torso", "neck", stamp, turned(degrees))
    return log


def test_poses_are_interpolated_between_messages(log: TransformLog) -> None:
    head = log.pose("base", "head", 10.5)
    assert head is not None
    assert head[:3, 3] == pytest.approx([0.1 * np.cos(np.pi / 4), 0.1 * np.sin(np.pi / 4), 1.0])
    assert Rotation.from_matrix(head[:3, :3]).as_euler("xyz", degrees=True) == pytest.approx([0, 0, 45])


def test_at_a_message_the_pose_is_the_recorded_one(log: TransformLog) -> None:
    assert log.pose("torso", "neck", 10.0) == pytest.approx(turned(0))
    assert log.pose("torso", "neck", 11.0) == pytest.approx(turned(90))


def test_swapped_frames_give_the_inverse_pose(log: TransformLog) -> None:
    head, base = log.pose("base", "head", 10.3), log.pose("head", "base", 10.3)
    assert head is not None and base is not None
    assert head @ base == pytest.approx(np.eye(4))


def test_outside_the_recording_only_static_poses_exist(log: TransformLog) -> None:
    assert log.pose("base", "head", 9.9) is None and log.pose("base", "head", 11.1) is None
    assert log.pose("base", "torso", 99.0) is not None


def test_unconnected_frames_raise_an_error_that_lists_all_frames(log: TransformLog) -> None:
    with pytest.raises(PoseError, match=r"connect base and hand\. Recorded frames: base, head, neck, torso"):
        log.pose("base", "hand", 10.5)


def test_a_quaternion_that_is_not_normalised_is_refused() -> None:
    with pytest.raises(PoseError, match="x, y, z, w"):
        pose_from_quaternion(np.zeros(3), np.array([0.0, 0, 90, 0]))
