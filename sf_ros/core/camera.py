"""Cameras: pixels <-> rays in the camera's optical frame (x right, y down, z forward; REP 103)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

# Of undistorting, in pixels. OpenCV's default of 5 steps is off by 0.2 to 2 px at the edge of usual lenses; with 40, a
# strongly distorted edge is still off by 0.006 px.
UNDISTORT_UNTIL = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 100, 1e-12)
FISHEYE_STEPS = 12  # Newton's steps from a fisheye's radius to its angle
FISHEYE = ("equidistant",)
# Numbers of coefficients that OpenCV knows; what is left out is 0. Drivers write 8 for plumb_bob too.
LENGTHS = {"plumb_bob": (5, 8, 12, 14), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
COEFFICIENTS = {model: lengths[0] for model, lengths in LENGTHS.items()}  # of each model, as ROS writes them


class CalibrationError(ValueError):
    """A camera_info that no geometry can rest on: says why."""


@dataclass(frozen=True)
class Camera:
    """Intrinsics K and distortion D of sensor_msgs/CameraInfo, for images of width x height pixels."""

    width: int
    height: int
    matrix: np.ndarray  # (3, 3) float64
    distortion: np.ndarray  # (n,) float64 of `model`; empty: none
    model: str = "plumb_bob"  # plumb_bob | rational_polynomial | equidistant (fisheye)
    frame_id: str = "camera"

    @staticmethod
    def from_info(
        width: int,
        height: int,
        k: Sequence[float] | np.ndarray,
        d: Sequence[float] | np.ndarray,
        model: str,
        frame_id: str,
    ) -> Camera:
        """From the fields of a CameraInfo. CalibrationError for an uncalibrated camera (K[0] is 0) or unknown model."""
        matrix = np.asarray(k, float)
        if matrix.size != 9 or not np.isfinite(matrix).all() or matrix[0] <= 0 or matrix[4] <= 0:
            raise CalibrationError("camera_info has no calibration: K holds no focal length.")
        if width < 1 or height < 1:
            raise CalibrationError(f"camera_info is of an image of {width}x{height}.")
        distortion = np.asarray(d, float)
        # A fisheye's coefficients count even where all are 0; a rectified image has none, and is a pinhole's.
        if not np.any(distortion) and not (model in FISHEYE and distortion.size):
            distortion, model = np.zeros(0), "plumb_bob"
        elif model not in LENGTHS:
            raise CalibrationError(f"Distortion model '{model}'; expected one of {', '.join(LENGTHS)}.")
        else:
            given = np.trim_zeros(distortion, "b")
            if given.size > LENGTHS[model][-1]:
                raise CalibrationError(f"{given.size} coefficients; '{model}' has {LENGTHS[model][-1]} at most.")
            length = min(length for length in LENGTHS[model] if length >= given.size)
            distortion = np.append(given, np.zeros(length - given.size))
        return Camera(int(width), int(height), matrix.reshape(3, 3), distortion, model, frame_id)

    def scaled(self, width: int, height: int) -> Camera:
        """The same camera for images that were resized to another resolution."""
        if (width, height) == (self.width, self.height):
            return self
        scale = np.diag([width / self.width, height / self.height, 1.0])
        return Camera(width, height, scale @ self.matrix, self.distortion, self.model, self.frame_id)

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (N, 2) -> unit vectors (N, 3) that point to what is seen there; distortion is undone."""
        points = np.asarray(pixels, float).reshape(-1, 1, 2)
        if self.model in FISHEYE:
            return self._fisheye_rays(points.reshape(-1, 2))
        flat = _undistort(points, self.matrix, self.distortion).reshape(-1, 2)
        ahead = np.column_stack([flat, np.ones(len(flat))])
        return np.asarray(ahead / np.linalg.norm(ahead, axis=1, keepdims=True))

    def pixels(self, points_m: np.ndarray) -> np.ndarray:
        """Points (N, 3) in front of the camera (of a fisheye: anywhere), metres -> pixels (N, 2)."""
        points = np.asarray(points_m, float).reshape(-1, 3)
        if self.model in FISHEYE:
            return self._fisheye_pixels(points)
        zero = np.zeros(3)
        return cv2.projectPoints(points, zero, zero, self.matrix, self.distortion)[0].reshape(-1, 2)

    def _fisheye_pixels(self, points: np.ndarray) -> np.ndarray:
        """The model of cv2.fisheye, by the angle to the axis, so that it holds beyond 90 degrees too."""
        across = np.linalg.norm(points[:, :2], axis=1)
        radius = self._fisheye_radius(np.arctan2(across, points[:, 2]))[0]
        flat = points[:, :2] * (radius / np.maximum(across, 1e-12))[:, None]
        return np.asarray(flat * self.matrix.diagonal()[:2] + self.matrix[:2, 2])

    def _fisheye_rays(self, pixels: np.ndarray) -> np.ndarray:
        """The inverse of `_fisheye_pixels`. cv2.fisheye.undistortPoints returns x/z: no ray beyond 90 degrees."""
        flat = (pixels - self.matrix[:2, 2]) / self.matrix.diagonal()[:2]
        radius = np.linalg.norm(flat, axis=1)
        angle = np.minimum(radius, np.pi / 2)
        for _ in range(FISHEYE_STEPS):
            reached, slope = self._fisheye_radius(angle)
            angle = np.clip(angle - (reached - radius) / slope, 0.0, np.pi)
        aside = flat * (np.sin(angle) / np.maximum(radius, 1e-12))[:, None]
        return np.column_stack([aside, np.cos(angle)])

    def _fisheye_radius(self, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Angle to the axis, radians -> distance to the principal point in focal lengths, and its derivative."""
        powers = np.arange(3, 10, 2)
        radius = angle + (self.distortion * angle[:, None] ** powers).sum(axis=1)
        return radius, 1 + (self.distortion * powers * angle[:, None] ** (powers - 1)).sum(axis=1)


def _undistort(pixels: np.ndarray, matrix: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """Pixels (N, 1, 2) -> x/z and y/z (N, 1, 2) in the optical frame."""
    if hasattr(cv2, "undistortPointsIter"):  # OpenCV 4; in OpenCV 5 undistortPoints takes the criteria
        return np.asarray(cv2.undistortPointsIter(pixels, matrix, distortion, None, None, UNDISTORT_UNTIL))
    return cv2.undistortPoints(pixels, matrix, distortion, criteria=UNDISTORT_UNTIL)
