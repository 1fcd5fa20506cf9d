"""What people look at: turning heads and eyes to others, to things and to (or past) the camera."""

from __future__ import annotations

import numpy as np

from training.data.scenes.painter import Camera
from training.data.scenes.person.state import PersonState, angle_between, angles, facing, look_at, rotation, wrap
from training.data.scenes.setting.objects import SceneObject

MIN_AVERSION = np.deg2rad(13)  # between the camera and what somebody looks at who does not look at the camera
EYES_AVERTED = np.deg2rad(18)  # the same where only the eyes tell
MIN_APART = np.deg2rad(15)  # in the picture, between what somebody looks at and all else that could be meant
SOCIABLE = 0.3  # how often people come before things
MAX_FACE_TURN = np.deg2rad(80)  # of a gaze away from the camera, so that a face remains to be seen


def attend_away(
    rng: np.random.Generator,
    camera: Camera,
    person: PersonState,
    people: list[PersonState],
    objects: list[SceneObject],
    *,
    in_frame: bool,
) -> bool:
    """Make a person look at another person or a thing, if one is clearly off the camera and within reach.

    What stands alone comes before what is in line with others, then (now and then) people before things, then what
    nobody looks at yet; `in_frame` asks for a target in the picture that stands alone. Returns whether there was one.
    """
    others = [other for other in people if other is not person]
    taken = {other.gaze_target for other in others}
    targets = [(f"person:{other.track_id}", other.head_center) for other in others]
    targets += [(f"object:{item.name}", np.array(item.center)) for item in objects]
    points = np.array([point for _, point in targets]).reshape(-1, 3)
    sociable = rng.random() < SOCIABLE
    seen = [
        (
            not stands_alone(camera, person, point, np.delete(points, i, axis=0)),
            sociable and not name.startswith("person:"),
            name in taken,
            name,
            point,
        )
        for i in rng.permutation(len(targets))
        for name, point in [targets[i]]
        if visible_target(camera, person, point, in_frame=in_frame)
    ]
    for in_line, *_, name, point in sorted(seen, key=lambda target: target[:3]):
        if in_line and in_frame:
            break
        body = facing(person.shoulders[0], person.shoulders[2])
        goal = wrap(angles(point - person.head_center)[0] - body)
        person.yaw = body + float(np.clip(goal * rng.uniform(0.1, 0.7), -1.0, 1.0))
        look_at(person, point, name, float(rng.uniform(0.7, 1.0)), float(rng.normal(0, 0.05)))
        return True
    return False


def stands_alone(camera: Camera, person: PersonState, point: np.ndarray, others: np.ndarray) -> bool:
    """Whether, as seen from a person's head in the picture, nothing of `others` is in line with a point.

    Camera points (3,) and (N, 3). Nobody could tell which of two things in line somebody looks at.
    """
    head, *spots = camera.project(np.stack([person.head_center, point, *others]))
    ways = [complex(*(spot - head)) for spot in spots]
    return all(abs(np.angle(way / ways[0])) >= MIN_APART for way in ways[1:])


def visible_target(camera: Camera, person: PersonState, point: np.ndarray, *, in_frame: bool) -> bool:
    """Whether a camera point (3,) can be seen to be what the person looks at."""
    way = point - person.head_center
    off = angle_between(way, person.to_lens)
    if (
        not MIN_AVERSION * 1.15 < off < MAX_FACE_TURN
        or np.linalg.norm(way) < 0.3
        or abs(angles(way)[1]) > np.deg2rad(52)
    ):
        return False
    spot, head = camera.project(np.stack([point, person.head_center]))
    if np.hypot(*(spot - head)) < 55 or point[2] < 0.3:
        return False
    inside = bool((spot > 12).all() and spot[0] < camera.width - 12 and spot[1] < camera.height - 12)
    return inside or not in_frame


def attend_camera_or_not(rng: np.random.Generator, person: PersonState, *, camera: bool, far: bool) -> None:
    """Turn the head near the camera, by a law that is the same either way, and the eyes to or past the camera.

    Half of the heads point at the camera; the others are turned 10 to 30 degrees (`far`) or up to 15 away.
    """
    sigma = np.deg2rad(5)
    offset = np.array([rng.normal(0, sigma), rng.normal(0, sigma)])
    if rng.random() < 0.5:
        sign = 1 if rng.random() < 0.5 else -1
        offset[0] = sign * np.deg2rad(rng.uniform(10, 30) if far else rng.uniform(5, 15))
    lens = angles(person.to_lens)
    person.head_rotation = rotation(*(lens + offset), float(rng.normal(0, 0.06)))
    if camera:
        person.gaze_target, person.gaze_point = "camera", np.zeros(3)
        return
    direction = lens
    for _ in range(200):
        aside = np.deg2rad([rng.uniform(-50, 50), rng.uniform(-26, 26)])
        eyes = aside - offset
        off = np.hypot(aside[0], 0.5 * aside[1])  # lids hide half of what the eyes do up and down
        if off > EYES_AVERTED and abs(eyes[0]) < np.deg2rad(32) and abs(eyes[1]) < np.deg2rad(20):
            direction = lens + aside
            break
    distance = float(rng.uniform(0.8, 2.0))
    ray = rotation(*direction, 0.0) @ np.array([0, 0, -1.0])
    person.gaze_target, person.gaze_point = "none", person.eye_point + distance * ray
