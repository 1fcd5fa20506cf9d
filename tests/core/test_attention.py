"""Who is looked at, in the image or, where depth was measured, in space."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core import gaze
from sf_ros.core.attention import looked_at, looked_at_in_space, person_geometry, resolve_gaze
from sf_ros.core.camera import Camera
from sf_ros.core.space import heatmap_depth_samples
from sf_ros.core.types import Box, Gaze, Gaze3D, Label, Person, PersonCues

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


def resolve(
    at: tuple[float, float], depth: np.ndarray | None, camera: Camera | None = CAMERA, sigma: float = 1.5
) -> tuple[Gaze, Gaze3D | None]:
    """The looker's gaze, in the image and in space, for a heatmap around a point in pixels."""
    heatmap = gaze.encode((at[0] / 640, at[1] / 480), 64, sigma)
    point, confidence = gaze.decode(heatmap)
    people = (PersonCues(PEOPLE[0], {"gaze": Gaze(point, confidence, heatmap, 0.1)}), *map(PersonCues, PEOPLE[1:]))
    looker = resolve_gaze(people, SIZE, camera, depth, 0.5)[0]
    assert looker.gaze is not None
    return looker.gaze, looker.gaze_3d


def person(track_id: int, x: float = 0.0) -> Person:
    return Person(track_id, Box(x, 0, x + 50, 100), 0.9, Box(x + 15, 0, x + 35, 20), 0.9)


def test_faces_come_before_bodies_and_never_the_looker() -> None:
    people = [person(1), person(2, x=30), person(3, x=200)]
    assert looked_at((55, 10), 1, people) == 2  # the face of 2
    assert looked_at((55, 10), 2, people) is None  # of the looker itself
    assert looked_at((35, 40), 3, people) == 1  # inside both upper bodies, nearer to the middle of 1
    assert looked_at((225, 90), 1, people) is None  # legs
    assert looked_at((120, 10), 1, people) is None


def test_depth_separates_people_who_overlap_in_the_image() -> None:
    point = (436.0, 120.0)
    people = (*PEOPLE[:2], Person(FAR, PEOPLE[2].body, 0.9))  # without the far face, the image decides on NEAR
    assert looked_at(point, LOOKER, people) == NEAR
    heat = heatmap_depth_samples(gaze.encode((point[0] / 640, point[1] / 480), 64, 1.0), scene(), SIZE)
    target, which = looked_at_in_space(heat, LOOKER, person_geometry(people, scene(), SIZE))
    assert target == FAR and (heat.depths[which] == 3.5).all()


def test_depth_corrects_the_choice_between_two_faces() -> None:
    wide = (442.0, 160.0)
    assert looked_at(wide, LOOKER, PEOPLE) == NEAR
    result, space = resolve(wide, scene())
    assert result.target_id == FAR and space.target[2] == pytest.approx(3.5)


def test_an_object_in_front_of_a_person_is_not_the_person() -> None:
    depth = scene()
    depth[260:330, 380:450] = 0.6  # held in front of the chest
    assert resolve((415.0, 295.0), scene())[0].target_id == NEAR
    result, space = resolve((415.0, 295.0), depth)
    assert result.target_id is None and space.target[2] == pytest.approx(0.6)


def test_the_target_lies_on_the_person_even_with_more_heat_behind() -> None:
    depth = scene()
    result, space = resolve((345.0, 150.0), depth, sigma=3.0)  # at the edge of the near one's face: half on the wall
    assert result.target_id == NEAR and space.target[2] == pytest.approx(1.2)
    assert resolve((300.0, 150.0), depth, sigma=3.0)[0].target_id is None


def test_without_depth_the_image_decides_and_only_a_ray_is_known() -> None:
    for depth in (None, np.full((480, 640), np.nan, np.float32)):
        result, space = resolve((400.0, 150.0), depth)
        assert result.target_id == NEAR and space.target is None and space.covariance is None and space.head is None
        assert (
            space.ray == pytest.approx(CAMERA.rays(np.array([(405.0, 153.75)]))[0])
            and 0.02 < space.ray_sigma_rad < 0.05
        )


def test_the_image_decides_about_people_without_depth() -> None:
    depth = scene()
    depth[80:480, 300:540] = np.nan
    depth[80:240, 340:348] = 6.0  # a measurement left and right of the face keeps heat in space
    result, space = resolve((352.0, 150.0), depth)
    assert result.target_id == NEAR and (space.target is None or space.target[2] == pytest.approx(6.0))


def test_depth_decides_without_a_calibrated_camera() -> None:
    result, space = resolve((442.0, 160.0), scene(), camera=None)
    assert result.target_id == FAR and space is None


def test_people_looking_at_the_camera_have_no_target() -> None:
    looking = PersonCues(PEOPLE[0], {"looking_at_me": Label("yes", 0.9)})
    (cues,) = resolve_gaze((looking,), SIZE, CAMERA, scene(), 0.5)
    assert cues.gaze_3d is not None and cues.gaze_3d.ray is None and cues.gaze_3d.head[2] == pytest.approx(2.0)
    unsure = PersonCues(PEOPLE[0], {"looking_at_me": Label("yes", 0.4)})
    assert resolve_gaze((unsure,), SIZE, CAMERA, scene(), 0.5)[0].gaze_3d is None


def test_an_empty_heatmap_leaves_the_image_target() -> None:
    empty = Gaze((400 / 640, 150 / 480), 0.0, np.zeros((64, 64), np.float32))
    people = (PersonCues(PEOPLE[0], {"gaze": empty}), PersonCues(PEOPLE[1]))
    cues = resolve_gaze(people, SIZE, CAMERA, scene(), 0.5)[0]
    assert cues.gaze.target_id == NEAR and cues.gaze_3d.target is None
