"""What one-stage detectors share: the cells of their outputs, and the removal of duplicates."""

from __future__ import annotations

import cv2
import numpy as np

STRIDES = (8, 16, 32)  # input pixels per cell of the three output maps


def grid(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Cells (N, 2) as (column, row) and strides (N,) of an input, in the order of the outputs: stride, row, column."""
    cells, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([columns, rows], axis=-1).reshape(-1, 2))
        strides.append(np.full(len(cells[-1]), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def suppress(boxes: np.ndarray, scores: np.ndarray, iou: float) -> np.ndarray:
    """Rows of the boxes (N, 4) xyxy, best first, without those that overlap a better one by more than `iou`."""
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    return np.asarray(cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), 0.0, iou), int).reshape(-1)
