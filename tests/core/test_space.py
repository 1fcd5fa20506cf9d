"""Points in space follow from depth and ray, with the uncertainty of both; what was not measured is None."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core import gaze, space
from sf_ros.core.camera import Camera
from sf_ros.core.types import Box, Gaze, Gaze3D

SIZE = (640, 480)
CAMERA = Camera.from_info(640, 480, (500.0, 0, 320, 0, 500, 240, 0, 0, 1), (), "plumb_bob", "lens")
BENT = Camera.from_info(
    640, 480, (525.0, 0, 319.5, 0, 520, 239.5, 0, 0, 1), (-0.35, 0.14, 0, 0, 0), "plumb_bob", "lens"
)
FISHEYE = Camera.from_info(640, 480, (200.0, 0, 320, 0, 200, 240, 0, 0, 1), (0.0,) * 4, "equidistant", "lens")
ROUND = np.diag([100.0, 100.0])  # 10 pixels to each side


def test_a_round_spread_at_the_centre_by_hand() -> None:
    located = space.point(CAMERA, (320, 240), ROUND, space.Surface(2.0, 0.1))
    assert located is not None
    position, covariance = located
    assert position == pytest.approx([0, 0, 2])
    assert covariance == pytest.approx(np.diag([0.04**2, 0.04**2, 0.1**2]))  # 10 px * 2 m / 500 px
    ahead, sigma = space.ray(CAMERA, (320, 240), ROUND)
    assert ahead == pytest.approx([0, 0, 1]) and sigma == pytest.approx(10 / 500, rel=1e-5)


def test_off_axis_depth_noise_moves_a_point_sideways() -> None:
    position, covariance = space.point(CAMERA, (320 + 250, 240), ROUND, space.Surface(2.0, 0.1))
    assert position == pytest.approx([1, 0, 2])
    assert covariance[0, 0] == pytest.approx(0.04**2 + 0.05**2)  # x / z is 0.5
    assert covariance[0, 2] == pytest.approx(0.05 * 0.1) and covariance[2, 2] == pytest.approx(0.01)


@pytest.mark.parametrize("camera", [CAMERA, BENT, FISHEYE], ids=["pinhole", "bent", "fisheye"])
def test_covariance_matches_samples_and_points_project_back(camera: Camera) -> None:
    pixel, at = (150.0, 330.0), space.Surface(1.5, 0.03)
    spread = np.array([[9.0, 3.0], [3.0, 16.0]])
    position, covariance = space.point(camera, pixel, spread, at)
    assert position[2] == pytest.approx(1.5)
    assert camera.pixels(position[None])[0] == pytest.approx(pixel, abs=1e-3)
    rng = np.random.default_rng(0)
    rays = camera.rays(rng.multivariate_normal(pixel, spread, 20000))
    points = rays / rays[:, 2:] * rng.normal(at.z, at.sigma, (20000, 1))
    assert covariance == pytest.approx(np.cov(points.T), rel=0.05, abs=2e-6)
    _, sigma = space.ray(camera, pixel, spread)
    assert sigma == pytest.approx(np.sqrt(np.trace(np.cov(rays.T)) / 2), rel=0.02)


def test_depth_gives_no_point_at_a_fisheyes_edge() -> None:
    edge = (320.0 + 200 * np.radians(89), 240.0)
    assert space.point(FISHEYE, edge, ROUND, space.Surface(2.0, 0.1)) is None
    assert space.ray(FISHEYE, edge, ROUND)[0][0] == pytest.approx(1, abs=1e-3)


def test_the_layer_with_more_heat_wins_never_the_space_between() -> None:
    rng = np.random.default_rng(1)
    depths = np.concatenate([rng.normal(1.5, 0.02, 400), rng.normal(4.0, 0.02, 600)])
    near, far = np.repeat([2.0, 1.0], [400, 600]), np.ones(1000)
    surface = space.surface(depths, near)
    assert surface is not None and surface.z == pytest.approx(1.5, abs=0.01)
    assert surface.sigma == pytest.approx(0.02, rel=0.15)
    behind = space.surface(depths, far)
    assert behind is not None and behind.z == pytest.approx(4.0, abs=0.01)
    assert behind.sigma == pytest.approx(space.DEPTH_NOISE * behind.z)  # never surer than a depth camera is


def test_missing_and_outlying_depths_are_ignored() -> None:
    depths = np.array([np.nan, 2.0, 2.0, 2.1, 2.1, 2.1, 9.0, np.nan])
    surface = space.surface(depths, np.ones(8))
    assert surface is not None and surface.z == pytest.approx(2.1)
    assert space.surface(np.full(5, np.nan), np.ones(5)) is None
    assert space.surface(np.ones(5), np.zeros(5)) is None
    assert space.surface(np.zeros(0), np.zeros(0)) is None


@pytest.mark.parametrize("shape", [(480, 640), (240, 320), (60, 80)])
def test_depth_of_any_resolution_is_sampled(shape: tuple[int, int]) -> None:
    depth = np.full(shape, 3.0, np.float32)
    depth[:, : shape[1] // 2] = 1.0  # the left half is near
    heat = space.heatmap_depth_samples(gaze.encode((0.5, 0.5), 64, 3.0), depth, SIZE)
    assert heat.shares.sum() == pytest.approx(1)
    assert (np.abs(heat.pixels - [325, 243.75]) < [41, 31]).all()  # half of the peak is 3.5 cells of 10 x 7.5 px away
    assert set(np.unique(heat.depths)) == {1.0, 3.0}
    assert ((heat.depths == 1.0) == (heat.pixels[:, 0] < 320)).all()


def test_a_box_has_the_surface_of_its_centre() -> None:
    depth = np.full((480, 640), 5.0, np.float32)
    depth[120:180, 110:190] = 1.2
    surface = space.surface_in(Box(100, 100, 200, 200), depth, SIZE)
    assert surface is not None and surface.z == pytest.approx(1.2)
    assert space.surface_in(Box(700, 100, 800, 200), depth, SIZE) is None


def test_a_heatmaps_spread_in_pixels() -> None:
    heatmap = gaze.encode((0.5, 0.5), 64, 3.0)
    spread = space.spread_px(Gaze(gaze.decode(heatmap)[0], 1.0, heatmap), SIZE)
    assert np.sqrt(np.diag(spread)) == pytest.approx([30, 22.5], rel=0.03)  # 3 cells of 10 x 7.5 px
    assert abs(spread[0, 1]) < 1
    assert space.spread_px(Gaze((0.5, 0.5), 1.0), SIZE) is None
    precomputed = Gaze((0.5, 0.5), 1.0, heatmap, spread_norm=np.diag([0.01, 0.04]))
    assert space.spread_px(precomputed, SIZE) == pytest.approx(np.diag([0.01 * SIZE[0] ** 2, 0.04 * SIZE[1] ** 2]))


def test_direction_uncertainty_is_the_targets_across_it() -> None:
    covariance = np.diag([0.2**2, 0.1**2, 0.1**2])  # 0.2 m along the direction, which does not turn it
    gaze_3d = Gaze3D(np.array([0, 0, 1.0]), 0.02, np.array([-1.0, 0, 2]), np.array([1.0, 0, 2]), covariance)
    assert space.direction(gaze_3d) == pytest.approx([1, 0, 0])
    assert space.direction_sigma_rad(gaze_3d) == pytest.approx(np.arctan(0.1 / 2))
    position, rotation, covariance_6 = space.target_pose(gaze_3d)
    assert position == pytest.approx([1, 0, 2]) and rotate(rotation, np.array([0.0, 0, 1])) == pytest.approx([1, 0, 0])
    assert covariance_6[:3, :3] == pytest.approx(covariance) and not covariance_6[:3, 3:].any()
    assert covariance_6[3:, 3:] == pytest.approx(space.direction_sigma_rad(gaze_3d) ** 2 * np.diag([0, 1, 1]))


def test_no_head_no_direction_and_no_target_no_pose() -> None:
    ahead = np.array([0, 0, 1.0])
    headless = Gaze3D(ahead, 0.02, None, 2 * ahead, np.eye(3))
    assert space.direction(headless) is None and space.direction_sigma_rad(headless) is None
    assert np.diag(space.target_pose(headless)[2])[3:] == pytest.approx([space.UNKNOWN_ANGLE_VARIANCE] * 3)
    assert space.target_pose(Gaze3D(ahead, 0.02, 2 * ahead)) is None
    assert space.direction(Gaze3D(ahead, 0.02, 2 * ahead)) is None
    at_camera = Gaze3D(None, head=2 * ahead)
    assert space.direction(at_camera) == pytest.approx([0, 0, -1]) and space.direction_sigma_rad(at_camera) is None


def test_along_turns_z_with_x_level() -> None:
    for direction in ((0, 0, 1), (1, 0.2, 0.5), (-0.3, -0.9, -0.2), (0, 1, 0)):
        x, y, z, w = space.along(np.array(direction, float))
        rotated = rotate((x, y, z, w), np.array([0.0, 0.0, 1.0]))
        assert rotated == pytest.approx(np.array(direction) / np.linalg.norm(direction), abs=1e-9)
        assert rotate((x, y, z, w), np.array([1.0, 0.0, 0.0]))[1] == pytest.approx(0, abs=1e-9)


def test_a_quaternion_rotates_as_its_matrix() -> None:
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # x to y
    assert rotate(tuple(space.quaternion(turn)), np.array([1.0, 0, 0])) == pytest.approx([0, 1, 0])
    assert space.quaternion(np.eye(3)) == pytest.approx([0, 0, 0, 1])


def rotate(quaternion_xyzw: tuple[float, float, float, float], vector: np.ndarray) -> np.ndarray:
    x, y, z, w = quaternion_xyzw
    axis = np.array([x, y, z])
    return vector + 2 * np.cross(axis, np.cross(axis, vector) + w * vector)
