"""Calibration boards: chessboard and ChArUco, as printed and as found in an image."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cv2
import numpy as np

# Names of cv2.aruco.DICT_*: bits along a marker's side, number of markers.
Dictionary = Literal["4x4_50", "4x4_100", "4x4_250", "5x5_100", "5x5_250", "6x6_250", "apriltag_36h11"]
Pattern = Literal["chessboard", "charuco"]
MIN_CORNERS = 8  # of a ChArUco board that is partly visible
WINDOW_PX = (2, 8)  # smallest and largest half side of the window in which a corner is refined
WINDOW_SQUARES = 0.25  # half side of that window on a chessboard; on a ChArUco board it ends before the markers
REFINE_UNTIL = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 40, 1e-3)  # steps, px of the last step


class BoardError(ValueError):
    """A board that cannot exist or cannot be used; the message says which number is wrong."""


@dataclass(frozen=True)
class Corners:
    """Inner corners of a board in one image."""

    points_m: np.ndarray  # (N, 3) on the board: x right, y down from its top left outer corner, z = 0
    pixels: np.ndarray  # (N, 2); (0, 0) is the centre of the first pixel, as in OpenCV and ROS
    marker_m: float | None = None  # side of the markers, in units of the squares (ChArUco)

    def squares_px(self, square_m: float) -> np.ndarray:
        """Sides of the square at each corner, along the board's x and y: (N, 2, 2) pixels."""
        to_pixels, _ = cv2.findHomography(self.points_m[:, :2], self.pixels)
        ends_m = self.points_m[:, None, :2] + square_m * np.array([[0, 0], [1, 0], [0, 1]])
        ends_px = cv2.perspectiveTransform(ends_m.reshape(1, -1, 2), to_pixels).reshape(-1, 3, 2)
        return np.asarray(ends_px[:, 1:] - ends_px[:, :1])


@dataclass(frozen=True)
class Board:
    """A printed board. The top left square is black. Squares are counted, not the corners between them."""

    pattern: Pattern = "charuco"  # a ChArUco board may be partly visible, so it can reach the image's edges
    squares: tuple[int, int] = (10, 7)  # columns and rows of squares, black and white
    square_mm: float = 25.0  # side of a square, measured on the print
    marker_mm: float = 18.0  # side of a marker's black frame (ChArUco), measured on the print
    dictionary: Dictionary = "4x4_50"  # of the markers (ChArUco)

    def __post_init__(self) -> None:
        columns, rows = self.squares
        if min(columns, rows) < 3:
            raise BoardError(f"A board of {columns}x{rows} squares is too small; the minimum is 3x3, 10x7 is common.")
        if self.square_mm <= 0:
            raise BoardError(f"Squares of {self.square_mm:g} mm; measure one on the print.")
        if self.pattern == "charuco":
            if not 0 < self.marker_mm < self.square_mm:
                raise BoardError(
                    f"Markers of {self.marker_mm:g} mm do not fit squares of {self.square_mm:g} mm: "
                    "measure both on the print (a marker's side is that of its black frame)."
                )
            available = len(load_dictionary(self.dictionary).bytesList)
            if columns * rows // 2 > available:
                raise BoardError(
                    f"A board of {columns}x{rows} squares has {columns * rows // 2} markers, "
                    f"dictionary {self.dictionary} has only {available}; choose a larger one."
                )

    def __str__(self) -> str:
        text = f"{self.pattern} of {self.squares[0]}x{self.squares[1]} squares of {self.square_mm:g} mm"
        return text if self.pattern == "chessboard" else f"{text}, markers {self.dictionary} of {self.marker_mm:g} mm"

    @property
    def square_m(self) -> float:
        """Side of a square in metres."""
        return self.square_mm / 1000

    @property
    def inner(self) -> tuple[int, int]:
        """Columns and rows of inner corners."""
        return self.squares[0] - 1, self.squares[1] - 1

    @property
    def size_m(self) -> np.ndarray:
        """Width and height of all squares together, metres."""
        return np.array(self.squares) * self.square_m

    @property
    def rotation_symmetric(self) -> bool:
        """Whether the board looks the same upside down: its pose is ambiguous."""
        return self.pattern == "chessboard" and sum(self.squares) % 2 == 0

    @property
    def corners_m(self) -> np.ndarray:
        """All inner corners (N, 3) in metres, row by row."""
        columns, rows = np.meshgrid(*(np.arange(1, count) for count in self.squares))
        return np.stack([columns.ravel(), rows.ravel(), np.zeros(columns.size)], axis=1) * self.square_m

    @cached_property
    def charuco(self) -> cv2.aruco.CharucoBoard:
        """The same board for OpenCV, in metres."""
        sides = self.square_m, self.marker_mm / 1000
        return cv2.aruco.CharucoBoard(self.squares, *sides, load_dictionary(self.dictionary))

    @cached_property
    def _detector(self) -> cv2.aruco.CharucoDetector:
        detector = cv2.aruco.CharucoDetector(self.charuco)
        parameters = cv2.aruco.DetectorParameters()
        parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX  # without it, markers appear too small
        detector.setDetectorParameters(parameters)
        return detector

    def find(self, grey: np.ndarray) -> Corners | None:
        """The board's inner corners in a grey image (H, W) uint8; None if it is not found or too little is visible."""
        corners = self._find_charuco(grey) if self.pattern == "charuco" else self._find_chessboard(grey)
        if corners is None:
            return None
        # Detectors extrapolate corners beyond the image's edge.
        inside = ((corners.pixels > 0) & (corners.pixels < np.array(grey.shape[::-1]) - 1)).all(axis=1)
        if inside.sum() < MIN_CORNERS:
            return None
        visible = dataclasses.replace(corners, points_m=corners.points_m[inside], pixels=corners.pixels[inside])
        return dataclasses.replace(visible, pixels=self._refined(grey, visible))

    def _refined(self, grey: np.ndarray, corners: Corners) -> np.ndarray:
        """Pixels (N, 2) where the edges around each corner meet."""
        gap = (1 - self.marker_mm / self.square_mm) / 2 if self.pattern == "charuco" else WINDOW_SQUARES
        pixels = corners.pixels.astype(np.float32)[:, None]
        distances = np.linalg.norm(pixels - pixels[:, 0], axis=2) + np.diag(np.full(len(pixels), np.inf))
        nearest = distances.min(axis=1)  # about a square; more where neighbours are missing
        windows = np.clip(gap * np.minimum(nearest, np.median(nearest)), *WINDOW_PX).astype(int)
        refined = [
            cv2.cornerSubPix(grey, pixel[None].copy(), (window, window), (-1, -1), REFINE_UNTIL)
            for pixel, window in zip(pixels, windows.tolist(), strict=True)
        ]
        return np.concatenate(refined).reshape(-1, 2).astype(float)

    def _find_charuco(self, grey: np.ndarray) -> Corners | None:
        pixels, ids, markers, _ = self._detector.detectBoard(grey)
        if ids is None or len(ids) < MIN_CORNERS or self.charuco.checkCharucoCornersCollinear(ids):
            return None
        points, pixels = self.corners_m[ids.ravel()], pixels.reshape(-1, 2).astype(float)
        to_board, _ = cv2.findHomography(pixels, points[:, :2])
        outlines = cv2.perspectiveTransform(np.concatenate(markers).reshape(1, -1, 2), to_board).reshape(-1, 4, 2)
        sides = np.linalg.norm(outlines - np.roll(outlines, 1, axis=1), axis=2)
        return Corners(points, pixels, float(np.median(sides)))

    def _find_chessboard(self, grey: np.ndarray) -> Corners | None:
        success, pixels = cv2.findChessboardCornersSB(grey, self.inner, flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
        if not success:
            return None
        pixels = pixels.reshape(-1, 2).astype(float)
        if not self.rotation_symmetric and self._first_square(grey, pixels) > self._first_square(grey, pixels[::-1]):
            pixels = pixels[::-1]  # found upside down: the square inside the first corner must be black
        return Corners(self.corners_m, pixels)

    def _first_square(self, grey: np.ndarray, pixels: np.ndarray) -> float:
        """Grey value at the middle of the square between the first four corners."""
        columns = self.inner[0]
        middle = pixels[[0, 1, columns, columns + 1]].mean(axis=0)
        return float(cv2.getRectSubPix(grey, (3, 3), tuple(middle.tolist())).mean())


def load_dictionary(name: Dictionary) -> cv2.aruco.Dictionary:
    """OpenCV's dictionary of markers."""
    return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f"DICT_{name.upper()}"))
