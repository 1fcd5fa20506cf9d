"""Where in space people look -> rays, points and TF frames. Pure, as `messages` is.

Everything is in the camera's optical frame (REP 103). What was not measured is not sent: without depth there is a ray
to what somebody looks at, but no point and no TF frame.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from sf_ros.core.space import Gaze3D, along
from sf_ros.core.types import FrameCues
from sf_ros.msgs.hri import MessageSettings, MessageTypes, TopicMessage, topic_message
from sf_ros.msgs.topics import face_id

TRANSFORM = "geometry_msgs/msg/TransformStamped"
IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])


def spatial_messages(
    cues: FrameCues,
    types: MessageTypes,
    settings: MessageSettings,
    spaces: Mapping[int, Gaze3D],
    header: Any,
) -> list[TopicMessage]:
    """Rays and points per face, and on /tf the frames `gaze_<face>` (z along the gaze) and `focus_<face>` (its target).

    `spaces` is what `attention.in_space` found, by track id; every header is `header`, the image's own.
    """
    out: list[TopicMessage] = []
    transforms: list[Any] = []
    send = functools.partial(topic_message, types, settings.names)
    for person in cues.people:
        if person.gaze is not None and person.gaze.age_s > settings.max_age_s:
            continue
        found = spaces.get(person.person.track_id)
        if found is None or person.person.face is None:
            continue
        name = face_id(person.person.track_id)
        if found.ray is not None:
            vector = types("geometry_msgs/msg/Vector3")(**_xyz(found.ray))
            out.append(send("face_gaze_ray", name, header=header, vector=vector))
        if found.target is not None:
            point = types("geometry_msgs/msg/Point")(**_xyz(found.target))
            out.append(send("face_gaze_point", name, header=header, point=point))
            transforms.append(_transform(types, header, f"focus_{name}", found.target, IDENTITY))
        if found.direction is not None and found.head is not None:
            transforms.append(_transform(types, header, f"gaze_{name}", found.head, along(found.direction)))
    if transforms:
        out.append(send("tf", transforms=transforms))
    return out


def _transform(types: MessageTypes, header: Any, child: str, origin: np.ndarray, turn: np.ndarray) -> Any:
    translation = types("geometry_msgs/msg/Vector3")(**_xyz(origin))
    rotation = types("geometry_msgs/msg/Quaternion")(**_xyz(turn), w=float(turn[3]))
    transform = types("geometry_msgs/msg/Transform")(translation=translation, rotation=rotation)
    return types(TRANSFORM)(header=header, child_frame_id=child, transform=transform)


def _xyz(values: np.ndarray) -> dict[str, float]:
    return {"x": float(values[0]), "y": float(values[1]), "z": float(values[2])}
