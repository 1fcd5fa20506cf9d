"""Who is looked at: the same answer from one place, in the picture or, where depth was measured, in space."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core import gaze
from sf_ros.core.attention import in_space, looked_at, looked_at_in_space, stands
from sf_ros.core.camera import Camera
from sf_ros.core.space import landing
from sf_ros.core.types import Box, FrameCues, Gaze, Label, Person, PersonCues

SIZE = (640, 480)
CAMERA = Camera.from_info(640, 480, (500.0, 0, 320, 0, 500, 240, 0, 0, 1), (), "plumb_bob", "lens")
LOOKER, NEAR, FAR = 1, 2, 3
# The far one's face is inside the near one's face box; what is seen at its middle is far away.
PEOPLE = (
    Person(LOOKER, Box(20, 120, 140, 480), 0.9, Box(50, 130, 110, 210), 0.9),
    Person(NEAR, Box(300, 60, 540, 480), 0.9, Box(340, 80, 460, 240), 0.9),
    Person(FAR, Box(400, 90, 520, 400), 0.9, Box(430, 100, 490, 170), 0.9),
)
AT_FAR = (448.0, 135.0)  # on both faces; nearer to the middle of the near one's larger box


def scene() -> np.ndarray:
    """The looker at 2 m, the near one at 1.2 m (narrower than their box), the far one at 3.5 m, a wall at 6."""
    depth = np.full((480, 640), 6.0, np.float32)
    depth[90:400, 400:520] = 3.5
    depth[120:480, 20:140] = 2.0
    depth[80:240, 340:425] = 1.2
    depth[240:480, 300:540] = 1.2
    return depth


def look(at: tuple[float, float], depth: np.ndarray | None, camera: Camera | None = CAMERA, sigma: float = 1.5):
    heatmap = gaze.encode((at[0] / 640, at[1] / 480), 64, sigma)
    point, confidence = gaze.decode(heatmap)
    seen = looked_at(at, LOOKER, PEOPLE)
    people = (PersonCues(PEOPLE[0], Gaze(point, confidence, heatmap, 0.1, seen)), *map(PersonCues, PEOPLE[1:]))
    cues, spaces = in_space(FrameCues(1.0, 0, *SIZE, people), camera, depth, 0.5)
    return cues.people[0].gaze, spaces.get(LOOKER)


def person(track_id: int, x: float = 0.0) -> Person:
    return Person(track_id, Box(x, 0, x + 50, 100), 0.9, Box(x + 15, 0, x + 35, 20), 0.9)


def test_a_point_in_the_picture_names_the_face_before_the_body_and_never_the_looker() -> None:
    people = [person(1), person(2, x=30), person(3, x=200)]
    assert looked_at((55, 10), 1, people) == 2  # the face of 2
    assert looked_at((55, 10), 2, people) is None  # of the looker itself
    assert looked_at((35, 40), 3, people) == 1  # inside both upper bodies, nearer to the middle of 1
    assert looked_at((225, 90), 1, people) is None  # legs
    assert looked_at((120, 10), 1, people) is None


def test_who_is_behind_in_the_picture_is_told_apart_by_depth() -> None:
    point = (436.0, 120.0)
    people = (*PEOPLE[:2], Person(FAR, PEOPLE[2].body, 0.9))  # the far one's face was not found: the picture takes NEAR
    assert looked_at(point, LOOKER, people) == NEAR
    heat = landing(gaze.encode((point[0] / 640, point[1] / 480), 64, 1.0), scene(), SIZE)
    target, which = looked_at_in_space(heat, LOOKER, stands(people, scene(), SIZE))
    assert target == FAR and (heat.depths[which] == 3.5).all()


def test_where_the_picture_names_the_wrong_one_of_two_faces_depth_names_the_right_one() -> None:
    wide = (442.0, 160.0)
    assert looked_at(wide, LOOKER, PEOPLE) == NEAR
    found, space = look(wide, scene())
    assert found.target_id == FAR and space.target[2] == pytest.approx(3.5)


def test_a_thing_before_a_person_is_not_the_person() -> None:
    depth = scene()
    depth[260:330, 380:450] = 0.6  # held in front of the chest
    assert look((415.0, 295.0), scene())[0].target_id == NEAR
    found, space = look((415.0, 295.0), depth)
    assert found.target_id is None and space.target[2] == pytest.approx(0.6)


def test_the_target_is_on_whom_it_names_also_where_more_heat_falls_behind() -> None:
    depth = scene()
    found, space = look((345.0, 150.0), depth, sigma=3.0)  # at the edge of the near one's face: half on the wall
    assert found.target_id == NEAR and space.target[2] == pytest.approx(1.2)
    assert look((300.0, 150.0), depth, sigma=3.0)[0].target_id is None


def test_without_depth_the_picture_decides_and_there_is_a_ray_alone() -> None:
    for depth in (None, np.full((480, 640), np.nan, np.float32)):
        found, space = look((400.0, 150.0), depth)
        assert found.target_id == NEAR and space.target is None and space.covariance is None and space.head is None
        assert space.ray == pytest.approx(CAMERA.rays(np.array([(405.0, 153.75)]))[0]) and 0.02 < space.ray_rad < 0.05


def test_where_somebody_was_not_measured_the_picture_decides_about_them() -> None:
    depth = scene()
    depth[80:480, 300:540] = np.nan
    depth[80:240, 340:348] = 6.0  # a measurement left and right of the face keeps heat in space
    found, space = look((352.0, 150.0), depth)
    assert found.target_id == NEAR and (space.target is None or space.target[2] == pytest.approx(6.0))


def test_depth_decides_without_a_calibrated_camera_too_but_says_nothing_in_metres() -> None:
    found, space = look((442.0, 160.0), scene(), camera=None)
    assert found.target_id == FAR and space is None


def test_who_looks_at_the_camera_has_a_head_and_no_target() -> None:
    looking = PersonCues(PEOPLE[0], looking_at_me=Label("yes", 0.9))
    _, spaces = in_space(FrameCues(1.0, 0, *SIZE, (looking,)), CAMERA, scene(), 0.5)
    assert spaces[LOOKER].ray is None and spaces[LOOKER].head[2] == pytest.approx(2.0)
    shy = PersonCues(PEOPLE[0], looking_at_me=Label("yes", 0.4))
    assert in_space(FrameCues(1.0, 0, *SIZE, (shy,)), CAMERA, scene(), 0.5)[1] == {}


def test_a_map_without_heat_changes_nothing() -> None:
    empty = Gaze((0.5, 0.5), 0.0, np.zeros((64, 64), np.float32), target_id=NEAR)
    cues = FrameCues(1.0, 0, *SIZE, (PersonCues(PEOPLE[0], empty),))
    after, spaces = in_space(cues, CAMERA, scene(), 0.5)
    assert after.people[0].gaze.target_id == NEAR and spaces[LOOKER].target is None
