"""Gaze in space as rays, points and TF frames, in the camera's optical frame (REP 103).

What was not measured is not sent: without depth there is a ray to the gaze target, but no point and no TF frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from sf_ros.core.space import along, direction
from sf_ros.msgs.builder import MessageBuilder, MessageTypes, TopicMessage
from sf_ros.msgs.topics import face_id

IDENTITY = np.array([0.0, 0.0, 0.0, 1.0])


def spatial_messages(builder: MessageBuilder) -> Iterator[TopicMessage]:
    """Rays and points per face, and on /tf the frames `gaze_<face>` (z along the gaze) and `focus_<face>` (target)."""
    types, header, frame = builder.types, builder.header, builder.settings.names.frame
    transforms: list[Any] = []
    for cues in builder.cues.people:
        gaze_3d = cues.gaze_3d
        if gaze_3d is None or cues.person.face is None or (cues.gaze is not None and not builder.fresh(cues.gaze)):
            continue
        face = face_id(cues.person.track_id)
        if gaze_3d.ray is not None:
            vector = types("geometry_msgs/msg/Vector3")(**_xyz(gaze_3d.ray))
            yield builder.send("face_gaze_ray", face, header=header, vector=vector)
        if gaze_3d.target is not None:
            point = types("geometry_msgs/msg/Point")(**_xyz(gaze_3d.target))
            yield builder.send("face_gaze_point", face, header=header, point=point)
            transforms.append(_transform(types, header, frame(f"focus_{face}"), gaze_3d.target, IDENTITY))
        unit = direction(gaze_3d)
        if unit is not None and gaze_3d.head is not None:
            transforms.append(_transform(types, header, frame(f"gaze_{face}"), gaze_3d.head, along(unit)))
    if transforms and builder.cues.frame_id:  # a TF frame without a parent is refused by its readers
        yield builder.send("tf", transforms=transforms)


def _transform(types: MessageTypes, header: Any, child: str, origin: np.ndarray, rotation: np.ndarray) -> Any:
    translation = types("geometry_msgs/msg/Vector3")(**_xyz(origin))
    quaternion = types("geometry_msgs/msg/Quaternion")(**_xyz(rotation), w=float(rotation[3]))
    transform = types("geometry_msgs/msg/Transform")(translation=translation, rotation=quaternion)
    return types("geometry_msgs/msg/TransformStamped")(header=header, child_frame_id=child, transform=transform)


def _xyz(values: np.ndarray) -> dict[str, float]:
    return {"x": float(values[0]), "y": float(values[1]), "z": float(values[2])}
