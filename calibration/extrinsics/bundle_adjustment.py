"""Bundle adjustment: a camera and the boards' poses with the least squares of the distances in the picture.

For every model, with derivatives in closed form. Distortion coefficients are held by a weak prior, so that those which
the views say nothing about stay near 0: the two polynomials of the rational model would grow and cancel each other, and
run away outside of what was seen. OpenCV's fits have none, and its fisheye fit takes no board beyond 90 degrees.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import least_squares

from calibration.camera.projection import Pose, locate, project
from sf_ros.core.camera import Camera

PRIOR_PX = 0.1  # a coefficient of 1 weighs as much as one corner that is off by so much
FOCALS = (0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8)  # of the picture's width: where the fit of a fisheye may start
FAR_PX = 10.0  # a corner that is further off than this pulls less: a view's first pose may be wrong
STEPS = 60  # of the optimiser


def adjust(
    camera: Camera, poses: Sequence[Pose], points_m: Sequence[np.ndarray], pixels: Sequence[np.ndarray]
) -> tuple[Camera, list[Pose]]:
    """The camera and the poses, from a start. points_m, pixels: per view (N, 3) and (N, 2)."""
    found, inner = np.concatenate(pixels), 4 + camera.distortion.size
    prior = PRIOR_PX * np.eye(inner)[4:]

    def errors(parameters: np.ndarray) -> np.ndarray:
        at, boards = _unpacked(parameters, camera)
        seen = [project(at, points, pose)[0] for points, pose in zip(points_m, boards, strict=True)]
        return np.concatenate([(np.concatenate(seen) - found).ravel(), prior @ parameters[:inner]])

    def slopes(parameters: np.ndarray) -> np.ndarray:
        at, boards = _unpacked(parameters, camera)
        jacobian = np.zeros((found.size + len(prior), parameters.size))
        jacobian[found.size :, :inner] = prior
        row = 0
        for index, (points, pose) in enumerate(zip(points_m, boards, strict=True)):
            _, by_camera, by_pose = project(at, points, pose)
            rows, column = slice(row, row + len(by_pose)), inner + 6 * index
            jacobian[rows, :inner], jacobian[rows, column : column + 6] = by_camera, by_pose
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
    """A fisheye without distortion, of the focal length that explains the views best, and the boards where it sees
    them. size: width and height of the pictures."""
    starts = []
    for focal in np.array(FOCALS) * size[0]:
        matrix = (focal, 0, (size[0] - 1) / 2, 0, focal, (size[1] - 1) / 2, 0, 0, 1)
        camera = Camera.from_info(*size, matrix, np.zeros(4), "equidistant", "camera")
        poses = [locate(camera, points, found) for points, found in zip(points_m, pixels, strict=True)]
        seen = [project(camera, points, pose)[0] for points, pose in zip(points_m, poses, strict=True)]
        error = np.median(np.linalg.norm(np.concatenate(seen) - np.concatenate(pixels), axis=1))
        starts.append((error, camera, poses))
    return min(starts, key=lambda start: start[0])[1:]


def _unpacked(parameters: np.ndarray, like: Camera) -> tuple[Camera, list[Pose]]:
    """fx, fy, cx, cy, the distortion, then six numbers a view -> camera and poses."""
    fx, fy, cx, cy = parameters[:4]
    inner = 4 + like.distortion.size
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    camera = Camera(like.width, like.height, matrix, parameters[4:inner], like.model, like.frame_id)
    return camera, [(pose[:3], pose[3:]) for pose in parameters[inner:].reshape(-1, 6)]
