"""A frame and boxes -> the arrays a model sees: the only resizing, cropping, normalisation and box marking."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from sf_ros.core.config import EncoderConfig
from sf_ros.core.cues import MAX_BOXES, Task
from sf_ros.core.types import Box

PAD = 114  # grey of what lies outside the image
UPPER_BODY = 0.55  # share of a standing person's box height from head to hip; part of the training contract


def view(image: np.ndarray, task: Task, boxes: Sequence[Box], size: int) -> np.ndarray:
    """The view of a task: RGB uint8 (H, W, 3) -> RGB uint8 (size, size, 3).

    A frame view is the whole image squashed to a square, so that boxes and points map by scale alone. Face and person
    views are square crops around boxes[0], padded, never stretched. ValueError when a crop has no box.
    """
    if task.view == "frame":
        return frame_view(image, size)
    if not boxes:
        raise ValueError(f"The {task.view} view of '{task.name}' needs a box, found none.")
    return crop(image, square(boxes[0], task), size)


def frame_view(image: np.ndarray, size: int) -> np.ndarray:
    """The whole image squashed to a square: RGB uint8 (H, W, 3) -> RGB uint8 (size, size, 3)."""
    return resize(image, size, size)


def square(box: Box, task: Task) -> Box:
    """The square region around a face or person box for a task; it may reach outside the image."""
    if task.region == "upper":
        side = max(box.width, UPPER_BODY * box.height)
        side_out = side * task.margin
        x, top = box.center[0], box.y1 - (side_out - side) / 2
        return Box(x - side_out / 2, top, x + side_out / 2, top + side_out)
    side = max(box.width, box.height) * task.margin
    x, y = box.center
    return Box(x - side / 2, y - side / 2, x + side / 2, y + side / 2)


def crop(image: np.ndarray, region: Box, size: int) -> np.ndarray:
    """Cut `region` out of an image (H, W, 3), filling what lies outside with PAD, and resize to (size, size, 3)."""
    height, width = image.shape[:2]
    x1, y1 = round(region.x1), round(region.y1)
    x2, y2 = max(round(region.x2), x1 + 1), max(round(region.y2), y1 + 1)
    inside = image[max(y1, 0) : max(min(y2, height), 0), max(x1, 0) : max(min(x2, width), 0)]
    if inside.shape[0] == 0 or inside.shape[1] == 0:
        return np.full((size, size, 3), PAD, np.uint8)
    if inside.shape[:2] != (y2 - y1, x2 - x1):
        top, left = max(-y1, 0), max(-x1, 0)
        padded = np.full((y2 - y1, x2 - x1, 3), PAD, np.uint8)
        padded[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
        inside = padded
    return resize(inside, size, size)


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Area averaging when shrinking, bilinear when growing.

    An image of even sides at least 4 times the target's is halved first, which takes half the time and gives the same
    average except at area boundaries.
    """
    shrinks = image.shape[0] > height or image.shape[1] > width
    while min(image.shape[0] / height, image.shape[1] / width) >= 4 and not any(side % 2 for side in image.shape[:2]):
        half = image.shape[1] // 2, image.shape[0] // 2
        image = cv2.resize(image, half, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def normalise(views: np.ndarray, encoder: EncoderConfig) -> np.ndarray:
    """RGB uint8 (B, S, S, 3) -> float32 (B, 3, S, S) with the encoder's mean and standard deviation."""
    mean, scale = normalisation(encoder)
    return np.ascontiguousarray(((views.astype(np.float32) - mean) * scale).transpose(0, 3, 1, 2))


def normalisation(encoder: EncoderConfig) -> tuple[np.ndarray, np.ndarray]:
    """Mean to subtract from uint8 values and scale to multiply by, float32 (3,) each."""
    return np.asarray(encoder.mean, np.float32) * 255, 1 / (np.asarray(encoder.std, np.float32) * 255)


def box_mask(boxes: Sequence[Box], width: int, height: int, grid: int) -> np.ndarray:
    """Which patches of a frame view intersect any of the boxes: bool (grid * grid,) in raster order.

    Edges go outward (floor, ceil), so that even the smallest box marks a patch (paper section 3.4). Boxes are pixels of
    the (height, width) image; what lies outside is clipped, boxes fully outside mark nothing.
    """
    mask = np.zeros((grid, grid), bool)
    for box in boxes:
        inside = box.clipped(width, height)
        if inside is None:
            continue
        x1, x2 = math.floor(inside.x1 / width * grid), math.ceil(inside.x2 / width * grid)
        y1, y2 = math.floor(inside.y1 / height * grid), math.ceil(inside.y2 / height * grid)
        mask[y1:y2, x1:x2] = True
    return mask.reshape(-1)


def box_coordinates(boxes: Sequence[Box], width: int, height: int) -> np.ndarray:
    """Boxes of a (height, width) image as float32 (MAX_BOXES, 4): x1, y1, x2, y2 in 0..1 of width and height.

    What lies outside is clipped; rows without a box, and boxes fully outside, are zeros. ValueError for too many boxes.
    """
    if len(boxes) > MAX_BOXES:
        raise ValueError(f"{len(boxes)} boxes; at most {MAX_BOXES} can be marked in one view.")
    coordinates = np.zeros((MAX_BOXES, 4), np.float32)
    for row, box in zip(coordinates, boxes, strict=False):
        inside = box.clipped(width, height)
        if inside is not None:
            row[:] = np.divide(inside.as_tuple(), (width, height, width, height))
    return coordinates
