"""Gaze in space: a heatmap, depth and a calibrated camera -> rays and points with their uncertainty.

Everything is in the camera's optical frame (REP 103), in metres and radians. What was not measured is None: without
depth there is a ray to the target, but no point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from sf_ros.core import gaze
from sf_ros.core.camera import Camera
from sf_ros.core.types import Box, Gaze, Gaze3D

LAYER = 0.1  # depths from z to 1.1 z are one surface: 15 cm at 1.5 m
UNKNOWN_ANGLE_VARIANCE = np.pi**2 / 3  # rad^2: variance of a uniform angle
DEPTH_NOISE = 0.01  # of the distance: the smallest standard deviation of a depth
SIGMA_OF_MAD = 1.4826  # standard deviation of a Gaussian over its median absolute deviation
SAMPLED_HEAT = 0.5  # of the peak: fainter heat is mostly the Gaussian of the training target
SAMPLES_PER_CELL = 2  # depths read across a heatmap cell, and down
SAMPLES_PER_BOX = 16  # depths read across a box, and down
BOX_CENTRE = 0.5  # of a box's sides: the part whose depth is read; further out is background
MIN_AHEAD = 0.05  # z of a unit ray: at larger angles depth (which is z) does not locate a point


@dataclass(frozen=True)
class Surface:
    """Depth of a surface along the camera's axis and its standard deviation, in metres."""

    z: float
    sigma: float


@dataclass(frozen=True)
class HeatmapDepthSamples:
    """Samples of a gaze heatmap: pixels (N, 2), depths (N,) in metres or NaN, and shares of the heat (N,)."""

    pixels: np.ndarray
    depths: np.ndarray
    shares: np.ndarray


def direction(gaze_3d: Gaze3D) -> np.ndarray | None:
    """Unit vector (3,) from the head to its target, or to the camera where there is no ray; None where unknown."""
    if gaze_3d.head is None or (gaze_3d.ray is not None and gaze_3d.target is None):
        return None
    offset = (np.zeros(3) if gaze_3d.target is None else gaze_3d.target) - gaze_3d.head
    length = float(np.linalg.norm(offset))
    return offset / length if length > 1e-3 else None


def direction_sigma_rad(gaze_3d: Gaze3D) -> float | None:
    """Standard deviation of `direction`, from the target's covariance; None without a target."""
    unit = direction(gaze_3d)
    if unit is None or gaze_3d.head is None or gaze_3d.target is None or gaze_3d.covariance is None:
        return None
    across = max(float(np.trace(gaze_3d.covariance) - unit @ gaze_3d.covariance @ unit), 0.0)
    return float(np.arctan2(np.sqrt(across / 2), np.linalg.norm(gaze_3d.target - gaze_3d.head)))


def target_pose(gaze_3d: Gaze3D) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """The target (3,), the quaternion (4,) that turns z along the gaze, and the covariance (6, 6) of both.

    None without a target. Without a measured head the rotation's variance is that of a uniform angle.
    """
    if gaze_3d.target is None or gaze_3d.covariance is None:
        return None
    rotation, variance = np.array([0.0, 0, 0, 1]), UNKNOWN_ANGLE_VARIANCE * np.eye(3)
    unit, sigma = direction(gaze_3d), direction_sigma_rad(gaze_3d)
    if unit is not None and sigma is not None:
        rotation, variance = along(unit), sigma**2 * (np.eye(3) - np.outer(unit, unit))
    zeros = np.zeros((3, 3))
    return gaze_3d.target, rotation, np.block([[gaze_3d.covariance, zeros], [zeros, variance]])


def surface(depths: np.ndarray, weights: np.ndarray) -> Surface | None:
    """The surface that holds most of the weight: depths (N,) in metres, some NaN, and weights (N,).

    Its depth is the median within that layer, so an edge gives one side of it and never the space between. None where
    nothing was measured.
    """
    measured = np.isfinite(depths) & (weights > 0)
    if not measured.any():
        return None
    order = np.argsort(depths[measured])
    z, weight = depths[measured][order].astype(float), weights[measured][order].astype(float)
    sums = np.append(0.0, np.cumsum(weight))
    ends = np.searchsorted(z, z * (1 + LAYER), side="right")
    first = int(np.argmax(sums[ends] - sums[:-1]))
    z, weight = z[first : ends[first]], weight[first : ends[first]]
    middle = _median(z, weight)
    away = np.abs(z - middle)
    order = np.argsort(away)
    return Surface(middle, max(SIGMA_OF_MAD * _median(away[order], weight[order]), DEPTH_NOISE * middle))


def heatmap_depth_samples(heatmap: np.ndarray, depth: np.ndarray, size: tuple[int, int]) -> HeatmapDepthSamples:
    """Depths under the strongest heat of a (rows, columns) map, from an aligned depth image (H, W) of any resolution.

    `pixels` are those of an image of `size` (width, height).
    """
    row, column = np.nonzero(heatmap >= SAMPLED_HEAT * heatmap.max())
    steps = (np.arange(SAMPLES_PER_CELL) + 0.5) / SAMPLES_PER_CELL
    down, across = (steps.ravel() for steps in np.meshgrid(steps, steps, indexing="ij"))
    x = ((column[:, None] + across) / heatmap.shape[1]).ravel()
    y = ((row[:, None] + down) / heatmap.shape[0]).ravel()
    heat = np.repeat(heatmap[row, column].astype(float), SAMPLES_PER_CELL**2)
    pixels = np.column_stack([x * size[0], y * size[1]])
    return HeatmapDepthSamples(pixels, _read(depth, x, y), heat / max(float(heat.sum()), 1e-12))


def surface_in(box: Box, depth: np.ndarray, size: tuple[int, int]) -> Surface | None:
    """The surface at the centre of a box (pixels of an image of `size`), from an aligned depth image (H, W) of z."""
    steps = ((np.arange(SAMPLES_PER_BOX) + 0.5) / SAMPLES_PER_BOX - 0.5) * BOX_CENTRE
    (x, y), (across, down) = box.center, np.meshgrid(steps * box.width, steps * box.height)
    depths = _read(depth, (x + across.ravel()) / size[0], (y + down.ravel()) / size[1])
    return surface(depths, np.ones(depths.size))


def spread_px(value: Gaze, size: tuple[int, int]) -> np.ndarray | None:
    """Covariance (2, 2) of a gaze's heat in pixels of an image of `size`; None without a heatmap."""
    spread = _spread_norm(value)
    return None if spread is None else np.asarray(spread * np.outer(size, size))


def deviation_px(value: Gaze, size: tuple[int, int]) -> tuple[float, float]:
    """Standard deviations of a gaze's heat, pixels across and down an image of `size`; zeros without a heatmap."""
    spread = _spread_norm(value)
    if spread is None:
        return 0.0, 0.0
    return size[0] * math.sqrt(spread[0, 0]), size[1] * math.sqrt(spread[1, 1])


def _spread_norm(value: Gaze) -> np.ndarray | None:
    if value.heatmap is None:
        return None
    return gaze.spread(value.heatmap, value.point_norm) if value.spread_norm is None else value.spread_norm


def ray(camera: Camera, pixel: tuple[float, float], spread: np.ndarray) -> tuple[np.ndarray, float]:
    """The unit ray (3,) through a pixel, and its standard deviation in radians from the pixel's covariance (2, 2)."""
    middle, slopes = _slopes(camera.rays(_cross(pixel)))
    return middle, float(np.sqrt(np.trace(slopes @ spread @ slopes.T) / 2))


def point(
    camera: Camera, pixel: tuple[float, float], spread: np.ndarray, at: Surface
) -> tuple[np.ndarray, np.ndarray] | None:
    """The point (3,) where a pixel's ray meets a surface, and its covariance (3, 3).

    First-order propagation: the pixel's covariance (2, 2) acts across the ray, the depth's variance along it. None at
    angles where depth (which is z) does not locate a point, such as a fisheye's edge.
    """
    rays = camera.rays(_cross(pixel))
    if rays[:, 2].min() < MIN_AHEAD:
        return None
    ahead, slopes = _slopes(rays / rays[:, 2:])
    across = at.z * slopes
    return at.z * ahead, across @ spread @ across.T + at.sigma**2 * np.outer(ahead, ahead)


def along(direction: np.ndarray) -> np.ndarray:
    """The quaternion (x, y, z, w) that rotates +z onto a direction (3,) and keeps x level (optical frame)."""
    forward = np.asarray(direction, float) / np.linalg.norm(direction)
    right = np.cross([0.0, 1.0, 0.0], forward)
    if np.linalg.norm(right) < 1e-6:
        right = np.array([1.0, 0.0, 0.0])
    right /= np.linalg.norm(right)
    return quaternion(np.stack([right, np.cross(forward, right), forward], axis=1))


def quaternion(rotation: np.ndarray) -> np.ndarray:
    """Rotation matrix (3, 3) -> quaternion (x, y, z, w). By OpenCV: sf_ros.core does without scipy."""
    vector, _ = cv2.Rodrigues(rotation)
    angle = float(np.linalg.norm(vector))
    axis = vector.reshape(3) / angle if angle > 1e-12 else np.zeros(3)
    return np.append(axis * np.sin(angle / 2), np.cos(angle / 2))


def _cross(pixel: tuple[float, float]) -> np.ndarray:
    """A pixel and the points half a pixel to its right, left, below and above (5, 2)."""
    return np.add(pixel, [(0, 0), (0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)])


def _slopes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values at the points of `_cross` (5, 3) -> the centre's (3,), and their derivatives by x and y pixels (3, 2)."""
    return values[0], np.stack([values[1] - values[2], values[3] - values[4]], axis=1)


def _read(depth: np.ndarray, x_norm: np.ndarray, y_norm: np.ndarray) -> np.ndarray:
    """Depths (N,) at points in 0..1 of width and height; NaN outside the image."""
    row, column = (np.floor(v * n).astype(int) for v, n in zip((y_norm, x_norm), depth.shape, strict=True))
    inside = (row >= 0) & (row < depth.shape[0]) & (column >= 0) & (column < depth.shape[1])
    return np.where(inside, depth[np.where(inside, row, 0), np.where(inside, column, 0)], np.nan)


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    """The weighted median of ascending values (N,)."""
    return float(values[np.searchsorted(np.cumsum(weights), weights.sum() / 2)])
