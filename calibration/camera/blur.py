"""How sharp a picture is where it matters: at the corners of the board."""

from __future__ import annotations

import cv2
import numpy as np

from calibration.camera.boards import Corners

WINDOW_SQUARES, WINDOW_PX = 0.35, (3, 15)  # half side of the window around a corner
NORMAL_PEAK = np.sqrt(2 * np.pi)  # an edge of height 1 blurred by sigma has a slope of 1 / (sigma * this) at most
OWN_VARIANCE = 1.0  # square pixels that the measurement adds: smoothing 1/2, differences 1/3, subpixel windows 1/6


def edge_blur_px(grey: np.ndarray, corners: Corners, square_m: float) -> float:
    """Standard deviation of the blur of the board's edges in pixels, of the worse of its two directions; the median
    over the corners. 0.5 is a sharp picture; motion blurs one direction only.

    grey: (H, W) uint8. An edge's contrast over its steepest slope is its width.
    """
    smooth = cv2.GaussianBlur(grey, (3, 3), 0).astype(np.float32)  # a pixel's noise is no slope
    widths = []
    for (x, y), directions in zip(corners.pixels, corners.squares_px(square_m), strict=True):
        side = np.linalg.norm(directions, axis=1).min()
        reach = int(np.clip(WINDOW_SQUARES * side, *WINDOW_PX))
        window = cv2.getRectSubPix(smooth, (2 * reach + 1, 2 * reach + 1), (float(x), float(y)))
        slopes = np.stack(np.gradient(window)[::-1], axis=-1)  # (h, w, 2): along x, along y
        normals = directions[:, ::-1] * [1, -1] / np.linalg.norm(directions, axis=1, keepdims=True)
        steepest = np.abs(slopes @ normals.T).max(axis=(0, 1))
        widths.append(np.ptp(window) / (NORMAL_PEAK * np.maximum(steepest, 1e-6)).min())
    return float(np.sqrt(max(np.median(widths) ** 2 - OWN_VARIANCE, 0.0)))


def picture_blur_px(grey: np.ndarray) -> float:
    """The same of the sharpest of all edges in a picture (H, W) uint8: what is left when no corners are found."""
    smooth = cv2.GaussianBlur(grey, (3, 3), 0).astype(np.float32)
    steepest = np.hypot(*np.gradient(smooth)).max()
    width = np.ptp(smooth) / (NORMAL_PEAK * max(steepest, 1e-6))
    return float(np.sqrt(max(width**2 - OWN_VARIANCE, 0.0)))
