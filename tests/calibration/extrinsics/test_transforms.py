"""Poses between messages, along chains of frames, static and moving."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from calibration.extrinsics.transforms import PoseError, TransformLog, matrix


def turned(degrees: float, x: float = 0.0) -> np.ndarray:
    return matrix(np.array([x, 0, 0]), Rotation.from_euler("z", degrees, degrees=True).as_quat())


@pytest.fixture
def log() -> TransformLog:
    """base -> torso (static, 1 m up) -> neck (turns 0 to 90 degrees in a second) -> head (static, 0.1 m ahead)."""
    log = TransformLog()
    log.add("base", "torso", 0.0, matrix(np.array([0, 0, 1.0]), np.array([0, 0, 0, 1.0])), static=True)
    log.add("neck", "head", 0.0, turned(0, 0.1), static=True)
    for stamp, degrees in ((11.0, 90.0), (10.0, 0.0)):  # messages may come late
        log.add("torso", "neck", stamp, turned(degrees))
    return log


def test_a_pose_between_two_messages_is_between_their_poses(log: TransformLog) -> None:
    head = log.pose("base", "head", 10.5)
    assert head is not None
    assert head[:3, 3] == pytest.approx([0.1 * np.cos(np.pi / 4), 0.1 * np.sin(np.pi / 4), 1.0])
    assert Rotation.from_matrix(head[:3, :3]).as_euler("xyz", degrees=True) == pytest.approx([0, 0, 45])


def test_the_messages_themselves_are_met(log: TransformLog) -> None:
    assert log.pose("torso", "neck", 10.0) == pytest.approx(turned(0))
    assert log.pose("torso", "neck", 11.0) == pytest.approx(turned(90))


def test_one_way_is_the_inverse_of_the_other(log: TransformLog) -> None:
    there, back = log.pose("base", "head", 10.3), log.pose("head", "base", 10.3)
    assert there is not None and back is not None
    assert there @ back == pytest.approx(np.eye(4))


def test_nothing_is_known_outside_the_recording(log: TransformLog) -> None:
    assert log.pose("base", "head", 9.9) is None and log.pose("base", "head", 11.1) is None
    assert log.pose("base", "torso", 99.0) is not None  # what is static is always so


def test_frames_that_do_not_hang_together_are_named(log: TransformLog) -> None:
    with pytest.raises(PoseError, match=r"from base to hand\. Frames recorded: base, head, neck, torso"):
        log.pose("base", "hand", 10.5)


def test_a_quaternion_in_another_order_or_unit_is_refused() -> None:
    with pytest.raises(PoseError, match="x, y, z, w"):
        matrix(np.zeros(3), np.array([0.0, 0, 90, 0]))
