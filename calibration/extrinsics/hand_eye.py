"""Where the camera is on the robot's head: A_i X B_i = Y for every view i.

A_i is the head in the robot's base (from TF), X the camera in the head (wanted), B_i the board in the camera (from the
picture), Y the board in the base (fixed, unknown). Rotation first (Park and Martin 1994), then the translation by
linear least squares, then all of it together by least squares in the picture (Tabb and Ahmad Yousef 2017). OpenCV 5 has
no hand-eye calibration in Python any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from calibration.camera.projection import locate
from calibration.camera.views import View, ViewsError
from sf_ros.core.camera import Camera

MIN_VIEWS = 8
SCALE = 12  # place of the scale's logarithm among the parameters
MIN_TURN_DEG = 5.0  # about each of two axes, root mean square over all pairs of views
MAX_ERROR_DEG = 1.0  # between where corners are and where TF puts them
SCALE_TOLERANCE, SCALE_KNOWN = 0.02, 0.01  # that is a wrong size; standard deviation up to which it can be told
# What one corner, and the robot's account of its head, are trusted with: only their ratios matter.
CORNER_PX, HEAD_DEG, HEAD_MM = 0.1, 0.05, 0.5
ROBUST = 4.0  # errors of so many standard deviations and more pull less
STEPS = 40  # of the optimiser
SCALE_PRIOR = 0.1  # standard deviation of the scale's logarithm: holds it where the motion does not tell it


@dataclass(frozen=True)
class HandEye:
    """The camera in the head, how sure that is, and how the views agree."""

    rotation: Rotation  # camera (optical frame) -> head
    translation_m: np.ndarray  # (3,) of the camera in the head
    deviation_deg: float  # standard deviation of the rotation, root of the sum over its axes
    deviation_mm: float  # of the translation
    rms_px: float
    turns_deg: np.ndarray  # (3,) how far the head turned about its three main axes, most first
    scale: float | None  # of the board by the robot's motion, 1 where --square-mm is right; None: it cannot be told


def hand_eye(camera: Camera, views: Sequence[View], heads: Sequence[np.ndarray]) -> HandEye:
    """The camera in the head from views of a board that stays where it is, and the head in the base (4, 4) for each.

    ViewsError where the motion cannot tell, the board's size is wrong or views and poses do not belong together.
    """
    if len(views) < MIN_VIEWS:
        raise ViewsError(f"{len(views)} views with a pose of the head; {MIN_VIEWS} are the least, 15 to 30 are good.")
    turns = _check_motion(heads)
    rig = _Rig(camera, views, heads)
    free, free_spread = rig.refined(rig.closed_form(), scaled=True)
    rms = rig.rms_px(free)
    if rms > np.radians(MAX_ERROR_DEG) * camera.matrix[0, 0]:
        raise ViewsError(
            f"Pictures and poses contradict each other by {rms:.1f} px. The board must stay where it is, the head "
            "stand still in each picture, poses be the head's in the base (not the reverse), in metres, and "
            "camera_info be this camera's."
        )
    scale, deviation = float(np.exp(free[SCALE])), float(np.sqrt(free_spread[SCALE, SCALE]))
    known = deviation < SCALE_KNOWN
    if known and abs(scale - 1) > max(SCALE_TOLERANCE, 3 * deviation):
        raise ViewsError(
            f"By the robot's own motion the board is {scale:.3f} times as large as --square-mm says. "
            "Measure ten squares in a row, and check that the poses are in metres."
        )
    found, spread = rig.refined(np.append(free[:SCALE], 0.0), scaled=False)
    return HandEye(
        rotation=Rotation.from_rotvec(found[:3]),
        translation_m=found[3:6],
        deviation_deg=float(np.degrees(np.sqrt(np.trace(spread[:3, :3])))),
        deviation_mm=float(1000 * np.sqrt(np.trace(spread[3:6, 3:6]))),
        rms_px=rig.rms_px(found),
        turns_deg=turns,
        scale=scale if known else None,
    )


def _check_motion(heads: Sequence[np.ndarray]) -> np.ndarray:
    """How far the head turned about its three main axes, degrees; ViewsError where two axes are not enough."""
    turns = np.array([Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).as_rotvec() for a, b in combinations(heads, 2)])
    spread, axes = np.linalg.eigh(turns.T @ turns / len(turns))
    angles = np.degrees(np.sqrt(np.maximum(spread[::-1], 0)))
    if angles[0] < MIN_TURN_DEG:
        raise ViewsError(
            f"The head turns by {angles[0]:.1f} degrees only, so that rotation and translation of the camera cannot be "
            "found. Pan and tilt it by 20 degrees and more, with the board in sight."
        )
    if angles[1] < MIN_TURN_DEG:
        axis = ", ".join(f"{value:.2f}" for value in axes[:, -1])
        raise ViewsError(
            f"The head turns about one axis only, ({axis}) in its own frame, so that the camera's place along that "
            "axis cannot be found. Turn it about another axis too: pan and tilt, by 20 degrees and more."
        )
    return angles


class _Rig:
    """Views with the head's poses. Parameters (13,): X and Y as rotation vector and translation, log of the scale."""

    def __init__(self, camera: Camera, views: Sequence[View], heads: Sequence[np.ndarray]) -> None:
        self._camera, self._views, self._heads = camera, views, heads
        self._boards = [_matrix(np.concatenate(locate(camera, view.points_m, view.pixels))) for view in views]

    def closed_form(self) -> np.ndarray:
        """Parameters without iteration, the scale being 1."""
        pairs = [
            (np.linalg.inv(a) @ b, c @ np.linalg.inv(d))
            for (a, c), (b, d) in combinations(zip(self._heads, self._boards, strict=True), 2)
        ]
        by_head, by_camera = (np.array([_vector(pair[side])[:3] for pair in pairs]) for side in (0, 1))
        turn = Rotation.align_vectors(by_head, by_camera)[0]
        # (R_A - 1) t_X = R_X t_B - t_A for every motion A = X B X^-1
        left = np.concatenate([head[:3, :3] - np.eye(3) for head, _ in pairs])
        right = np.concatenate([turn.apply(seen[:3, 3]) - head[:3, 3] for head, seen in pairs])
        eye = np.eye(4)
        eye[:3, :3], eye[:3, 3] = turn.as_matrix(), np.linalg.lstsq(left, right, rcond=None)[0]
        return np.concatenate([_vector(eye), _vector(self._heads[0] @ eye @ self._boards[0]), [0.0]])

    def refined(self, start: np.ndarray, scaled: bool) -> tuple[np.ndarray, np.ndarray]:
        """Parameters with the least squares in the picture, and their covariance (13, 13).

        A view's errors come from its pose and belong together: they are weighted and their covariance summed by view.
        """
        weights = self._weights(start)
        count = SCALE + scaled

        def errors(free: np.ndarray) -> np.ndarray:
            parameters = np.append(free, start[count:])
            whitened = [w @ e.ravel() for w, e in zip(weights, self._errors(parameters), strict=True)]
            return np.concatenate([*whitened, parameters[SCALE:] / SCALE_PRIOR])

        found = least_squares(
            errors, start[:count], x_scale="jac", loss="soft_l1", f_scale=ROBUST, ftol=1e-6, max_nfev=STEPS
        )
        inverse = np.linalg.pinv(found.jac.T @ found.jac)
        ends = np.cumsum([len(w) for w in weights])
        pulls = [j.T @ e for j, e in zip(np.split(found.jac, ends), np.split(errors(found.x), ends), strict=True)]
        spread = np.zeros((SCALE + 1, SCALE + 1))
        views = len(weights)
        spread[:count, :count] = inverse @ sum(np.outer(pull, pull) for pull in pulls) @ inverse * views / (views - 2)
        return np.append(found.x, start[count:]), spread

    def rms_px(self, parameters: np.ndarray) -> float:
        """Root of the mean squared distance between found and projected corners."""
        return float(np.sqrt((np.concatenate(self._errors(parameters)) ** 2).sum(axis=1).mean()))

    def _errors(self, parameters: np.ndarray, moved: np.ndarray | None = None) -> list[np.ndarray]:
        """Found minus projected corners of each view (N, 2), px; `moved` (4, 4) goes between every head and camera."""
        eye, board = _matrix(parameters[:6]), _matrix(parameters[6:SCALE])
        errors = []
        for view, head in zip(self._views, self._heads, strict=True):
            pose = np.linalg.inv(head @ (eye if moved is None else moved @ eye)) @ board
            points = np.exp(parameters[SCALE]) * view.points_m @ pose[:3, :3].T + pose[:3, 3]
            errors.append(view.pixels - self._camera.pixels(points))
        return errors

    def _weights(self, parameters: np.ndarray) -> list[np.ndarray]:
        """Per view the matrix (2N, 2N) that makes its errors independent, of variance 1: the noise of the head's pose
        moves all corners together, that of the corners each of them."""
        step = 1e-5
        noise = np.repeat([np.radians(HEAD_DEG), HEAD_MM / 1000], 3)
        at = self._errors(parameters)
        moved = [self._errors(parameters, _matrix(step * axis)) for axis in np.eye(6)]
        weights = []
        for view, here in enumerate(at):
            slopes = np.stack([(there[view] - here).ravel() for there in moved], axis=1) / step * noise
            covariance = slopes @ slopes.T + CORNER_PX**2 * np.eye(here.size)
            weights.append(np.linalg.inv(np.linalg.cholesky(covariance)))
        return weights


def _matrix(vector: np.ndarray) -> np.ndarray:
    """Rotation vector and translation (6,) -> (4, 4)."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = cv2.Rodrigues(vector[:3])[0], vector[3:]
    return matrix


def _vector(matrix: np.ndarray) -> np.ndarray:
    """The inverse of `_matrix`."""
    return np.concatenate([cv2.Rodrigues(matrix[:3, :3])[0].ravel(), matrix[:3, 3]])
