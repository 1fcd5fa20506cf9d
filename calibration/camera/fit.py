"""Fits a camera to views by least squares, with its covariance, and rejects outliers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from calibration.camera.board.board import MIN_CORNERS
from calibration.camera.board.views import MIN_VIEWS, View, ViewsError
from calibration.camera.bundle_adjustment import adjust, covariance, fisheye_start
from calibration.camera.projection import Pose, locate, project
from sf_ros.core.camera import COEFFICIENTS, FISHEYE, Camera

Model = Literal["plumb_bob", "rational_polynomial", "equidistant"]
OUTLIER = 6.0  # times the median error: corners with a larger one are left out,
OUTLIER_PX = 0.5  # if it is at least this large
MIN_GOOD = 0.75  # of a view's corners; with fewer the view is left out
ROUNDS = 5  # of rejecting and fitting again
MAX_OUTLIERS = 1 / 3  # of the views


@dataclass(frozen=True)
class Residuals:
    """Errors of a camera on views of a board."""

    camera: Camera
    views: tuple[View, ...]
    poses: tuple[Pose, ...]  # of the board, per view
    errors: tuple[np.ndarray, ...]  # per view (N, 2): observed minus projected, px

    @property
    def rms_px(self) -> float:
        """Root mean square of the distances between observed and projected corners."""
        return _rms(np.concatenate(self.errors))

    @property
    def view_rms_px(self) -> np.ndarray:
        """The same for each view (V,)."""
        return np.array([_rms(error) for error in self.errors])


@dataclass(frozen=True)
class Fit(Residuals):
    """A camera fitted to these views, with its covariance."""

    covariance: np.ndarray  # (4 + D, 4 + D) of fx, fy, cx, cy and the distortion coefficients

    @property
    def deviations_px(self) -> np.ndarray:
        """Standard deviations (4,) of fx, fy, cx, cy."""
        return np.sqrt(np.maximum(np.diag(self.covariance)[:4], 0))


def residuals(camera: Camera, views: Sequence[View]) -> Residuals:
    """Errors of a given camera, with the board at its best pose in each view."""
    poses = tuple(locate(camera, view.points_m, view.pixels) for view in views)
    return Residuals(camera, tuple(views), poses, _errors(camera, views, poses))


def fit_camera(views: Sequence[View], model: Model) -> Fit:
    """The camera of least squares of the distances in the image. ViewsError if the optimiser finds none."""
    size = views[0].size
    points, pixels = [view.points_m for view in views], [view.pixels for view in views]
    try:
        if model in FISHEYE:
            start = fisheye_start(points, pixels, size)
        else:
            start = _pinhole_start(points, pixels, size, model)
        camera, poses = adjust(*start, points, pixels)
    except (cv2.error, ValueError) as error:
        raise ViewsError(
            f"No {model} camera fits these {len(views)} views. Check --pattern and --squares against the print, "
            "take more views from different sides, or try another --model."
        ) from error
    errors = _errors(camera, views, poses)
    return Fit(camera, tuple(views), tuple(poses), errors, covariance(camera, points, poses, errors))


def fit_robustly(views: Sequence[View], model: Model) -> tuple[Fit, dict[str, float]]:
    """A fit without outlying corners and views, and the left-out views' errors in pixels by name.

    ViewsError if too many views are outliers or too few are left.
    """
    inliers, outliers = list(views), dict[str, float]()
    for _ in range(ROUNDS):
        fit = fit_camera(inliers, model)
        distances = [np.linalg.norm(error, axis=1) for error in fit.errors]
        limit = max(OUTLIER_PX, OUTLIER * float(np.median(np.concatenate(distances))))
        trimmed = [_trimmed(view, error < limit) for view, error in zip(inliers, distances, strict=True)]
        if all(before is after for before, after in zip(inliers, trimmed, strict=True)):
            return fit, outliers
        for view, after, rms in zip(inliers, trimmed, fit.view_rms_px, strict=True):
            if after is None:
                outliers[view.name] = float(rms)
        inliers = [view for view in trimmed if view is not None]
        if len(outliers) > MAX_OUTLIERS * len(views) or len(inliers) < MIN_VIEWS:
            raise ViewsError(
                f"{len(outliers)} of {len(views)} views contradict the others. Zoom, focus and resolution must not "
                "change between images, and the board must be flat and rigid: glue it onto glass or aluminium."
            )
    return fit, outliers


def _trimmed(view: View, good: np.ndarray) -> View | None:
    """A view with only its good corners (N,); the view itself if all are good, None if too few are."""
    if good.all():
        return view
    if good.mean() < MIN_GOOD or good.sum() < MIN_CORNERS:
        return None
    return dataclasses.replace(view, points_m=view.points_m[good], pixels=view.pixels[good])


def _pinhole_start(
    points_m: Sequence[np.ndarray], pixels: Sequence[np.ndarray], size: tuple[int, int], model: Model
) -> tuple[Camera, list[Pose]]:
    """OpenCV's fit (Zhang 2000) of plumb_bob, padded with zeros to the coefficients of `model`."""
    points = [np.asarray(each, np.float32) for each in points_m]
    corners = [np.asarray(each, np.float32) for each in pixels]
    _, matrix, distortion, rotations, translations = cv2.calibrateCamera(points, corners, size, None, None)
    coefficients = np.zeros(COEFFICIENTS[model])
    coefficients[:5] = distortion.ravel()[:5]
    camera = Camera(*size, matrix, coefficients, model)
    return camera, [(r.ravel(), t.ravel()) for r, t in zip(rotations, translations, strict=True)]


def _errors(camera: Camera, views: Sequence[View], poses: Sequence[Pose]) -> tuple[np.ndarray, ...]:
    return tuple(view.pixels - project(camera, view.points_m, pose)[0] for view, pose in zip(views, poses, strict=True))


def _rms(errors: np.ndarray) -> float:
    return float(np.sqrt((errors**2).sum(axis=1).mean()))
