"""Projects boards at a pose to pixels, with derivatives, and finds the pose from pixels."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from sf_ros.core.camera import FISHEYE, Camera

Pose = tuple[np.ndarray, np.ndarray]  # rotation vector (3,) and translation (3,) in metres: board -> camera
STEPS = 10  # at most, of Gauss-Newton on a pose
CONVERGED = 1e-7  # largest change of a pose's numbers in the last step
TINY = 1e-12


def project(camera: Camera, points_m: np.ndarray, pose: Pose) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (N, 2) of points (N, 3) at a pose, with derivatives by the camera and by the pose.

    By the camera (2N, 4 + D): fx, fy, cx, cy and D distortion coefficients; by the pose (2N, 6): rotation and
    translation. Rows alternate x and y.
    """
    if camera.model in FISHEYE:
        return _project_fisheye(camera, points_m, pose)
    points = np.asarray(points_m, float)[:, None]
    pixels, slopes = cv2.projectPoints(points, *pose, camera.matrix, camera.distortion)
    end = 10 + camera.distortion.size  # columns: rotation, translation, f, c, distortion
    return pixels.reshape(-1, 2), slopes[:, 6:end], slopes[:, :6]


def _project_fisheye(camera: Camera, points_m: np.ndarray, pose: Pose) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By the angle to the axis. cv2.fisheye divides by z and cannot fit points beyond 90 degrees."""
    rotation, by_rotation = cv2.Rodrigues(pose[0])
    points = points_m @ rotation.T + pose[1]
    across = np.maximum(np.linalg.norm(points[:, :2], axis=1), TINY)
    towards = points[:, :2] / across[:, None]
    angle = np.arctan2(across, points[:, 2])
    powers = angle[:, None] ** np.arange(3, 10, 2)
    radius = angle + powers @ camera.distortion
    slope = 1 + (camera.distortion * np.arange(3, 10, 2) * angle[:, None] ** np.arange(2, 9, 2)).sum(axis=1)
    focal, centre = camera.matrix.diagonal()[:2], camera.matrix[:2, 2]
    flat = towards * radius[:, None]

    by_camera = np.zeros((len(points), 2, 8))
    by_camera[:, [0, 1], [0, 1]] = flat
    by_camera[:, [0, 1], [2, 3]] = 1
    by_camera[:, :, 4:] = (focal * towards)[..., None] * powers[:, None]

    # flat = towards * radius(angle): along `towards` the radius changes, across it the direction.
    distance = across**2 + points[:, 2] ** 2
    by_point = np.zeros((len(points), 2, 3))
    inward = (slope * points[:, 2] / distance)[:, None, None] * towards[:, :, None] * towards[:, None]
    turning = (radius / across)[:, None, None] * (np.eye(2) - towards[:, :, None] * towards[:, None])
    by_point[:, :, :2] = inward + turning
    by_point[:, :, 2] = -(slope * across / distance)[:, None] * towards
    by_point *= focal[:, None]
    turned = np.einsum("kij,nj->nik", by_rotation.reshape(3, 3, 3), points_m)  # R p by the rotation vector
    by_pose = np.concatenate([by_point @ turned, by_point], axis=2)
    return flat * focal + centre, by_camera.reshape(-1, 8), by_pose.reshape(-1, 6)


def locate(camera: Camera, points_m: np.ndarray, pixels: np.ndarray) -> Pose:
    """The pose of a flat board with points (N, 3), z = 0, at pixels (N, 2), by least squares in the image."""
    rays = camera.rays(pixels)
    # Rotate the rays so that the board is straight ahead: a fisheye also sees behind itself.
    ahead = Rotation.align_vectors(np.array([[0.0, 0.0, 1.0]]), rays.mean(axis=0)[None])[0]
    rotated = ahead.apply(rays)
    _, rotation, translation = cv2.solvePnP(
        points_m, rotated[:, :2] / np.maximum(rotated[:, 2:], 0.05), np.eye(3), None, flags=cv2.SOLVEPNP_IPPE
    )
    turn = ahead.inv() * Rotation.from_rotvec(rotation.ravel())
    pose = np.concatenate([turn.as_rotvec(), ahead.inv().apply(translation.ravel())])
    for _ in range(STEPS):
        projected, _, slopes = project(camera, points_m, (pose[:3], pose[3:]))
        step = np.linalg.lstsq(slopes, (pixels - projected).ravel(), rcond=None)[0]
        pose = pose + step
        if np.abs(step).max() < CONVERGED:
            break
    return pose[:3], pose[3:]
