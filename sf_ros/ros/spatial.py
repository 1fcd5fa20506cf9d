"""FrameCues and a calibrated camera (and depth) -> where in space people look. Pure, as `messages` is.

Everything is in the camera's optical frame (REP 103). Nothing is faked: without depth there is a ray to what somebody
looks at, but no point and no TF frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sf_ros.core.camera import Camera, along
from sf_ros.core.types import FrameCues, PersonCues
from sf_ros.messages import MessageSettings, MessageTypes, TopicMessage, topic_message
from sf_ros.topics import face_id

TRANSFORM = "geometry_msgs/msg/TransformStamped"
IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])


@dataclass(frozen=True)
class GazeInSpace:
    """Where somebody looks, in metres in the camera's optical frame; None where it was not measured."""

    ray: np.ndarray | None  # (3,) unit vector from the camera to the target; None: at the camera
    face: np.ndarray | None = None  # (3,)
    target: np.ndarray | None = None  # (3,)

    @property
    def direction(self) -> np.ndarray | None:
        """Unit vector (3,) from the face to what it looks at, which is the camera where there is no ray."""
        if self.face is None or (self.ray is not None and self.target is None):
            return None
        way = (np.zeros(3) if self.target is None else self.target) - self.face
        length = float(np.linalg.norm(way))
        return way / length if length > 1e-3 else None


def gaze_in_space(
    cues: PersonCues, camera: Camera, depth: np.ndarray | None, size: tuple[int, int], looking_min: float
) -> GazeInSpace | None:
    """Where one person of a frame of (width, height) pixels looks; None without a face or an answer.

    `depth` is an aligned image of z in metres, or None.
    """
    face, gaze, looking = cues.person.face, cues.gaze, cues.looking_at_me
    if face is None:
        return None
    lens = camera.scaled(*size)
    at = lens.point(face.center, depth) if depth is not None else None
    if looking is not None and looking.name == "yes" and looking.confidence >= looking_min:
        return GazeInSpace(None, at)
    if gaze is None:
        return None
    pixel = (gaze.point_norm[0] * size[0], gaze.point_norm[1] * size[1])
    target = lens.point(pixel, depth) if depth is not None else None
    return GazeInSpace(lens.rays(np.array([pixel]))[0], at, target)


def spatial_messages(
    cues: FrameCues,
    types: MessageTypes,
    settings: MessageSettings,
    camera: Camera,
    depth: np.ndarray | None,
    header: Any,
) -> list[TopicMessage]:
    """Rays and points per face, and on /tf the frames `gaze_<face>` (z along the gaze) and `focus_<face>` (its target).

    Every header is `header`, the image's own.
    """
    out: list[TopicMessage] = []
    transforms: list[Any] = []
    for person in cues.people:
        if person.gaze is not None and person.gaze.age_s > settings.max_age_s:
            continue
        found = gaze_in_space(person, camera, depth, (cues.width, cues.height), settings.looking_min)
        if found is None:
            continue
        name = face_id(person.person.track_id)
        if found.ray is not None:
            vector = types("geometry_msgs/msg/Vector3")(**_xyz(found.ray))
            out.append(_send(types, settings, "face_gaze_ray", name, header=header, vector=vector))
        if found.target is not None:
            point = types("geometry_msgs/msg/Point")(**_xyz(found.target))
            out.append(_send(types, settings, "face_gaze_point", name, header=header, point=point))
            transforms.append(_transform(types, header, f"focus_{name}", found.target, IDENTITY))
        if found.direction is not None and found.face is not None:
            transforms.append(_transform(types, header, f"gaze_{name}", found.face, along(found.direction)))
    if transforms:
        out.append(_send(types, settings, "tf", "", transforms=transforms))
    return out


def _send(types: MessageTypes, settings: MessageSettings, key: str, subject: str, **fields: Any) -> TopicMessage:
    return topic_message(types, settings.names, key, subject, lambda: fields)


def _transform(types: MessageTypes, header: Any, child: str, origin: np.ndarray, turn: np.ndarray) -> Any:
    translation = types("geometry_msgs/msg/Vector3")(**_xyz(origin))
    rotation = types("geometry_msgs/msg/Quaternion")(**_xyz(turn), w=float(turn[3]))
    transform = types("geometry_msgs/msg/Transform")(translation=translation, rotation=rotation)
    return types(TRANSFORM)(header=header, child_frame_id=child, transform=transform)


def _xyz(values: np.ndarray) -> dict[str, float]:
    return {"x": float(values[0]), "y": float(values[1]), "z": float(values[2])}
