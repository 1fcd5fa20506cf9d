"""A board seen in one picture: where, how large, how tilted and how sharp, before anything is known of the camera."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import cv2
import numpy as np

from calibration.camera.blur import edge_blur_px
from calibration.camera.boards import Board

MAX_BLUR_PX = 2.0  # standard deviation of an edge's blur; at 2 px corners are off by 0.1 px, by more if moving
MIN_FORESHORTENING = 0.3  # short side of a square to its long side: cos of 72 degrees
MIN_EXTENT = 0.12  # root of the share of the picture that the board covers


class Refusal(Enum):
    """Why a picture is not used: what is wrong, and what to do about it."""

    NO_BOARD = (
        "no board found, or too little of it",
        "show all of a chessboard or a good part of a ChArUco board, near, sharp and evenly lit",
    )
    BLURRED = (
        "blurred",
        "hold the board still (or lay it down and move the camera), more light, shorter exposure, focus",
    )
    OBLIQUE = "too oblique", "tilt the board by 20 to 45 degrees, not more than 60"
    SMALL = "board too small", "go nearer, or print a larger board: it should fill a quarter of the picture or more"

    @property
    def what(self) -> str:
        return self.value[0]

    @property
    def remedy(self) -> str:
        return self.value[1]


class ViewsError(ValueError):
    """Views that no calibration can rest on: says what is wrong with them and what to do."""


@dataclass(frozen=True)
class View:
    """Corners of a board in one picture of width x height pixels."""

    name: str
    size: tuple[int, int]  # width and height of the picture, px
    points_m: np.ndarray  # (N, 3) on the board
    pixels: np.ndarray  # (N, 2)
    blur_px: float
    marker_m: float | None = None  # side of the markers, measured by the squares (ChArUco)

    @cached_property
    def _homography(self) -> np.ndarray:
        """Board (metres) -> picture (pixels), as far as a plane through a lens without distortion goes."""
        return cv2.findHomography(self.points_m[:, :2], self.pixels)[0]

    @cached_property
    def outline(self) -> np.ndarray:
        """The quadrilateral (4, 2) in pixels around the corners that are seen."""
        low, high = self.points_m[:, :2].min(axis=0), self.points_m[:, :2].max(axis=0)
        box = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
        return cv2.perspectiveTransform(box[None], self._homography)[0]

    @property
    def extent(self) -> float:
        """Root of the share of the picture that the corners' convex hull covers."""
        hull = cv2.convexHull(self.pixels.astype(np.float32))
        return float(np.sqrt(cv2.contourArea(hull) / np.prod(self.size)))

    @property
    def foreshortening(self) -> float:
        """Short side of a square to its long side at the board's middle: about the cosine of the board's tilt."""
        step = np.ptp(self.points_m, axis=0).max() / 100
        middle = self.points_m[:, :2].mean(axis=0) + step * np.array([[0, 0], [1, 0], [0, 1]])
        at = cv2.perspectiveTransform(middle[None], self._homography)[0]
        long, short = np.linalg.svd(at[1:] - at[0], compute_uv=False)
        return float(short / long)

    @property
    def tilt(self) -> np.ndarray:
        """Towards where the board comes nearer (2,): the tangent of its tilt, times picture width / focal length.

        The inverse homography's last row says how 1 / depth changes over the picture, whichever way up the board is.
        """
        nearness = np.linalg.inv(self._homography)[2]
        return nearness[:2] * self.size[0] / (nearness @ np.append(self.pixels.mean(axis=0), 1))

    @property
    def layout(self) -> np.ndarray:
        """Position (2), extent and tilt (2), scaled so that a distance of 0.1 is a difference that calibration uses."""
        return np.concatenate([self.pixels.mean(axis=0) / self.size, [self.extent], self.tilt / 2])

    @property
    def refusal(self) -> Refusal | None:
        """Why this view is no good, or None."""
        if self.extent < MIN_EXTENT:
            return Refusal.SMALL
        if self.foreshortening < MIN_FORESHORTENING:
            return Refusal.OBLIQUE
        return Refusal.BLURRED if self.blur_px > MAX_BLUR_PX else None


def view_of(board: Board, grey: np.ndarray, name: str) -> View | None:
    """What a grey picture (H, W) uint8 shows of the board; None where it is not found."""
    corners = board.find(grey)
    if corners is None:
        return None
    size = grey.shape[1], grey.shape[0]
    blur_px = edge_blur_px(grey, corners, board.square_m)
    return View(name, size, corners.points_m, corners.pixels, blur_px, corners.marker_m)
