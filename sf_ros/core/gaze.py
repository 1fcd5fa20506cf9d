"""Gaze points and heatmaps: `encode` and `decode` are an inverse pair, up to one cell."""

from __future__ import annotations

import numpy as np


def encode(point_norm: tuple[float, float] | None, size: int, sigma: float) -> np.ndarray:
    """A (size, size) float32 map: a Gaussian of `sigma` cells with peak 1 at the cell that holds the point.

    The centre is int(point * size) and the Gaussian ends 3 sigma away, as in the reference code of Chong et al. 2020.
    None, or a point outside 0..1, gives a map of zeros (looking out of the picture).
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
