"""Projections agree with Camera.pixels, derivatives with finite differences, and poses are recovered."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.camera.board.board import Board
from calibration.camera.projection import locate, project
from sf_ros.core.camera import Camera
from tests.calibration.camera.lenses import FISHEYE, LENSES
from tests.calibration.rendering import facing, rotation_vector

POINTS = Board().corners_m
TURNED, PLACED = np.array([0.3, -0.4, 0.2]), np.array([-0.1, -0.05, 0.35])
STEP = 1e-6


@pytest.mark.parametrize("name", LENSES)
def test_projections_agree_with_camera_pixels(name: str) -> None:
    pose = facing(Board(), LENSES[name], np.array([200.0, 300.0]), 0.4, np.array([20.0, -10, 5]))
    pixels, _, _ = project(LENSES[name], POINTS, (rotation_vector(pose), pose.translation_m))
    assert pixels == pytest.approx(LENSES[name].pixels(pose.of(POINTS)), abs=1e-6)


@pytest.mark.parametrize("name", LENSES)
def test_derivatives_agree_with_finite_differences(name: str) -> None:
    camera = LENSES[name]
    _, by_camera, by_pose = project(camera, POINTS, (TURNED, PLACED))
    for column, axis in enumerate(STEP * np.eye(6)):
        ahead, behind = (project(camera, POINTS, (TURNED + s * axis[:3], PLACED + s * axis[3:]))[0] for s in (1, -1))
        assert by_pose[:, column] == pytest.approx((ahead - behind).ravel() / (2 * STEP), abs=1e-3)
    for column in range(4 + camera.distortion.size):
        ahead, behind = (project(changed(camera, column, s * STEP), POINTS, (TURNED, PLACED))[0] for s in (1, -1))
        assert by_camera[:, column] == pytest.approx((ahead - behind).ravel() / (2 * STEP), abs=1e-3)


@pytest.mark.parametrize("name", LENSES)
@pytest.mark.parametrize("pixel", [(320, 240), (120, 100), (560, 400)])
def test_a_boards_pose_is_recovered(name: str, pixel: tuple[float, float]) -> None:
    camera = LENSES[name]
    pose = facing(Board(), camera, np.array(pixel), 0.3, np.array([25.0, -20, 70]))
    rotation, translation = locate(camera, POINTS, camera.pixels(pose.of(POINTS)))
    assert rotation == pytest.approx(rotation_vector(pose), abs=1e-6)
    assert translation == pytest.approx(pose.translation_m, abs=1e-6)


def test_a_fisheyes_boards_pose_is_recovered_beyond_90_degrees() -> None:
    pose = facing(Board(), FISHEYE, np.array([4.0, 236.0]), 0.35, np.array([10.0, 20, 0]))
    assert pose.of(POINTS)[:, 2].min() < 0  # part of it is behind the camera
    rotation, translation = locate(FISHEYE, POINTS, FISHEYE.pixels(pose.of(POINTS)))
    assert rotation == pytest.approx(rotation_vector(pose), abs=1e-6)
    assert translation == pytest.approx(pose.translation_m, abs=1e-6)


def changed(camera: Camera, parameter: int, step: float) -> Camera:
    """A camera with one of fx, fy, cx, cy and its coefficients moved."""
    matrix, distortion = camera.matrix.copy(), camera.distortion.copy()
    if parameter < 4:
        matrix[((0, 0), (1, 1), (0, 2), (1, 2))[parameter]] += step
    else:
        distortion[parameter - 4] += step
    return Camera(camera.width, camera.height, matrix, distortion, camera.model)
