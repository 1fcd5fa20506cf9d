"""Cameras: pixels <-> rays in the camera's optical frame (x right, y down, z forward; REP 103)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

# Of undistorting, in pixels. OpenCV's default of 5 steps is off by 0.2 to 2 px at the edge of usual lenses; with 40, a
# strongly distorted edge is still off by 0.006 px.
UNDISTORT_UNTIL = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 100, 1e-12)
FISHEYE_STEPS = 12  # Newton's steps from a fisheye's radius to its angle
FISHEYE = ("equidistant",)
# Numbers of coefficients that OpenCV knows; what is left out is 0. Drivers write 8 for plumb_bob too.
LENGTHS = {"plumb_bob": (5, 8, 12, 14), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
MIN_FOCAL = 0.05  # of the width; a fisheye that sees all around has 0.16. Less is not in pixels
RETURNS_PX = 1.0  # of the best quarter of the pixels, after the way to their rays and back
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
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))  # (3, 3), R: from the lens to `frame_id`

    @staticmethod
    def from_info(
        width: int,
        height: int,
        k: Sequence[float] | np.ndarray,
        d: Sequence[float] | np.ndarray,
        model: str,
        frame_id: str,
        r: Sequence[float] | np.ndarray = (),
    ) -> Camera:
        """From the fields of a CameraInfo; an R of zeros, or none, turns nothing.

        CalibrationError for an uncalibrated camera (K[0] is 0), an unknown model, and values that no camera has.
        """
        matrix = np.asarray(k, float)
        if matrix.size != 9:
            raise CalibrationError(f"camera_info has no calibration: K has {matrix.size} numbers; expected 9.")
        if not np.isfinite(matrix).all() or matrix[0] <= 0 or matrix[4] <= 0:
            raise CalibrationError("camera_info has no calibration: K holds no focal length.")
        if width < 1 or height < 1:
            raise CalibrationError(f"camera_info is of an image of {width}x{height}.")
        matrix = matrix.reshape(3, 3)
        _check_intrinsics(matrix, width, height)
        distortion = np.asarray(d, float)
        if not np.isfinite(distortion).all():
            raise CalibrationError("D of camera_info holds a value that is not finite.")
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
        camera = Camera(int(width), int(height), matrix, distortion, model, frame_id, _rotation(r))
        if not camera._bends_plausibly():
            raise CalibrationError("D of camera_info cannot be undone: pixels do not return from their rays.")
        return camera

    def scaled(self, width: int, height: int) -> Camera:
        """The same camera for images that were resized to another resolution."""
        if (width, height) == (self.width, self.height):
            return self
        scale = np.diag([width / self.width, height / self.height, 1.0])
        return replace(self, width=width, height=height, matrix=scale @ self.matrix)

    def binned(self, across: int, down: int) -> Camera:
        """The same camera for images whose pixels were joined. CalibrationError where nothing is left of them."""
        width, height = self.width // across, self.height // down
        if width < 1 or height < 1:
            raise CalibrationError(f"Binning of {across}x{down} leaves nothing of {self.width}x{self.height}.")
        return replace(self, width=width, height=height, matrix=np.diag([1 / across, 1 / down, 1.0]) @ self.matrix)

    def cropped(self, left: int, top: int, width: int, height: int) -> Camera:
        """The same camera for a region of its image (ROI). CalibrationError where the region is not in the image."""
        if width < 1 or height < 1 or min(left, top) < 0 or left + width > self.width or top + height > self.height:
            raise CalibrationError(
                f"The region of {width}x{height} at {left},{top} is not inside the image of {self.width}x{self.height}."
            )
        shift = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]])
        return replace(self, width=width, height=height, matrix=shift @ self.matrix)

    def fitted(self, width: int, height: int) -> Camera:
        """The camera scaled to images of this size. CalibrationError where the sides have another ratio."""
        if not same_aspect((width, height), (self.width, self.height)):
            raise CalibrationError(
                f"camera_info is of images of {self.width}x{self.height}, and the images are {width}x{height}: another "
                "part of the sensor, or another camera."
            )
        return self.scaled(width, height)

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels (N, 2) -> unit vectors (N, 3) that point to what is seen there; distortion is undone."""
        points = np.asarray(pixels, float).reshape(-1, 1, 2)
        if self.model in FISHEYE:
            return np.asarray(self._fisheye_rays(points.reshape(-1, 2)) @ self.rotation.T)
        flat = _undistort(points, self.matrix, self.distortion).reshape(-1, 2)
        ahead = np.column_stack([flat, np.ones(len(flat))])
        return np.asarray(ahead / np.linalg.norm(ahead, axis=1, keepdims=True) @ self.rotation.T)

    def pixels(self, points_m: np.ndarray) -> np.ndarray:
        """Points (N, 3) in front of the camera (of a fisheye: anywhere), metres -> pixels (N, 2)."""
        points = np.asarray(points_m, float).reshape(-1, 3) @ self.rotation
        if self.model in FISHEYE:
            return self._fisheye_pixels(points)
        zero = np.zeros(3)
        return cv2.projectPoints(points, zero, zero, self.matrix, self.distortion)[0].reshape(-1, 2)

    def _bends_plausibly(self) -> bool:
        """Whether a quarter of the image's pixels return from their rays; a poor fit may lose the corners."""
        across, down = np.meshgrid(np.linspace(0, self.width - 1, 5), np.linspace(0, self.height - 1, 5))
        pixels = np.column_stack([across.ravel(), down.ravel()])
        with np.errstate(all="ignore"):
            rays = self.rays(pixels)
            if not np.isfinite(rays).all():
                return False
            return bool(np.percentile(np.linalg.norm(self.pixels(rays) - pixels, axis=1), 25) < RETURNS_PX)

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


def same_aspect(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes (width, height) differ by a scale alone, to one pixel of rounding."""
    return abs(size[0] * other[1] - size[1] * other[0]) <= max(*size, *other)


def _check_intrinsics(matrix: np.ndarray, width: int, height: int) -> None:
    """CalibrationError where K (3, 3) is not of a camera with images of width x height pixels."""
    fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
    pinhole = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    if not np.allclose(matrix, pinhole, atol=1e-6 * fx):
        raise CalibrationError("K of camera_info is not of the form [fx 0 cx; 0 fy cy; 0 0 1].")
    if min(fx, fy) < MIN_FOCAL * width:
        raise CalibrationError(f"The focal length of camera_info is {min(fx, fy):.3g}; expected pixels.")
    if not (0 < cx < width and 0 < cy < height):
        raise CalibrationError(
            f"K of camera_info has its centre at {cx:.0f},{cy:.0f}, outside of its image of {width}x{height}: the "
            "calibration is of another resolution."
        )


def _rotation(r: Sequence[float] | np.ndarray) -> np.ndarray:
    """R (9,) as a matrix (3, 3); the identity where it is left out. CalibrationError where it is no rotation."""
    matrix = np.asarray(r, float)
    if not np.any(matrix):
        return np.eye(3)
    matrix = matrix.reshape(3, 3) if matrix.size == 9 else np.full((3, 3), np.nan)
    if not np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-2) or np.linalg.det(matrix) < 0:
        raise CalibrationError("R of camera_info is not a rotation.")
    return matrix


def _undistort(pixels: np.ndarray, matrix: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """Pixels (N, 1, 2) -> x/z and y/z (N, 1, 2) in the optical frame."""
    if hasattr(cv2, "undistortPointsIter"):  # OpenCV 4; in OpenCV 5 undistortPoints takes the criteria
        return np.asarray(cv2.undistortPointsIter(pixels, matrix, distortion, None, None, UNDISTORT_UNTIL))
    return cv2.undistortPoints(pixels, matrix, distortion, criteria=UNDISTORT_UNTIL)
