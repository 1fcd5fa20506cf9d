"""Hand-eye calibration of the camera on the robot's head: A_i X B_i = Y for every view i.

A_i is the head in the robot's base (from TF), X the camera in the head (wanted), B_i the board in the camera (from the
image), Y the board in the base (fixed, unknown). First the rotation (Park and Martin 1994), then the translation by
linear least squares, then both by least squares in the image (Tabb and Ahmad Yousef 2017). OpenCV 5 has no hand-eye
calibration in Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from calibration.camera.board.views import MIN_VIEWS, View, ViewsError
from calibration.camera.projection import locate
from calibration.extrinsics.transforms import pose_matrix
from sf_ros.core.camera import Camera

SCALE = 12  # index of the scale's logarithm in the parameters
MIN_TURN_DEG = 5.0  # about each of two axes, root mean square over all pairs of views
MAX_ERROR_DEG = 1.0  # between corners in the image and their positions by TF
SCALE_TOLERANCE = 0.02  # larger deviations of the scale mean a wrong board size
MAX_SCALE_DEVIATION = 0.01  # standard deviation of the scale up to which it counts as measured
# Standard deviations of a corner and of the head's pose; only their ratios matter.
CORNER_PX, HEAD_DEG, HEAD_MM = 0.1, 0.05, 0.5
ROBUST = 4.0  # errors above so many standard deviations weigh less
STEPS = 40  # of the optimiser
SCALE_PRIOR = 0.1  # standard deviation of the scale's logarithm, for motions that do not determine it


@dataclass(frozen=True)
class HandEye:
    """The camera's pose in the head, its uncertainty, and the error on the views."""

    rotation: Rotation  # camera (optical frame) -> head
    translation_m: np.ndarray  # (3,) of the camera in the head
    deviation_deg: float  # standard deviation of the rotation, root of the sum over its axes
    deviation_mm: float  # of the translation
    rms_px: float
    turns_deg: np.ndarray  # (3,) the head's rotation about its three main axes, largest first
    scale: float | None  # board size by the robot's motion over that by --square-mm; None: undetermined


def solve_hand_eye(camera: Camera, views: Sequence[View], heads: Sequence[np.ndarray]) -> HandEye:
    """The camera's pose in the head, from views of a fixed board and the head's pose (4, 4) in the base for each.

    ViewsError if the motion is insufficient, the board's size is wrong, or views and poses contradict each other.
    """
    if len(views) < MIN_VIEWS:
        raise ViewsError(f"{len(views)} views with a pose of the head; at least {MIN_VIEWS}, better 15 to 30.")
    turns = _check_motion(heads)
    rig = _Rig(camera, views, heads)
    free, free_spread = rig.refined(rig.closed_form(), scaled=True)
    rms = rig.rms_px(free)
    if rms > np.radians(MAX_ERROR_DEG) * camera.matrix[0, 0]:
        raise ViewsError(
            f"Images and poses contradict each other by {rms:.1f} px. The board must not move, the head must stand "
            "still in each image, poses must be the head's in the base (not the reverse) in metres, and camera_info "
            "this camera's."
        )
    scale, deviation = float(np.exp(free[SCALE])), float(np.sqrt(free_spread[SCALE, SCALE]))
    measured = deviation < MAX_SCALE_DEVIATION
    if measured and abs(scale - 1) > max(SCALE_TOLERANCE, 3 * deviation):
        raise ViewsError(
            f"By the robot's motion the board is {scale:.3f} times as large as by --square-mm. "
            "Measure ten squares in a row, and check that the poses are in metres."
        )
    parameters, spread = rig.refined(np.append(free[:SCALE], 0.0), scaled=False)
    return HandEye(
        rotation=Rotation.from_rotvec(parameters[:3]),
        translation_m=parameters[3:6],
        deviation_deg=float(np.degrees(np.sqrt(np.trace(spread[:3, :3])))),
        deviation_mm=float(1000 * np.sqrt(np.trace(spread[3:6, 3:6]))),
        rms_px=rig.rms_px(parameters),
        turns_deg=turns,
        scale=scale if measured else None,
    )


def _check_motion(heads: Sequence[np.ndarray]) -> np.ndarray:
    """The head's rotation about its three main axes, degrees; ViewsError if it rotates about fewer than two."""
    turns = np.array([Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).as_rotvec() for a, b in combinations(heads, 2)])
    spread, axes = np.linalg.eigh(turns.T @ turns / len(turns))
    angles = np.degrees(np.sqrt(np.maximum(spread[::-1], 0)))
    if angles[0] < MIN_TURN_DEG:
        raise ViewsError(
            f"The head turns by {angles[0]:.1f} degrees only, which does not determine the camera's pose. "
            "Pan and tilt it by 20 degrees and more, with the board in view."
        )
    if angles[1] < MIN_TURN_DEG:
        axis = ", ".join(f"{value:.2f}" for value in axes[:, -1])
        raise ViewsError(
            f"The head turns about one axis only, ({axis}) in its own frame, which does not determine the camera's "
            "position along that axis. Turn it about another axis too: pan and tilt by 20 degrees and more."
        )
    return angles


class _Rig:
    """Views with poses of the head. Parameters (13,): X and Y as rotation vector and translation, log of the scale."""

    def __init__(self, camera: Camera, views: Sequence[View], heads: Sequence[np.ndarray]) -> None:
        self._camera, self._heads = camera, np.stack(heads)
        self._points_m = np.concatenate([view.points_m for view in views])
        self._pixels = np.concatenate([view.pixels for view in views])
        counts = [len(view.pixels) for view in views]
        self._view_of, self._ends = np.repeat(np.arange(len(views)), counts), np.cumsum(counts)[:-1]
        self._boards = [_matrix(np.concatenate(locate(camera, view.points_m, view.pixels))) for view in views]

    def closed_form(self) -> np.ndarray:
        """Initial parameters by linear least squares, with scale 1."""
        pairs = [
            (np.linalg.inv(a) @ b, c @ np.linalg.inv(d))
            for (a, c), (b, d) in combinations(zip(self._heads, self._boards, strict=True), 2)
        ]
        by_head, by_camera = (np.array([_vector(pair[side])[:3] for pair in pairs]) for side in (0, 1))
        turn = Rotation.align_vectors(by_head, by_camera)[0]
        # (R_A - 1) t_X = R_X t_B - t_A for every motion A = X B X^-1
        left = np.concatenate([head[:3, :3] - np.eye(3) for head, _ in pairs])
        right = np.concatenate([turn.apply(board[:3, 3]) - head[:3, 3] for head, board in pairs])
        eye = pose_matrix(turn, np.linalg.lstsq(left, right, rcond=None)[0])
        return np.concatenate([_vector(eye), _vector(self._heads[0] @ eye @ self._boards[0]), [0.0]])

    def refined(self, start: np.ndarray, scaled: bool) -> tuple[np.ndarray, np.ndarray]:
        """Parameters of least squares in the image, and their covariance (13, 13).

        The errors of one view are correlated through the head's pose: weights and covariance are per view.
        """
        weights = self._weights(start)
        count = SCALE + scaled

        def errors(free: np.ndarray) -> np.ndarray:
            parameters = np.append(free, start[count:])
            whitened = [w @ e.ravel() for w, e in zip(weights, self._errors(parameters), strict=True)]
            return np.concatenate([*whitened, parameters[SCALE:] / SCALE_PRIOR])

        best = least_squares(
            errors, start[:count], x_scale="jac", loss="soft_l1", f_scale=ROBUST, ftol=1e-6, max_nfev=STEPS
        )
        inverse = np.linalg.pinv(best.jac.T @ best.jac)
        ends = np.cumsum([len(w) for w in weights])
        pulls = [j.T @ e for j, e in zip(np.split(best.jac, ends), np.split(errors(best.x), ends), strict=True)]
        spread = np.zeros((SCALE + 1, SCALE + 1))
        views = len(weights)
        spread[:count, :count] = inverse @ sum(np.outer(pull, pull) for pull in pulls) @ inverse * views / (views - 2)
        return np.append(best.x, start[count:]), spread

    def rms_px(self, parameters: np.ndarray) -> float:
        """Root mean square of the distances between observed and projected corners."""
        return float(np.sqrt((np.concatenate(self._errors(parameters)) ** 2).sum(axis=1).mean()))

    def _errors(self, parameters: np.ndarray, moved: np.ndarray | None = None) -> list[np.ndarray]:
        """Observed minus projected corners of each view (N, 2), px. `moved` (4, 4): a displacement of the head."""
        eye, board = _matrix(parameters[:6]), _matrix(parameters[6:SCALE])
        poses = np.linalg.inv(self._heads @ (eye if moved is None else moved @ eye)) @ board
        pose = poses[self._view_of]
        points = np.exp(parameters[SCALE]) * np.einsum("nij,nj->ni", pose[:, :3, :3], self._points_m) + pose[:, :3, 3]
        return np.split(self._pixels - self._camera.pixels(points), self._ends)

    def _weights(self, parameters: np.ndarray) -> list[np.ndarray]:
        """Per view a matrix (2N, 2N) that whitens its errors: noise of the head's pose, common to all corners of the
        view, and independent noise of each corner."""
        step = 1e-5
        noise = np.repeat([np.radians(HEAD_DEG), HEAD_MM / 1000], 3)
        unmoved = self._errors(parameters)
        moved = [self._errors(parameters, _matrix(step * axis)) for axis in np.eye(6)]
        weights = []
        for view, errors in enumerate(unmoved):
            slopes = np.stack([(shifted[view] - errors).ravel() for shifted in moved], axis=1) / step * noise
            covariance = slopes @ slopes.T + CORNER_PX**2 * np.eye(errors.size)
            weights.append(np.linalg.inv(np.linalg.cholesky(covariance)))
        return weights


def _matrix(vector: np.ndarray) -> np.ndarray:
    """Rotation vector and translation (6,) -> (4, 4)."""
    return pose_matrix(Rotation.from_rotvec(vector[:3]), vector[3:])


def _vector(matrix: np.ndarray) -> np.ndarray:
    """The inverse of `_matrix`."""
    return np.concatenate([Rotation.from_matrix(matrix[:3, :3]).as_rotvec(), matrix[:3, 3]])
