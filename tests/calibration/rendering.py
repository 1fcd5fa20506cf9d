"""Renders images of boards through a given camera: a ray per subpixel, blur and noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy.interpolate import RectBivariateSpline
from scipy.spatial.transform import Rotation

from calibration.camera.board.board import Board
from sf_ros.core.camera import Camera

TEXTURE_PX_PER_SQUARE = 100
MARGIN_SQUARES = 1  # of white around the board
WALL = 150  # grey value behind the board
BLACK, WHITE = 25, 225


@dataclass(frozen=True)
class Pose:
    """The board's pose in the camera's frame."""

    rotation: np.ndarray  # (3, 3)
    translation_m: np.ndarray  # (3,)

    def of(self, points_m: np.ndarray) -> np.ndarray:
        """Points of the board (N, 3), in the camera's frame."""
        return points_m @ self.rotation.T + self.translation_m


def rotation_vector(pose: Pose) -> np.ndarray:
    """The pose's rotation as a vector (3,)."""
    return Rotation.from_matrix(pose.rotation).as_rotvec()


def texture(board: Board) -> np.ndarray:
    """The printed sheet, grey uint8, TEXTURE_PX_PER_SQUARE pixels a square, with its white margin."""
    side = TEXTURE_PX_PER_SQUARE
    columns, rows = board.squares
    if board.pattern == "charuco":
        sheet = board.charuco.generateImage((columns * side, rows * side))
    else:
        black = (np.add.outer(np.arange(rows), np.arange(columns)) % 2 == 0).astype(np.uint8)
        sheet = np.kron(255 * (1 - black), np.ones((side, side), np.uint8))
    sheet = cv2.copyMakeBorder(sheet, *[MARGIN_SQUARES * side] * 4, cv2.BORDER_CONSTANT, value=255)
    return (BLACK + sheet.astype(np.float32) * ((WHITE - BLACK) / 255)).astype(np.uint8)


class Studio:
    """Renders boards with one camera, with `supersample` x `supersample` rays per pixel, computed once."""

    def __init__(self, camera: Camera, supersample: int = 2) -> None:
        self.camera, self._supersample = camera, supersample
        # Rays change smoothly: splines between every 16th pixel have errors below 1e-4 pixels.
        sides = camera.height, camera.width
        knots = [np.linspace(-1, side, side // 16) for side in sides]
        rows, columns = np.meshgrid(*knots, indexing="ij")
        rays = camera.rays(np.column_stack([columns.ravel(), rows.ravel()])).reshape(*rows.shape, 3)
        at = [(np.arange(side * supersample) + 0.5) / supersample - 0.5 for side in sides]
        planes = [RectBivariateSpline(*knots, rays[..., axis])(*at) for axis in range(3)]
        self._rays = np.stack(planes, axis=-1).astype(np.float32)

    def photograph(
        self,
        board: Board,
        pose: Pose,
        rng: np.random.Generator,
        blur_px: float = 0.5,
        noise: float = 2.0,
        sheet: np.ndarray | None = None,
    ) -> np.ndarray:
        """Grey uint8 (H, W). blur_px: standard deviation of a Gaussian; noise: that of each pixel, grey values.

        `sheet` replaces the board's texture (same size).
        """
        sheet = texture(board) if sheet is None else sheet
        # Ray and board: t * ray = R p + T with p_z = 0, so p ~ R^T ray scaled to the plane.
        origin = -pose.rotation.T @ pose.translation_m
        towards = self._rays @ pose.rotation.astype(np.float32)
        with np.errstate(divide="ignore", invalid="ignore"):
            along = np.float32(-origin[2]) / towards[..., 2]
            on_board = origin[:2].astype(np.float32) + along[..., None] * towards[..., :2]
        on_board[~(along > 0)] = -1e6  # behind the camera or parallel to the board
        # Blur the print to a subpixel's footprint; otherwise edges aligned with the pixels are jagged.
        middle = board.size_m / 2
        nearby = pose.of(np.column_stack([middle + [[0, 0], [1e-3, 0], [0, 1e-3]], np.zeros(3)]))
        spread_px = np.linalg.norm(np.diff(self.camera.pixels(nearby), axis=0), axis=1).max()  # of 1 mm
        subpixel = TEXTURE_PX_PER_SQUARE / board.square_m * 1e-3 / spread_px / self._supersample
        sheet = cv2.GaussianBlur(sheet, (0, 0), max(subpixel / 2, 0.3))
        at = (on_board / np.float32(board.square_m) + MARGIN_SQUARES) * TEXTURE_PX_PER_SQUARE - 0.5
        sampled = cv2.remap(sheet, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=WALL)
        image = cv2.resize(
            sampled.astype(np.float32), (self.camera.width, self.camera.height), interpolation=cv2.INTER_AREA
        )
        if blur_px > 0:
            image = cv2.GaussianBlur(image, (0, 0), blur_px)
        image += rng.normal(0, noise, image.shape).astype(np.float32)
        return np.clip(np.round(image), 0, 255).astype(np.uint8)


def facing(board: Board, camera: Camera, pixel: np.ndarray, distance_m: float, turn_deg: np.ndarray) -> Pose:
    """A pose with the board's middle at a pixel: perpendicular to its ray, then turned by a rotation vector."""
    ray = camera.rays(np.asarray(pixel, float)[None])[0]
    to_ray = Rotation.align_vectors(ray[None], np.array([[0.0, 0.0, 1.0]]))[0]
    rotation = (to_ray * Rotation.from_rotvec(np.radians(turn_deg))).as_matrix()
    return Pose(rotation, distance_m * ray - rotation @ np.append(board.size_m / 2, 0))


def varied_poses(board: Board, camera: Camera, rng: np.random.Generator, count: int) -> list[Pose]:
    """Poses as advised: the board all over the image, near and far, tilted to all sides.

    The board moves from the middle towards the image's border as far as it stays inside; a ChArUco board may leave it
    by two squares.
    """
    size = np.array([camera.width, camera.height])
    out_m = (0.0 if board.pattern == "chessboard" else 2.0) * board.square_m
    corners = np.column_stack([np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * board.size_m, np.zeros(4)])
    towards_middle = np.sign(np.append(board.size_m / 2, 0) - corners)
    outline = corners + out_m * towards_middle
    poses: list[Pose] = []
    while len(poses) < count:
        side = rng.uniform(0, 2 * np.pi)
        direction = np.array([np.cos(side), np.sin(side)]) / max(abs(np.cos(side)), abs(np.sin(side)))
        lean = rng.uniform(0, 2 * np.pi)
        turn = np.append(rng.uniform(5, 45) * np.array([np.cos(lean), np.sin(lean)]), rng.uniform(-25, 25))
        distance = board.size_m[1] / rng.uniform(0.35, 0.8) * camera.matrix[1, 1] / camera.height
        for reach in np.linspace(1, 0, 21):  # share of the path from the middle to the border
            pixel = size / 2 * (1 + reach * direction)
            pose = facing(board, camera, np.clip(pixel, 0, size - 1), distance, turn)
            points = pose.of(outline)
            pixels = camera.pixels(points)
            if (points[:, 2] > 0.01).all() and (pixels > 3).all() and (pixels < size - 4).all():
                poses.append(pose)
                break
    return poses
