"""Calibration boards: chessboard and ChArUco, as they are printed and as they are found in a picture."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import cv2
import numpy as np

# Names of cv2.aruco.DICT_*: bits of a marker's side, and how many markers there are.
Dictionary = Literal["4x4_50", "4x4_100", "4x4_250", "5x5_100", "5x5_250", "6x6_250", "apriltag_36h11"]
Pattern = Literal["chessboard", "charuco"]
MIN_CORNERS = 8  # of a ChArUco board that is seen in part
WINDOW_PX = (2, 8)  # half side of the window in which a corner is refined, at least and at most
WINDOW_SQUARES = 0.25  # half side of that window on a chessboard; on a ChArUco board it ends before the markers
REFINED = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 40, 1e-3)  # steps, and px of the last one


class BoardError(ValueError):
    """A board that cannot exist or cannot be used: says which number is wrong."""


@dataclass(frozen=True)
class Corners:
    """Inner corners of a board in one picture."""

    points_m: np.ndarray  # (N, 3) on the board: x right, y down from its top left outer corner, z = 0 away from us
    pixels: np.ndarray  # (N, 2); (0, 0) is the centre of the first pixel, as OpenCV and ROS have it
    marker_m: float | None = None  # side of the markers, measured by the squares (ChArUco)

    def squares_px(self, square_m: float) -> np.ndarray:
        """Sides of the square at each corner, to the right and downwards on the board: (N, 2, 2) pixels."""
        board, _ = cv2.findHomography(self.points_m[:, :2], self.pixels)
        at = self.points_m[:, None, :2] + square_m * np.array([[0, 0], [1, 0], [0, 1]])
        seen = cv2.perspectiveTransform(at.reshape(1, -1, 2), board).reshape(-1, 3, 2)
        return np.asarray(seen[:, 1:] - seen[:, :1])


@dataclass(frozen=True)
class Board:
    """A printed board. The top left square is black; squares are counted, not the corners between them."""

    pattern: Pattern = "charuco"  # a ChArUco board may be seen in part, so it reaches the picture's edges
    squares: tuple[int, int] = (10, 7)  # columns and rows of squares, black and white
    square_mm: float = 25.0  # side of a square, measured on the print
    marker_mm: float = 18.0  # side of a marker's black frame (ChArUco), measured on the print
    dictionary: Dictionary = "4x4_50"  # of the markers (ChArUco)

    def __post_init__(self) -> None:
        columns, rows = self.squares
        if min(columns, rows) < 3:
            raise BoardError(f"A board of {columns}x{rows} squares is too small; 3x3 is the least, 10x7 is usual.")
        if self.square_mm <= 0:
            raise BoardError(f"Squares of {self.square_mm:g} mm; measure one on the print.")
        if self.pattern == "charuco":
            if not 0 < self.marker_mm < self.square_mm:
                raise BoardError(
                    f"Markers of {self.marker_mm:g} mm do not fit squares of {self.square_mm:g} mm: "
                    "measure both on the print (a marker's side is that of its black frame)."
                )
            known = len(dictionary_of(self.dictionary).bytesList)
            if columns * rows // 2 > known:
                raise BoardError(
                    f"A board of {columns}x{rows} squares has {columns * rows // 2} markers, "
                    f"dictionary {self.dictionary} only {known}; take one with more."
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
    def turns_unseen(self) -> bool:
        """Whether the board looks the same upside down, so that its pose is one of two."""
        return self.pattern == "chessboard" and sum(self.squares) % 2 == 0

    @property
    def corners_m(self) -> np.ndarray:
        """All inner corners (N, 3) in metres, row by row."""
        columns, rows = np.meshgrid(*(np.arange(1, count) for count in self.squares))
        return np.stack([columns.ravel(), rows.ravel(), np.zeros(columns.size)], axis=1) * self.square_m

    @cached_property
    def charuco(self) -> cv2.aruco.CharucoBoard:
        """OpenCV's ChArUco board of these numbers, in metres."""
        sides = self.square_m, self.marker_mm / 1000
        return cv2.aruco.CharucoBoard(self.squares, *sides, dictionary_of(self.dictionary))

    @cached_property
    def _detector(self) -> cv2.aruco.CharucoDetector:
        detector = cv2.aruco.CharucoDetector(self.charuco)
        parameters = cv2.aruco.DetectorParameters()
        parameters.cornerRefinementMethod = cv2.aruco.CORNER_REFINE_SUBPIX  # otherwise markers seem too small
        detector.setDetectorParameters(parameters)
        return detector

    def find(self, grey: np.ndarray) -> Corners | None:
        """The board's inner corners in a grey picture (H, W) uint8; None where it is not, or too little of it."""
        found = self._find_charuco(grey) if self.pattern == "charuco" else self._find_chessboard(grey)
        if found is None:
            return None
        # Detectors also tell corners that lie beyond the edge, by where the others are.
        inside = ((found.pixels > 0) & (found.pixels < np.array(grey.shape[::-1]) - 1)).all(axis=1)
        if inside.sum() < MIN_CORNERS:
            return None
        seen = dataclasses.replace(found, points_m=found.points_m[inside], pixels=found.pixels[inside])
        return dataclasses.replace(seen, pixels=self._refined(grey, seen))

    def _refined(self, grey: np.ndarray, corners: Corners) -> np.ndarray:
        """Pixels (N, 2) where the edges around each corner meet."""
        gap = (1 - self.marker_mm / self.square_mm) / 2 if self.pattern == "charuco" else WINDOW_SQUARES
        pixels = corners.pixels.astype(np.float32)[:, None]
        apart = np.linalg.norm(pixels - pixels[:, 0], axis=2) + np.diag(np.full(len(pixels), np.inf))
        nearest = apart.min(axis=1)  # about a square; more where the neighbours are missing
        windows = np.clip(gap * np.minimum(nearest, np.median(nearest)), *WINDOW_PX).astype(int)
        refined = [
            cv2.cornerSubPix(grey, pixel[None].copy(), (window, window), (-1, -1), REFINED)
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
        found, pixels = cv2.findChessboardCornersSB(grey, self.inner, flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
        if not found:
            return None
        pixels = pixels.reshape(-1, 2).astype(float)
        if not self.turns_unseen and self._first_square(grey, pixels) > self._first_square(grey, pixels[::-1]):
            pixels = pixels[::-1]  # it was read upside down: the square inside the first corner is black
        return Corners(self.corners_m, pixels)

    def _first_square(self, grey: np.ndarray, pixels: np.ndarray) -> float:
        """Grey value at the middle of the square between the first four corners."""
        columns = self.inner[0]
        middle = pixels[[0, 1, columns, columns + 1]].mean(axis=0)
        return float(cv2.getRectSubPix(grey, (3, 3), tuple(middle.tolist())).mean())


def dictionary_of(name: Dictionary) -> cv2.aruco.Dictionary:
    """OpenCV's dictionary of markers of that name."""
    return cv2.aruco.getPredefinedDictionary(getattr(cv2.aruco, f"DICT_{name.upper()}"))
