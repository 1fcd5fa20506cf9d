"""A robot's head with a camera that sees a board, and noisy measurements of the head's pose."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation

from calibration.camera.board.board import Board
from calibration.camera.board.views import View
from calibration.extrinsics.transforms import pose_matrix
from sf_ros.core.camera import Camera
from tests.calibration.camera.lenses import PINHOLE
from tests.calibration.rendering import Pose

OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # x right, y down, z forward, in x forward, y left, z up


@dataclass(frozen=True)
class Rig:
    """How the head moves, and noise of its measured pose."""

    pan_deg: float = 25.0  # to either side
    tilt_deg: float = 20.0
    walk_m: float = 0.15  # movement of the robot's base to all sides
    head_deg: float = 0.05  # noise of the head's orientation, per axis
    head_m: float = 0.0005  # noise of its position
    corner_px: float = 0.1
    board: Board = field(default_factory=Board)
    camera: Camera = PINHOLE


@dataclass(frozen=True)
class Move:
    """One stop of the head."""

    head: np.ndarray  # (4, 4) in the base, with noise
    board: Pose  # in the camera, without noise


def mounted(rng: np.random.Generator) -> np.ndarray:
    """The true pose (4, 4) of the camera in the head."""
    turn = Rotation.from_matrix(OPTICAL) * Rotation.from_rotvec(np.radians(rng.uniform(-8, 8, 3)))
    return pose_matrix(turn, np.array([0.06, 0.02, 0.09]))


def moves(rig: Rig, camera_in_head: np.ndarray, rng: np.random.Generator, count: int) -> list[Move]:
    """Stops of the head with at least a third of the corners in view."""
    turn = Rotation.from_matrix(camera_in_head[:3, :3]) * Rotation.from_rotvec(np.radians([10, 5, 3]))
    middle = np.array([0.75, 0, 1.25]) - turn.apply(np.append(rig.board.size_m / 2, 0))
    board = pose_matrix(turn, middle)
    stops: list[Move] = []
    while len(stops) < count:
        angles = rng.uniform(-1, 1, 2) * (rig.pan_deg, rig.tilt_deg)
        turn = Rotation.from_euler("ZY", angles, degrees=True)
        position = np.array([0, 0, 1.2]) + turn.apply([0.03, 0, 0.05]) + rng.uniform(-rig.walk_m, rig.walk_m, 3)
        head = pose_matrix(turn, position)
        board_in_camera = np.linalg.inv(head @ camera_in_head) @ board
        in_camera = Pose(board_in_camera[:3, :3], board_in_camera[:3, 3])
        if visible(rig, in_camera).mean() < 1 / 3:
            continue
        noise = Rotation.from_rotvec(np.radians(rng.normal(0, rig.head_deg, 3)))
        stops.append(Move(head @ pose_matrix(noise, rng.normal(0, rig.head_m, 3)), in_camera))
    return stops


def visible(rig: Rig, board: Pose) -> np.ndarray:
    """Which inner corners (N,) are in view."""
    pixels = rig.camera.pixels(board.of(rig.board.corners_m))
    return ((pixels > 5) & (pixels < (rig.camera.width - 6, rig.camera.height - 6))).all(axis=1)


def views(rig: Rig, stops: list[Move], rng: np.random.Generator) -> list[View]:
    """Views of the corners with noise, without rendering."""
    result = []
    for index, stop in enumerate(stops):
        points = rig.board.corners_m[visible(rig, stop.board)]
        pixels = rig.camera.pixels(stop.board.of(points)) + rng.normal(0, rig.corner_px, (len(points), 2))
        result.append(View(f"view {index}", (rig.camera.width, rig.camera.height), points, pixels, 0.5))
    return result
