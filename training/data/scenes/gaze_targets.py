"""Gaze targets: turning heads and eyes to other people, to objects, to the camera or past it."""

from __future__ import annotations

import numpy as np

from training.data.scenes.painter import Camera
from training.data.scenes.person.state import (
    PersonState,
    angle_between,
    angles,
    look_at,
    rotation,
    wrap,
    yaw_to_camera,
)
from training.data.scenes.setting.objects import SceneObject

MIN_CAMERA_ANGLE = np.deg2rad(13)  # between the camera and the gaze of a person who does not look at the camera
MIN_AVERTED_EYE_ANGLE = np.deg2rad(18)  # the same if only the eyes show it
MIN_TARGET_SEPARATION = np.deg2rad(15)  # in the image, between a gaze target and every other candidate
PEOPLE_FIRST_RATE = 0.3  # how often people are preferred to objects
MAX_FACE_TURN = np.deg2rad(80)  # of a gaze away from the camera; the face stays visible


def look_away_from_camera(
    rng: np.random.Generator,
    camera: Camera,
    person: PersonState,
    people: list[PersonState],
    objects: list[SceneObject],
    *,
    in_frame: bool,
) -> bool:
    """Turn a person to another person or an object; returns whether there was a suitable target.

    Preference: unambiguous targets, then (in PEOPLE_FIRST_RATE of cases) people, then targets nobody looks at yet.
    `in_frame` requires an unambiguous target inside the image.
    """
    others = [other for other in people if other is not person]
    taken = {other.gaze_target for other in others}
    targets = [(f"person:{other.track_id}", other.head_center) for other in others]
    targets += [(f"object:{item.name}", np.array(item.center)) for item in objects]
    points = np.array([point for _, point in targets]).reshape(-1, 3)
    people_first = rng.random() < PEOPLE_FIRST_RATE
    candidates = [
        (
            not is_unambiguous_target(camera, person, point, np.delete(points, i, axis=0)),
            people_first and not name.startswith("person:"),
            name in taken,
            name,
            point,
        )
        for i in rng.permutation(len(targets))
        for name, point in [targets[i]]
        if is_visible_target(camera, person, point, in_frame=in_frame)
    ]
    for ambiguous, *_, name, point in sorted(candidates, key=lambda candidate: candidate[:3]):
        if ambiguous and in_frame:
            break
        body_yaw = yaw_to_camera(person.shoulders[0], person.shoulders[2])
        target_yaw = wrap(angles(point - person.head_center)[0] - body_yaw)
        person.yaw = body_yaw + float(np.clip(target_yaw * rng.uniform(0.1, 0.7), -1.0, 1.0))
        look_at(person, point, name, float(rng.uniform(0.7, 1.0)), float(rng.normal(0, 0.05)))
        return True
    return False


def is_unambiguous_target(camera: Camera, person: PersonState, point: np.ndarray, others: np.ndarray) -> bool:
    """Whether none of `others` lies in the same image direction from the person's head as `point`.

    `point` (3,) and `others` (N, 3) are camera points. Directions closer than MIN_TARGET_SEPARATION count as the same.
    """
    head, *targets = camera.project(np.stack([person.head_center, point, *others]))
    directions = [complex(*(target - head)) for target in targets]
    return all(abs(np.angle(other / directions[0])) >= MIN_TARGET_SEPARATION for other in directions[1:])


def is_visible_target(camera: Camera, person: PersonState, point: np.ndarray, *, in_frame: bool) -> bool:
    """Whether a gaze at a camera point (3,) can be told from one at the camera and keeps the face visible.

    The point must be 55 px or more from the head and, with `in_frame`, inside the image by 12 px.
    """
    offset = point - person.head_center
    off_camera = angle_between(offset, person.to_lens)
    if (
        not MIN_CAMERA_ANGLE * 1.15 < off_camera < MAX_FACE_TURN
        or np.linalg.norm(offset) < 0.3
        or abs(angles(offset)[1]) > np.deg2rad(52)
    ):
        return False
    target_px, head_px = camera.project(np.stack([point, person.head_center]))
    if np.hypot(*(target_px - head_px)) < 55 or point[2] < 0.3:
        return False
    inside = bool((target_px > 12).all() and target_px[0] < camera.width - 12 and target_px[1] < camera.height - 12)
    return inside or not in_frame


def look_at_or_past_camera(rng: np.random.Generator, person: PersonState, *, camera: bool, far: bool) -> None:
    """Turn the eyes to the camera (`camera`) or past it; the head's distribution is the same in both cases.

    Half of the heads point at the camera (sigma 5 degrees); the others are turned by 10 to 30 degrees (`far`) or 5 to
    15.
    """
    sigma = np.deg2rad(5)
    head_offset = np.array([rng.normal(0, sigma), rng.normal(0, sigma)])
    if rng.random() < 0.5:
        sign = 1 if rng.random() < 0.5 else -1
        head_offset[0] = sign * np.deg2rad(rng.uniform(10, 30) if far else rng.uniform(5, 15))
    lens = angles(person.to_lens)
    person.head_rotation = rotation(*(lens + head_offset), float(rng.normal(0, 0.06)))
    if camera:
        person.gaze_target, person.gaze_point = "camera", np.zeros(3)
        return
    direction = lens
    for _ in range(200):
        gaze_offset = np.deg2rad([rng.uniform(-50, 50), rng.uniform(-26, 26)])
        eye_turn = gaze_offset - head_offset
        averted = np.hypot(gaze_offset[0], 0.5 * gaze_offset[1])  # the lids hide half of a vertical turn
        if averted > MIN_AVERTED_EYE_ANGLE and abs(eye_turn[0]) < np.deg2rad(32) and abs(eye_turn[1]) < np.deg2rad(20):
            direction = lens + gaze_offset
            break
    distance = float(rng.uniform(0.8, 2.0))
    ray = rotation(*direction, 0.0) @ np.array([0, 0, -1.0])
    person.gaze_target, person.gaze_point = "none", person.eye_point + distance * ray
