"""Gaze points and heatmaps: `encode` and `decode` are inverses up to one cell; `spread` is the uncertainty."""

from __future__ import annotations

import math

import numpy as np

SPREAD_HEAT = 0.2  # of the peak: fainter cells are background and would widen every map
# Share of its variance that a Gaussian keeps when cut off at SPREAD_HEAT of its peak.
_KEPT = 1 + SPREAD_HEAT * math.log(SPREAD_HEAT) / (1 - SPREAD_HEAT)


def encode(point_norm: tuple[float, float] | None, size: int, sigma: float) -> np.ndarray:
    """A (size, size) float32 map: a Gaussian of `sigma` cells with peak 1 at the cell that holds the point.

    The centre is int(point * size) and the Gaussian ends 3 sigma away, as in the reference code of Chong et al. 2020.
    None, or a point outside 0..1, gives a map of zeros (looking out of the image).
    """
    heatmap = np.zeros((size, size), np.float32)
    if point_norm is None or not all(0 <= p <= 1 for p in point_norm):
        return heatmap
    column, row = (min(int(p * size), size - 1) for p in point_norm)
    reach = int(3 * sigma)
    x = np.arange(size) - column
    y = np.arange(size) - row
    heatmap = np.exp(-(x[None, :] ** 2 + y[:, None] ** 2) / (2 * sigma**2)).astype(np.float32)
    heatmap[np.abs(y) > reach] = 0
    heatmap[:, np.abs(x) > reach] = 0
    return heatmap


def decode(heatmap: np.ndarray) -> tuple[tuple[float, float], float]:
    """The point in 0..1 (x, y) and value of the highest cell of a (size, size) map.

    The point is the middle of the cell; the benchmark's convention (the cell's corner) lives in the metrics.
    """
    row, column = np.unravel_index(int(np.argmax(heatmap)), heatmap.shape)
    point = ((column + 0.5) / heatmap.shape[1], (row + 0.5) / heatmap.shape[0])
    return (float(point[0]), float(point[1])), float(heatmap[row, column])


def spread(heatmap: np.ndarray, point_norm: tuple[float, float]) -> np.ndarray:
    """Second moments (2, 2) of a (size, size) map around a point, in squares of the image's width and height.

    Of a Gaussian they are its own covariance; a second peak widens them; they are never less than a cell's. A map holds
    what the model is unsure of and the Gaussian it was trained on, which is at least 3 of 64 cells wide.
    """
    rows, columns = heatmap.shape
    heat = np.where(heatmap >= SPREAD_HEAT * heatmap.max(), heatmap, 0).astype(float)
    x, y = (np.arange(columns) + 0.5) / columns - point_norm[0], (np.arange(rows) + 0.5) / rows - point_norm[1]
    across, both, down = heat.sum(0) @ x**2, y @ heat @ x, heat.sum(1) @ y**2
    cell = np.diag([1 / columns**2, 1 / rows**2]) / 12
    return np.array([[across, both], [both, down]]) / (max(float(heat.sum()), 1e-12) * _KEPT) + cell
