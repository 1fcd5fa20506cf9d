"""How sure a calibration is: the fit's covariance, and what it means in pixels all over the picture.

With the linearised uncertainty of least squares: a corner's error is taken as independent and of one size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration.camera.projection import Pose, project
from calibration.extrinsics.bundle_adjustment import PRIOR_PX
from sf_ros.core.camera import Camera

TINY = 1e-12


def covariance(
    camera: Camera, points_m: Sequence[np.ndarray], poses: Sequence[Pose], errors: Sequence[np.ndarray]
) -> np.ndarray:
    """Covariance (4 + D, 4 + D) of fx, fy, cx, cy and the distortion, every view's pose being free as well.

    points_m: per view (N, 3); errors: per view (N, 2), found minus projected, px.
    """
    parameters = 4 + camera.distortion.size
    information = np.diag([0.0] * 4 + [PRIOR_PX**2] * camera.distortion.size)
    for points, pose in zip(points_m, poses, strict=True):
        _, by_camera, by_pose = project(camera, points, pose)
        free = _without(by_camera, by_pose)
        information += free.T @ free
    leftover = np.concatenate(errors).ravel()
    freedom = leftover.size - parameters - 6 * len(poses)
    return _inverse(information) * (leftover @ leftover / max(freedom, 1))


def uncertainty_px(camera: Camera, spread: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Standard deviation (N,) of where the camera sees what it shows at pixels (N, 2), given the camera's covariance.

    A turn of the whole camera is taken out: it belongs to where the camera is, not to what it is.
    """
    rays = camera.rays(pixels)
    _, by_camera, by_pose = project(camera, rays, (np.zeros(3), np.zeros(3)))
    free = _without(by_camera, by_pose[:, :3]).reshape(len(pixels), 2, -1)
    return np.sqrt(np.einsum("nip,pq,niq->n", free, spread, free))


def _inverse(information: np.ndarray) -> np.ndarray:
    """The inverse; what the views say nothing about gets a huge variance (a pseudo-inverse would give it none)."""
    scale = 1 / np.sqrt(np.maximum(np.diag(information), TINY))
    strengths, directions = np.linalg.eigh(scale[:, None] * information * scale)
    return scale[:, None] * (directions / np.maximum(strengths, TINY)) @ directions.T * scale


def _without(slopes: np.ndarray, nuisance: np.ndarray) -> np.ndarray:
    """What is left of a Jacobian when the nuisance parameters may follow (the Schur complement's square root)."""
    return slopes - nuisance @ np.linalg.lstsq(nuisance, slopes, rcond=None)[0]
