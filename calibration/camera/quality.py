"""Checks whether a fit may be used; errors and warnings name the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
from scipy.spatial.transform import Rotation

from calibration.camera.board.board import Board
from calibration.camera.board.collection import GRID, bare_parts
from calibration.camera.board.views import View, ViewsError
from calibration.camera.bundle_adjustment import uncertainty_px
from calibration.camera.fit import Fit, Model, Residuals, fit_camera

MAX_RMS = 1 / 2000  # of the image's width: 0.32 px of 640, 0.96 px of 1920
SUSPICIOUS_RMS = 0.4  # of MAX_RMS: above it the other models are tried
BETTER = 0.7  # another model is suggested if its error is below this share
MAX_FOCAL_DEVIATION, DOUBTFUL_FOCAL_DEVIATION = 0.01, 0.003  # of the focal length
DOUBTFUL_PX = 0.5  # standard deviation of the projection
DISTANCE_TOLERANCE = 0.03  # of a tape measure's distance
MAX_ASPECT = 0.01  # relative difference of fx and fy; sensors have square pixels


def check(fit: Fit) -> list[str]:
    """Warnings about a fit; ViewsError if it must not be used."""
    warnings = []
    limit_px = MAX_RMS * fit.camera.width
    if fit.rms_px > SUSPICIOUS_RMS * limit_px:
        better = _better_model(fit)
        hint = f"The {better} model fits these views better: --model {better}" if better else None
        if fit.rms_px > limit_px:
            raise ViewsError(
                f"The {fit.camera.model} model misses the corners by {fit.rms_px:.2f} px; the limit is {limit_px:.2g} "
                f"px. {hint or 'The board must be flat and rigid, zoom and focus fixed'}."
            )
        if hint:
            warnings.append(hint)
    fx, fy = fit.camera.matrix.diagonal()[:2]
    deviation = float((fit.deviations_px[:2] / (fx, fy)).max())
    if deviation > MAX_FOCAL_DEVIATION:
        raise ViewsError(
            f"The focal length is uncertain by {deviation:.1%}. Tilt the board by 20 to 45 degrees towards all sides, "
            "near and far, and take more views."
        )
    if deviation > DOUBTFUL_FOCAL_DEVIATION:
        warnings.append(f"The focal length is uncertain by {deviation:.1%}: tilt the board more, and take more views")
    if abs(fx / fy - 1) > MAX_ASPECT:
        warnings.append(
            f"fx and fy differ by {abs(fx / fy - 1):.1%}: are the printed squares square? "
            "Measure ten in a row, both ways"
        )
    uncertainty = grid_uncertainty_px(fit)
    if uncertainty.max() > DOUBTFUL_PX:
        parts = ", ".join(bare_parts(uncertainty <= DOUBTFUL_PX)) or "in the corners"
        warnings.append(f"The model is uncertain by up to {uncertainty.max():.1f} px: show the board {parts} too")
    return warnings


def grid_uncertainty_px(fit: Fit) -> np.ndarray:
    """Standard deviation of the projection at GRID points from edge to edge, px (rows, columns)."""
    steps = [np.linspace(0, side - 1, count) for count, side in zip(GRID, fit.views[0].size, strict=True)]
    pixels = np.stack(np.meshgrid(*steps), axis=-1)
    return uncertainty_px(fit.camera, fit.covariance, pixels.reshape(-1, 2)).reshape(pixels.shape[:2])


def check_distance(residuals: Residuals, board: Board, name: str, measured_m: float) -> float:
    """Metres from the lens to the board's middle in an image; ViewsError if a tape measure disagrees.

    Images alone cannot tell a small near board from a large far one: a wrong size of the squares leaves the intrinsics
    right and makes every distance wrong.
    """
    poses = {view.name: pose for view, pose in zip(residuals.views, residuals.poses, strict=True)}
    if name not in poses:
        raise ViewsError(f"--distance: {name} is not among the views used: {', '.join(poses)}.")
    rotation, translation = poses[name]
    middle = Rotation.from_rotvec(rotation).apply(np.append(board.size_m / 2, 0)) + translation
    distance = float(np.linalg.norm(middle))
    if abs(distance / measured_m - 1) > DISTANCE_TOLERANCE:
        raise ViewsError(
            f"With squares of {board.square_mm:g} mm the board in {name} is {distance:.3f} m away, "
            f"by tape {measured_m:g} m: "
            f"squares of {board.square_mm * measured_m / distance:.2f} mm would fit. Measure ten squares in a row."
        )
    return round(distance, 4)


def _better_model(fit: Fit) -> Model | None:
    """A model with a clearly smaller error than the fit's, or None."""
    errors: dict[Model, float] = {}
    for model in get_args(Model):
        if model != fit.camera.model and (rms := _rms_of(fit.views, model)) is not None:
            errors[model] = rms
    best = min(errors, key=lambda model: errors[model], default=None)
    return best if best is not None and errors[best] < BETTER * fit.rms_px else None


def _rms_of(views: Sequence[View], model: Model) -> float | None:
    try:
        return fit_camera(views, model).rms_px
    except ViewsError:
        return None
