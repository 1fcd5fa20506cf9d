"""Images with the pose of the robot's head in its base, from a folder with poses.jsonl or a rosbag2 recording."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation

from calibration.camera.board.collection import to_grey
from calibration.extrinsics.transforms import PoseError, TransformLog, pose_from_quaternion
from sf_ros.io.bag import BagSource
from sf_ros.io.images import ImageFileError, read_image

POSES = "poses.jsonl"
INTERVAL_S = 0.5  # between the images used
AROUND_S = 0.1  # before and after an image in which the head must stand still,
STILL_M, STILL_DEG = 0.001, 0.2  # moving by no more than that


@dataclass(frozen=True)
class Shot:
    """An image with the head's pose."""

    name: str
    grey: np.ndarray  # (H, W) uint8
    head: np.ndarray  # (4, 4) in the base


def read_folder(folder: Path) -> Iterator[Shot]:
    """Shots of a folder with POSES: a line per image, the head in the base, metres and quaternion,

        {"image": "view_00.png", "translation_m": [x, y, z], "rotation_xyzw": [x, y, z, w]}

    PoseError names the first unusable line.
    """
    path = folder / POSES
    if not path.is_file():
        raise PoseError(f"{path} is missing: one line of JSON per image with image, translation_m and rotation_xyzw.")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            fields = json.loads(line)
            name = str(fields["image"])
            head = pose_from_quaternion(_numbers(fields, "translation_m", 3), _numbers(fields, "rotation_xyzw", 4))
        except (KeyError, TypeError, ValueError) as error:
            raise PoseError(f"{path}, line {number}: {error!s} is missing or wrong.") from error
        try:
            image = read_image(folder / name)
        except ImageFileError as error:
            raise PoseError(f"{path}, line {number}: {folder / name} is not a readable image ({error}).") from error
        yield Shot(name, to_grey(image), head)


def read_bag(path: Path, image_topic: str, base: str, head: str) -> Iterator[Shot]:
    """Shots of a rosbag2 recording with images, /tf and /tf_static, while the head stands still.

    SourceError if it has no such images, PoseError if the frames are not connected.
    """
    with BagSource(path, image_topic) as source:
        log = _transforms(path)
        log.pose(base, head, 0.0)  # PoseError before any image is decoded
        due_s = -np.inf
        for frame in source:
            if frame.stamp < due_s or (pose := _still(log, base, head, frame.stamp)) is None:
                continue
            due_s = frame.stamp + INTERVAL_S
            yield Shot(f"{frame.stamp:.3f} s", to_grey(frame.image), pose)


def _transforms(path: Path) -> TransformLog:
    log = TransformLog()
    with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_JAZZY)) as bag:
        for connection, _, data in bag.messages([c for c in bag.connections if c.topic in ("/tf", "/tf_static")]):
            message: Any = bag.deserialize(data, connection.msgtype)
            for item in message.transforms:
                at, turn, stamp = item.transform.translation, item.transform.rotation, item.header.stamp
                pose = pose_from_quaternion(np.array([at.x, at.y, at.z]), np.array([turn.x, turn.y, turn.z, turn.w]))
                static = connection.topic == "/tf_static"
                log.add(item.header.frame_id, item.child_frame_id, stamp.sec + 1e-9 * stamp.nanosec, pose, static)
    return log


def _still(log: TransformLog, base: str, head: str, stamp_s: float) -> np.ndarray | None:
    """The head in the base at a time around which it stands still, or None."""
    before, now, after = (log.pose(base, head, stamp_s + step) for step in (-AROUND_S, 0.0, AROUND_S))
    if before is None or now is None or after is None:
        return None
    motion = np.linalg.inv(before) @ after
    turned_deg = np.degrees(Rotation.from_matrix(motion[:3, :3]).magnitude())
    return now if np.linalg.norm(motion[:3, 3]) <= STILL_M and turned_deg <= STILL_DEG else None


def _numbers(fields: dict, name: str, count: int) -> np.ndarray:
    values = np.asarray(fields[name], float)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ValueError(f"{name} of {count} numbers")
    return values
