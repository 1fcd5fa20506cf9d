"""A robot's head with a camera that looks at a board, and the head's pose as its encoders tell it, with noise."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation

from calibration.camera.boards import Board
from calibration.camera.views import View
from sf_ros.core.camera import Camera
from tests.calibration.camera.lenses import PINHOLE
from tests.calibration.rendering import Pose

OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])  # x right, y down, z forward, in x forward, y left, z up


@dataclass(frozen=True)
class Rig:
    """How the head moves and how well that is known."""

    pan_deg: float = 25.0  # to either side
    tilt_deg: float = 20.0
    walk_m: float = 0.15  # that the robot's base moves to all sides, which tells the board's size
    head_deg: float = 0.05  # noise of its orientation, per axis
    head_m: float = 0.0005  # and of its place
    corner_px: float = 0.1
    board: Board = field(default_factory=Board)
    camera: Camera = PINHOLE


@dataclass(frozen=True)
class Move:
    """One stop of the head."""

    head: np.ndarray  # (4, 4) in the base, as told
    board: Pose  # in the camera, as it is


def mounted(rng: np.random.Generator) -> np.ndarray:
    """The camera in the head (4, 4): the truth that calibration has to find."""
    turn = Rotation.from_matrix(OPTICAL) * Rotation.from_rotvec(np.radians(rng.uniform(-8, 8, 3)))
    return pose(turn, np.array([0.06, 0.02, 0.09]))


def moves(rig: Rig, camera_in_head: np.ndarray, rng: np.random.Generator, count: int) -> list[Move]:
    """Stops of the head in which at least a third of the corners are seen."""
    turn = Rotation.from_matrix(camera_in_head[:3, :3]) * Rotation.from_rotvec(np.radians([10, 5, 3]))
    middle = np.array([0.75, 0, 1.25]) - turn.apply(np.append(rig.board.size_m / 2, 0))
    board = pose(turn, middle)
    found: list[Move] = []
    while len(found) < count:
        angles = rng.uniform(-1, 1, 2) * (rig.pan_deg, rig.tilt_deg)
        turn = Rotation.from_euler("ZY", angles, degrees=True)
        place = np.array([0, 0, 1.2]) + turn.apply([0.03, 0, 0.05]) + rng.uniform(-rig.walk_m, rig.walk_m, 3)
        head = pose(turn, place)
        seen = np.linalg.inv(head @ camera_in_head) @ board
        in_camera = Pose(seen[:3, :3], seen[:3, 3])
        if visible(rig, in_camera).mean() < 1 / 3:
            continue
        noise = Rotation.from_rotvec(np.radians(rng.normal(0, rig.head_deg, 3)))
        found.append(Move(head @ pose(noise, rng.normal(0, rig.head_m, 3)), in_camera))
    return found


def visible(rig: Rig, board: Pose) -> np.ndarray:
    """Which inner corners (N,) are in the picture."""
    pixels = rig.camera.pixels(board.of(rig.board.corners_m))
    return ((pixels > 5) & (pixels < (rig.camera.width - 6, rig.camera.height - 6))).all(axis=1)


def views(rig: Rig, stops: list[Move], rng: np.random.Generator) -> list[View]:
    """What the camera sees of the corners, without rendering."""
    found = []
    for index, stop in enumerate(stops):
        points = rig.board.corners_m[visible(rig, stop.board)]
        pixels = rig.camera.pixels(stop.board.of(points)) + rng.normal(0, rig.corner_px, (len(points), 2))
        found.append(View(f"view {index}", (rig.camera.width, rig.camera.height), points, pixels, 0.5))
    return found


def pose(rotation: Rotation, translation_m: np.ndarray) -> np.ndarray:
    """The matrix (4, 4)."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation.as_matrix(), translation_m
    return matrix
