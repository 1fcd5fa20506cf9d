"""Pictures with the pose of the robot's head in its base: a folder with poses.jsonl, or a rosbag2 recording."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.highlevel import AnyReader, AnyReaderError
from scipy.spatial.transform import Rotation

from calibration.camera.collect import to_grey
from calibration.extrinsics.transforms import PoseError, TransformLog, matrix
from sf_ros.io.sources import read_image
from sf_ros.msgs.images import READERS, ImageError

POSES = "poses.jsonl"
INTERVAL_S = 0.5  # between pictures that are looked at
AROUND_S = 0.1  # before and after a picture in which the head must stand still,
STILL_M, STILL_DEG = 0.001, 0.2  # moving by no more than that


@dataclass(frozen=True)
class Shot:
    """A picture and where the head was."""

    name: str
    grey: np.ndarray  # (H, W) uint8
    head: np.ndarray  # (4, 4) in the base


def read_folder(folder: Path) -> Iterator[Shot]:
    """Shots of a folder's POSES: a line per picture, the head in the base, metres and quaternion,

        {"image": "view_00.png", "translation_m": [x, y, z], "rotation_xyzw": [x, y, z, w]}

    PoseError names the line that cannot be used.
    """
    path = folder / POSES
    if not path.is_file():
        raise PoseError(f"{path} is missing: one line of JSON per picture with image, translation_m and rotation_xyzw.")
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            fields = json.loads(line)
            name = str(fields["image"])
            head = matrix(_numbers(fields, "translation_m", 3), _numbers(fields, "rotation_xyzw", 4))
        except (KeyError, TypeError, ValueError) as error:
            raise PoseError(f"{path}, line {number}: {error!s} is missing or wrong.") from error
        image = read_image(folder / name) if (folder / name).is_file() else None
        if image is None:
            raise PoseError(f"{path}, line {number}: {folder / name} is no picture that can be read.")
        yield Shot(name, to_grey(image), head)


def read_bag(path: Path, image_topic: str, base: str, head: str) -> Iterator[Shot]:
    """Shots of a rosbag2 recording with images, /tf and /tf_static, while the head stands still.

    PoseError where the topic or the frames are not in it.
    """
    try:
        with AnyReader([path]) as bag:
            log = _transforms(bag)
            log.pose(base, head, 0.0)  # both are there, or an error now
            images = [c for c in bag.connections if c.topic == image_topic and c.msgtype in READERS]
            if not images:
                known = sorted(c.topic for c in bag.connections if c.msgtype in READERS)
                raise PoseError(f"No images on {image_topic}; recorded: {', '.join(known) or 'none'}.")
            due_s = -np.inf
            for connection, _, data in bag.messages(images):
                message: Any = bag.deserialize(data, connection.msgtype)
                stamp_s = _seconds(message.header.stamp)
                if stamp_s < due_s or (pose := _still(log, base, head, stamp_s)) is None:
                    continue
                due_s = stamp_s + INTERVAL_S
                try:
                    grey = to_grey(READERS[connection.msgtype](message))
                except (ImageError, cv2.error):
                    continue  # a broken message is like a picture without a board
                yield Shot(f"{stamp_s:.3f} s", grey, pose)
    except AnyReaderError as error:
        raise PoseError(f"{path} cannot be read as a recording: {error}") from error


def _transforms(bag: AnyReader) -> TransformLog:
    log = TransformLog()
    for connection, _, data in bag.messages([c for c in bag.connections if c.topic in ("/tf", "/tf_static")]):
        message: Any = bag.deserialize(data, connection.msgtype)
        for item in message.transforms:
            at, turn = item.transform.translation, item.transform.rotation
            pose = matrix(np.array([at.x, at.y, at.z]), np.array([turn.x, turn.y, turn.z, turn.w]))
            static = connection.topic == "/tf_static"
            log.add(item.header.frame_id, item.child_frame_id, _seconds(item.header.stamp), pose, static)
    return log


def _still(log: TransformLog, base: str, head: str, stamp_s: float) -> np.ndarray | None:
    """The head in the base at a time around which it stands still, or None."""
    before, now, after = (log.pose(base, head, stamp_s + step) for step in (-AROUND_S, 0.0, AROUND_S))
    if before is None or now is None or after is None:
        return None
    motion = np.linalg.inv(before) @ after
    turned_deg = np.degrees(Rotation.from_matrix(motion[:3, :3]).magnitude())
    return now if np.linalg.norm(motion[:3, 3]) <= STILL_M and turned_deg <= STILL_DEG else None


def _seconds(stamp: Any) -> float:
    return float(stamp.sec + 1e-9 * stamp.nanosec)


def _numbers(fields: dict, name: str, count: int) -> np.ndarray:
    values = np.asarray(fields[name], float)
    if values.shape != (count,) or not np.isfinite(values).all():
        raise ValueError(f"{name} of {count} numbers")
    return values
