"""Bundle adjustment: a camera and the poses of the boards it sees, by least squares of distances in the image.

For every lens model, with analytic derivatives. A weak prior keeps distortion coefficients that the views do not
determine near 0: without it the two polynomials of the rational model grow, cancel each other and diverge outside the
area covered by corners. OpenCV's fits have no prior, and its fisheye fit rejects boards beyond 90 degrees.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import least_squares

from calibration.camera.projection import Pose, locate, project
from sf_ros.core.camera import Camera

PRIOR_PX = 0.1  # a coefficient of 1 costs as much as one corner with this error
FOCALS = (0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8)  # of the image's width: initial focal lengths of a fisheye
FAR_PX = 10.0  # corners with larger errors weigh less: a view's initial pose may be wrong
STEPS = 60  # of the optimiser
TINY = 1e-12


def adjust(
    camera: Camera, poses: Sequence[Pose], points_m: Sequence[np.ndarray], pixels: Sequence[np.ndarray]
) -> tuple[Camera, list[Pose]]:
    """The camera and poses of least squares, from initial ones. points_m, pixels: per view (N, 3) and (N, 2)."""
    observed, intrinsics = np.concatenate(pixels), 4 + camera.distortion.size
    prior = PRIOR_PX * np.eye(intrinsics)[4:]

    def errors(parameters: np.ndarray) -> np.ndarray:
        trial, boards = _unpacked(parameters, camera)
        projected = [project(trial, points, pose)[0] for points, pose in zip(points_m, boards, strict=True)]
        return np.concatenate([(np.concatenate(projected) - observed).ravel(), prior @ parameters[:intrinsics]])

    def slopes(parameters: np.ndarray) -> np.ndarray:
        trial, boards = _unpacked(parameters, camera)
        jacobian = np.zeros((observed.size + len(prior), parameters.size))
        jacobian[observed.size :, :intrinsics] = prior
        row = 0
        for index, (points, pose) in enumerate(zip(points_m, boards, strict=True)):
            _, by_camera, by_pose = project(trial, points, pose)
            rows, column = slice(row, row + len(by_pose)), intrinsics + 6 * index
            jacobian[rows, :intrinsics], jacobian[rows, column : column + 6] = by_camera, by_pose
            row += len(by_pose)
        return jacobian

    start = np.concatenate([camera.matrix[[0, 1, 0, 1], [0, 1, 2, 2]], camera.distortion, *map(np.concatenate, poses)])
    best = least_squares(
        errors, start, slopes, x_scale="jac", tr_solver="lsmr", max_nfev=STEPS, loss="soft_l1", f_scale=FAR_PX
    )
    return _unpacked(best.x, camera)


def fisheye_start(
    points_m: Sequence[np.ndarray], pixels: Sequence[np.ndarray], size: tuple[int, int]
) -> tuple[Camera, list[Pose]]:
    """An initial fisheye camera without distortion, with the best of FOCALS, and the boards' poses.

    size: width and height of the images.
    """
    starts = []
    for focal in np.array(FOCALS) * size[0]:
        matrix = (focal, 0, (size[0] - 1) / 2, 0, focal, (size[1] - 1) / 2, 0, 0, 1)
        camera = Camera.from_info(*size, matrix, np.zeros(4), "equidistant", "camera")
        poses = [locate(camera, points, corners) for points, corners in zip(points_m, pixels, strict=True)]
        projected = [project(camera, points, pose)[0] for points, pose in zip(points_m, poses, strict=True)]
        error = np.median(np.linalg.norm(np.concatenate(projected) - np.concatenate(pixels), axis=1))
        starts.append((error, camera, poses))
    return min(starts, key=lambda start: start[0])[1:]


def covariance(
    camera: Camera, points_m: Sequence[np.ndarray], poses: Sequence[Pose], errors: Sequence[np.ndarray]
) -> np.ndarray:
    """Covariance (4 + D, 4 + D) of fx, fy, cx, cy and the distortion, with all poses free.

    Linearised; the errors of corners count as independent and of equal variance. points_m: per view (N, 3); errors: per
    view (N, 2), observed minus projected, px.
    """
    parameters = 4 + camera.distortion.size
    information = np.diag([0.0] * 4 + [PRIOR_PX**2] * camera.distortion.size)
    for points, pose in zip(points_m, poses, strict=True):
        _, by_camera, by_pose = project(camera, points, pose)
        slopes = _without(by_camera, by_pose)
        information += slopes.T @ slopes
    residuals = np.concatenate(errors).ravel()
    freedom = residuals.size - parameters - 6 * len(poses)
    return _inverse(information) * (residuals @ residuals / max(freedom, 1))


def uncertainty_px(camera: Camera, spread: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Standard deviation (N,) of the projection at pixels (N, 2), by the covariance `spread` of the camera.

    Without the part that equals a rotation of the camera, which belongs to its pose.
    """
    rays = camera.rays(pixels)
    _, by_camera, by_pose = project(camera, rays, (np.zeros(3), np.zeros(3)))
    slopes = _without(by_camera, by_pose[:, :3]).reshape(len(pixels), 2, -1)
    return np.sqrt(np.einsum("nip,pq,niq->n", slopes, spread, slopes))


def _inverse(information: np.ndarray) -> np.ndarray:
    """The inverse; undetermined directions get a huge variance (a pseudo-inverse would give them none)."""
    scale = 1 / np.sqrt(np.maximum(np.diag(information), TINY))
    strengths, directions = np.linalg.eigh(scale[:, None] * information * scale)
    return scale[:, None] * (directions / np.maximum(strengths, TINY)) @ directions.T * scale


def _without(slopes: np.ndarray, nuisance: np.ndarray) -> np.ndarray:
    """A Jacobian minus its projection onto nuisance parameters' (square root of the Schur complement)."""
    return slopes - nuisance @ np.linalg.lstsq(nuisance, slopes, rcond=None)[0]


def _unpacked(parameters: np.ndarray, like: Camera) -> tuple[Camera, list[Pose]]:
    """fx, fy, cx, cy, the distortion, then six numbers per view -> camera and poses."""
    fx, fy, cx, cy = parameters[:4]
    intrinsics = 4 + like.distortion.size
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    camera = Camera(like.width, like.height, matrix, parameters[4:intrinsics], like.model, like.frame_id)
    return camera, [(pose[:3], pose[3:]) for pose in parameters[intrinsics:].reshape(-1, 6)]
