"""Gaze heat lies on the ray, goes to the faces it meets, and is faint where the gaze leaves the image."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core import gaze
from sf_ros.core.types import Box
from sf_ros.engines.people.gaze_ray import OPERATING_POINT, SIZE, heatmap

IMAGE = (640, 480)
FACE = Box(300, 200, 340, 250)  # 40 x 50 px in the middle: 2.3 m away


def towards(x: float, y: float, z: float = -0.3) -> np.ndarray:
    direction = np.array([x, y, z])
    return direction / np.linalg.norm(direction)


@pytest.mark.parametrize(("x", "y"), [(1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, -0.7)])
def test_the_heat_is_on_the_side_that_is_looked_at(x: float, y: float) -> None:
    (point_x, point_y), _ = gaze.decode(heatmap(IMAGE, FACE, towards(x, y), []))
    offset = np.array([(point_x - 0.5) * IMAGE[0], (point_y - 225 / 480) * IMAGE[1]])
    assert offset @ (x, y) > 40
    assert offset @ (x, y) > 0.9 * np.linalg.norm(offset) - 10  # along the ray, not beside it


def test_a_face_on_the_ray_draws_the_heat() -> None:
    other = Box(480, 200, 520, 250)
    alone = heatmap(IMAGE, FACE, towards(1, 0), [])
    (x, y), peak = gaze.decode(heatmap(IMAGE, FACE, towards(1, 0), [other]))
    assert abs(x * IMAGE[0] - 500) < 25 and abs(y * IMAGE[1] - 225) < 25
    assert peak > alone.max()


def test_a_face_beside_the_ray_draws_none() -> None:
    behind = Box(100, 200, 140, 250)
    np.testing.assert_allclose(
        heatmap(IMAGE, FACE, towards(1, 0), [behind]), heatmap(IMAGE, FACE, towards(1, 0), []), atol=0.01
    )


def test_a_gaze_out_of_the_image_is_faint() -> None:
    face = Box(590, 200, 630, 250)  # at the right edge, looking right
    outside = heatmap(IMAGE, face, towards(1, 0), [])
    assert outside.max() < 0.5 * heatmap(IMAGE, face, towards(-1, 0), []).max()


def test_directions_are_relative_to_the_line_to_the_lens() -> None:
    left, right = Box(40, 200, 80, 250), Box(560, 200, 600, 250)
    mirrored = heatmap(IMAGE, right, towards(-0.8, 0.1), [])
    np.testing.assert_allclose(heatmap(IMAGE, left, towards(0.8, 0.1), [])[:, ::-1], mirrored, atol=0.05)


def test_a_heatmap_is_finite_and_in_range() -> None:
    for direction in (towards(0, 0, -1), towards(0, 0, 1), towards(0, 1, 0), towards(0, -1, 0)):
        for face in (FACE, Box(0, 0, 1, 1), Box(-50, -50, 700, 500)):
            heat = heatmap(IMAGE, face, direction, [FACE, Box(0, 0, 0, 0)])
            assert heat.shape == (SIZE, SIZE) and heat.dtype == np.float32
            assert np.isfinite(heat).all() and heat.min() >= 0 and heat.max() <= 1
    assert 0 < OPERATING_POINT < heatmap(IMAGE, FACE, towards(1, 0), []).max()
