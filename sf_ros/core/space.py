"""Gaze in space: a heatmap, depth and a calibrated camera -> points, rays and how far they can be trusted.

Everything is in the camera's optical frame (REP 103), in metres and radians. Nothing is faked: without depth there is a
ray to what somebody looks at, but no point; what was not measured is None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from sf_ros.core import gaze
from sf_ros.core.camera import Camera
from sf_ros.core.types import Box, Gaze

LAYER = 0.1  # depths from z to 1.1 z are one surface: 15 cm at 1.5 m
ANY_TURN = np.pi**2 / 3  # variance, rad^2, of an angle of which nothing is known
DEPTH_NOISE = 0.01  # of the distance: no depth camera is surer than that
SIGMA_OF_MAD = 1.4826  # a Gaussian's standard deviation by its median absolute deviation
LANDING_HEAT = 0.5  # of the peak: fainter heat is mostly the Gaussian that a map is trained on
PER_CELL = 2  # depths read across a cell of the heatmap, and down
PER_BOX = 16  # depths read across a box, and down
INNER = 0.5  # of a box's sides: further out there is background
MIN_AHEAD = 0.05  # z of a unit ray: further aside, depth (which is z) tells nothing


@dataclass(frozen=True)
class Surface:
    """Where a surface is along the camera's axis, and the standard deviation of its depth; metres."""

    z: float
    sigma: float


@dataclass(frozen=True)
class HeatmapDepthSamples:
    """What a gaze's heat falls on: pixels (N, 2), their depths (N,) in metres or NaN, and shares of the heat (N,)."""

    pixels: np.ndarray
    depths: np.ndarray
    shares: np.ndarray


@dataclass(frozen=True)
class Gaze3D:
    """Where somebody looks, metres in the camera's optical frame; None where it was not measured."""

    ray: np.ndarray | None  # (3,) unit vector from the camera to the target; None: at the camera
    ray_rad: float | None = None  # standard deviation of its direction, to each side
    head: np.ndarray | None = None  # (3,)
    target: np.ndarray | None = None  # (3,)
    covariance: np.ndarray | None = None  # (3, 3) of the target, square metres

    @property
    def direction(self) -> np.ndarray | None:
        """Unit vector (3,) from the head to what it looks at, which is the camera where there is no ray."""
        if self.head is None or (self.ray is not None and self.target is None):
            return None
        way = (np.zeros(3) if self.target is None else self.target) - self.head
        length = float(np.linalg.norm(way))
        return way / length if length > 1e-3 else None

    @property
    def direction_rad(self) -> float | None:
        """Standard deviation of `direction` to each side, by the target's covariance; None without a target."""
        way = self.direction
        if way is None or self.head is None or self.target is None or self.covariance is None:
            return None
        across = max(float(np.trace(self.covariance) - way @ self.covariance @ way), 0.0)
        return float(np.arctan2(np.sqrt(across / 2), np.linalg.norm(self.target - self.head)))

    @property
    def pose(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """The target (3,), a quaternion (4,) that turns z along the gaze, and the covariance (6, 6) of place and turn.

        None without a target. Where the head was not measured, nothing is known of the turn.
        """
        if self.target is None or self.covariance is None:
            return None
        turn, turns, way, sigma = np.array([0.0, 0, 0, 1]), ANY_TURN * np.eye(3), self.direction, self.direction_rad
        if way is not None and sigma is not None:
            turn, turns = along(way), sigma**2 * (np.eye(3) - np.outer(way, way))
        nothing = np.zeros((3, 3))
        return self.target, turn, np.block([[self.covariance, nothing], [nothing, turns]])


def surface(depths: np.ndarray, weights: np.ndarray) -> Surface | None:
    """The surface that most of the weight lies on: depths (N,) in metres, some of them NaN, and weights (N,).

    Its depth is the median of that layer alone, so that of an edge the one side or the other is taken and never the air
    between them. None where nothing was measured.
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


def landing(heatmap: np.ndarray, depth: np.ndarray, size: tuple[int, int]) -> HeatmapDepthSamples:
    """The heat of a (rows, columns) map upon an aligned depth image (H, W) of z, of any resolution.

    Pixels are those of a picture of `size` (width, height).
    """
    row, column = np.nonzero(heatmap >= LANDING_HEAT * heatmap.max())
    steps = (np.arange(PER_CELL) + 0.5) / PER_CELL
    down, across = (steps.ravel() for steps in np.meshgrid(steps, steps, indexing="ij"))
    x = ((column[:, None] + across) / heatmap.shape[1]).ravel()
    y = ((row[:, None] + down) / heatmap.shape[0]).ravel()
    heat = np.repeat(heatmap[row, column].astype(float), PER_CELL**2)
    pixels = np.column_stack([x * size[0], y * size[1]])
    return HeatmapDepthSamples(pixels, _read(depth, x, y), heat / max(float(heat.sum()), 1e-12))


def surface_in(box: Box, depth: np.ndarray, size: tuple[int, int]) -> Surface | None:
    """The surface in the middle of a box (pixels of a picture of `size`), by an aligned depth image (H, W) of z."""
    steps = ((np.arange(PER_BOX) + 0.5) / PER_BOX - 0.5) * INNER
    (x, y), (across, down) = box.center, np.meshgrid(steps * box.width, steps * box.height)
    depths = _read(depth, (x + across.ravel()) / size[0], (y + down.ravel()) / size[1])
    return surface(depths, np.ones(depths.size))


def spread_px(found: Gaze, size: tuple[int, int]) -> np.ndarray | None:
    """How far a gaze's heat spreads: a covariance (2, 2) in pixels of a picture of `size`; None without a heatmap."""
    spread = _spread_norm(found)
    return None if spread is None else np.asarray(spread * np.outer(size, size))


def deviation_px(found: Gaze, size: tuple[int, int]) -> tuple[float, float]:
    """The standard deviations of a gaze's heat, pixels across and down a picture of `size`; zeros without a heatmap."""
    spread = _spread_norm(found)
    if spread is None:
        return 0.0, 0.0
    return size[0] * math.sqrt(spread[0, 0]), size[1] * math.sqrt(spread[1, 1])


def _spread_norm(found: Gaze) -> np.ndarray | None:
    if found.heatmap is None:
        return None
    return gaze.spread(found.heatmap, found.point_norm) if found.spread_norm is None else found.spread_norm


def ray(camera: Camera, pixel: tuple[float, float], spread: np.ndarray) -> tuple[np.ndarray, float]:
    """The unit ray (3,) of a pixel, and its standard deviation to each side in radians, by the pixel's (2, 2)."""
    middle, slopes = _slopes(camera.rays(_cross(pixel)))
    return middle, float(np.sqrt(np.trace(slopes @ spread @ slopes.T) / 2))


def point(
    camera: Camera, pixel: tuple[float, float], spread: np.ndarray, at: Surface
) -> tuple[np.ndarray, np.ndarray] | None:
    """The point (3,) of a surface that a pixel with a covariance (2, 2) sees, and the point's covariance (3, 3).

    To first order: across the ray by the pixel's spread at that depth, along it by the depth's. None where the ray goes
    so far aside (a fisheye's edge) that depth, which is z, tells nothing.
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
    """A pixel and those half a pixel to its right, left, below and above (5, 2)."""
    return np.add(pixel, [(0, 0), (0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)])


def _slopes(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is seen at the pixels of `_cross` (5, 3) -> the middle one (3,), and change a pixel by x and y (3, 2)."""
    return seen[0], np.stack([seen[1] - seen[2], seen[3] - seen[4]], axis=1)


def _read(depth: np.ndarray, x_norm: np.ndarray, y_norm: np.ndarray) -> np.ndarray:
    """Depths (N,) at places in 0..1 of width and height; NaN outside the picture."""
    row, column = (np.floor(v * n).astype(int) for v, n in zip((y_norm, x_norm), depth.shape, strict=True))
    inside = (row >= 0) & (row < depth.shape[0]) & (column >= 0) & (column < depth.shape[1])
    return np.where(inside, depth[np.where(inside, row, 0), np.where(inside, column, 0)], np.nan)


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    """The weighted median of ascending values (N,)."""
    return float(values[np.searchsorted(np.cumsum(weights), weights.sum() / 2)])
