"""Whether a fit may be used: what is wrong with it, or doubtful, in words that say what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import cv2
import numpy as np

from calibration.camera.boards import Board
from calibration.camera.collect import GRID, bare_parts
from calibration.camera.fit import Fit, Model, Residuals, fit
from calibration.camera.uncertainty import uncertainty_px
from calibration.camera.views import View, ViewsError

MAX_RMS = 1 / 2000  # of the picture's width: 0.32 px of 640, 0.96 px of 1920
SUSPICIOUS_RMS = 0.4  # of that; from there on the other models are tried
BETTER = 0.7  # of the error: a model that leaves less explains the lens better
MAX_FOCAL_DEVIATION, DOUBTFUL_FOCAL_DEVIATION = 0.01, 0.003  # of the focal length
DOUBTFUL_PX = 0.5  # standard deviation in the picture
DISTANCE_TOLERANCE = 0.03  # of a tape measure's distance
MAX_ASPECT = 0.01  # by which fx and fy differ; sensors have square pixels


def check(found: Fit) -> list[str]:
    """What is doubtful about a fit; ViewsError where it must not be used."""
    warnings = []
    limit_px = MAX_RMS * found.camera.width
    if found.rms_px > SUSPICIOUS_RMS * limit_px:
        better = _better_model(found)
        hint = f"The {better} model explains these views better: --model {better}" if better else None
        if found.rms_px > limit_px:
            raise ViewsError(
                f"The {found.camera.model} model misses the corners by {found.rms_px:.2f} px; {limit_px:.2g} px is the "
                f"most. {hint or 'The board must be flat and rigid, zoom and focus fixed'}."
            )
        if hint:
            warnings.append(hint)
    fx, fy = found.camera.matrix.diagonal()[:2]
    deviation = float((found.deviations_px[:2] / (fx, fy)).max())
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
    doubtful = grid_uncertainty_px(found)
    if doubtful.max() > DOUBTFUL_PX:
        parts = ", ".join(bare_parts(doubtful <= DOUBTFUL_PX)) or "in the corners"
        warnings.append(f"The model is uncertain by up to {doubtful.max():.1f} px: show the board {parts} too")
    return warnings


def grid_uncertainty_px(found: Fit) -> np.ndarray:
    """Standard deviation of the camera's projection on a grid as fine as GRID, edge to edge, px (rows, columns)."""
    steps = [np.linspace(0, side - 1, count) for count, side in zip(GRID, found.views[0].size, strict=True)]
    pixels = np.stack(np.meshgrid(*steps), axis=-1)
    return uncertainty_px(found.camera, found.covariance, pixels.reshape(-1, 2)).reshape(pixels.shape[:2])


def check_distance(found: Residuals, board: Board, name: str, measured_m: float) -> float:
    """Metres from the lens to the board's middle in a picture; ViewsError where a tape measure says otherwise.

    Pictures alone do not tell a small board that is near from a large one that is far: a wrong size of the squares
    leaves the intrinsics right, and every distance wrong.
    """
    poses = {view.name: pose for view, pose in zip(found.views, found.poses, strict=True)}
    if name not in poses:
        raise ViewsError(f"--distance: {name} is not among the views used: {', '.join(poses)}.")
    rotation, translation = poses[name]
    middle = cv2.Rodrigues(rotation)[0] @ np.append(board.size_m / 2, 0) + translation
    distance = float(np.linalg.norm(middle))
    if abs(distance / measured_m - 1) > DISTANCE_TOLERANCE:
        raise ViewsError(
            f"By squares of {board.square_mm:g} mm the board in {name} is {distance:.3f} m away, "
            f"by tape {measured_m:g} m: "
            f"squares of {board.square_mm * measured_m / distance:.2f} mm would fit. Measure ten squares in a row."
        )
    return round(distance, 4)


def _better_model(found: Fit) -> Model | None:
    """The model that leaves clearly less than the fit's own, if there is one."""
    errors: dict[Model, float] = {}
    for model in get_args(Model):
        if model != found.camera.model and (rms := _rms_of(found.views, model)) is not None:
            errors[model] = rms
    best = min(errors, key=lambda model: errors[model], default=None)
    return best if best is not None and errors[best] < BETTER * found.rms_px else None


def _rms_of(views: Sequence[View], model: Model) -> float | None:
    try:
        return fit(views, model).rms_px
    except ViewsError:
        return None
