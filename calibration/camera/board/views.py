"""A board in one image: position, size, tilt and blur, without knowing the camera."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import cv2
import numpy as np

from calibration.camera.board.board import Board, Corners

MIN_VIEWS = 8  # for a calibration
MAX_BLUR_PX = 2.0  # standard deviation of an edge's blur; at 2 px corners are off by 0.1 px, by more if moving
MIN_FORESHORTENING = 0.3  # short side of a square to its long side: cos of 72 degrees
MIN_EXTENT = 0.12  # square root of the share of the image that the board covers
BLUR_WINDOW_SQUARES, BLUR_WINDOW_PX = 0.35, (3, 15)  # half side of the window around a corner in which blur is measured
NORMAL_PEAK = np.sqrt(2 * np.pi)  # an edge of height 1 blurred by sigma has a maximum slope of 1 / (sigma * this)
OWN_VARIANCE = 1.0  # px^2 that the measurement adds: smoothing 1/2, differences 1/3, subpixel windows 1/6


class Refusal(Enum):
    """Why an image is not used, and the remedy."""

    NO_BOARD = (
        "no board found, or too little of it",
        "show all of a chessboard or a good part of a ChArUco board, near, sharp and evenly lit",
    )
    BLURRED = (
        "blurred",
        "hold the board still (or lay it down and move the camera), more light, shorter exposure, focus",
    )
    OBLIQUE = "too oblique", "tilt the board by 20 to 45 degrees, not more than 60"
    SMALL = "board too small", "go nearer, or print a larger board: it should fill a quarter of the image or more"

    @property
    def reason(self) -> str:
        return self.value[0]

    @property
    def remedy(self) -> str:
        return self.value[1]


class ViewsError(ValueError):
    """Views that cannot be used for a calibration; the message names the problem and the remedy."""


@dataclass(frozen=True)
class View:
    """Corners of a board in one image."""

    name: str
    size: tuple[int, int]  # width and height of the image, px
    points_m: np.ndarray  # (N, 3) on the board
    pixels: np.ndarray  # (N, 2)
    blur_px: float
    marker_m: float | None = None  # side of the markers, in units of the squares (ChArUco)

    @cached_property
    def _homography(self) -> np.ndarray:
        """Board (metres) -> image (pixels), neglecting lens distortion."""
        return cv2.findHomography(self.points_m[:, :2], self.pixels)[0]

    @cached_property
    def outline(self) -> np.ndarray:
        """The quadrilateral (4, 2) in pixels around the visible corners."""
        low, high = self.points_m[:, :2].min(axis=0), self.points_m[:, :2].max(axis=0)
        box = np.array([low, (high[0], low[1]), high, (low[0], high[1])])
        return cv2.perspectiveTransform(box[None], self._homography)[0]

    @property
    def extent(self) -> float:
        """Square root of the share of the image that the corners' convex hull covers."""
        hull = cv2.convexHull(self.pixels.astype(np.float32))
        return float(np.sqrt(cv2.contourArea(hull) / np.prod(self.size)))

    @property
    def foreshortening(self) -> float:
        """Ratio of a square's short side to its long side at the board's middle: about the cosine of the tilt."""
        step = np.ptp(self.points_m, axis=0).max() / 100
        middle = self.points_m[:, :2].mean(axis=0) + step * np.array([[0, 0], [1, 0], [0, 1]])
        pixels = cv2.perspectiveTransform(middle[None], self._homography)[0]
        long, short = np.linalg.svd(pixels[1:] - pixels[0], compute_uv=False)
        return float(short / long)

    @property
    def tilt(self) -> np.ndarray:
        """Direction in which the board comes nearer (2,): tangent of its tilt, times image width / focal length.

        The inverse homography's last row is the gradient of 1 / depth in the image, however the board is rotated.
        """
        nearness = np.linalg.inv(self._homography)[2]
        return nearness[:2] * self.size[0] / (nearness @ np.append(self.pixels.mean(axis=0), 1))

    @property
    def layout(self) -> np.ndarray:
        """Position (2), extent and tilt (2), scaled so that a distance of 0.1 makes a view worth adding."""
        return np.concatenate([self.pixels.mean(axis=0) / self.size, [self.extent], self.tilt / 2])

    @property
    def refusal(self) -> Refusal | None:
        """Why this view is not used, or None."""
        if self.extent < MIN_EXTENT:
            return Refusal.SMALL
        if self.foreshortening < MIN_FORESHORTENING:
            return Refusal.OBLIQUE
        return Refusal.BLURRED if self.blur_px > MAX_BLUR_PX else None


def find_view(board: Board, grey: np.ndarray, name: str) -> View | None:
    """The view of the board in a grey image (H, W) uint8; None if it is not found."""
    corners = board.find(grey)
    if corners is None:
        return None
    size = grey.shape[1], grey.shape[0]
    blur_px = edge_blur_px(grey, corners, board.square_m)
    return View(name, size, corners.points_m, corners.pixels, blur_px, corners.marker_m)


def edge_blur_px(grey: np.ndarray, corners: Corners, square_m: float) -> float:
    """Blur of the board's edges: standard deviation in pixels, in the worse of the board's two directions, median over
    the corners. 0.5 is a sharp image; motion blurs one direction only.

    grey: (H, W) uint8. An edge's width is its contrast divided by its maximum slope.
    """
    smooth = cv2.GaussianBlur(grey, (3, 3), 0).astype(np.float32)  # pixel noise would count as slope
    widths = []
    for (x, y), directions in zip(corners.pixels, corners.squares_px(square_m), strict=True):
        side = np.linalg.norm(directions, axis=1).min()
        reach = int(np.clip(BLUR_WINDOW_SQUARES * side, *BLUR_WINDOW_PX))
        window = cv2.getRectSubPix(smooth, (2 * reach + 1, 2 * reach + 1), (float(x), float(y)))
        slopes = np.stack(np.gradient(window)[::-1], axis=-1)  # (h, w, 2): along x, along y
        normals = directions[:, ::-1] * [1, -1] / np.linalg.norm(directions, axis=1, keepdims=True)
        steepest = np.abs(slopes @ normals.T).max(axis=(0, 1))
        widths.append(np.ptp(window) / (NORMAL_PEAK * np.maximum(steepest, 1e-6)).min())
    return float(np.sqrt(max(np.median(widths) ** 2 - OWN_VARIANCE, 0.0)))


def image_blur_px(grey: np.ndarray) -> float:
    """Blur of the sharpest edge in an image (H, W) uint8, for images in which no board is found."""
    smooth = cv2.GaussianBlur(grey, (3, 3), 0).astype(np.float32)
    steepest = np.hypot(*np.gradient(smooth)).max()
    width = np.ptp(smooth) / (NORMAL_PEAK * max(steepest, 1e-6))
    return float(np.sqrt(max(width**2 - OWN_VARIANCE, 0.0)))
