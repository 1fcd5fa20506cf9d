"""Gaze-LLE's augmentations (Ryan et al. 2025, after Chong et al. 2020): Sample -> Sample, boxes and points follow."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from sf_ros.core.types import Box
from training.data.sample import Sample

CHANCE = 0.5  # of each augmentation
JITTER = 0.2  # of the head box's width and height, for each edge


def augment(sample: Sample, generator: np.random.Generator) -> Sample:
    """Crop, flip and jitter, each for half of the samples."""
    if generator.random() < CHANCE:
        sample = crop(sample, random_region(sample, generator))
    if generator.random() < CHANCE:
        sample = flip(sample)
    if generator.random() < CHANCE:
        sample = jitter(sample, generator.uniform(-JITTER, JITTER, 4))
    return sample


def random_region(sample: Sample, generator: np.random.Generator) -> Box:
    """A random region in whole pixels that holds every box and every annotated point of the image."""
    height, width = sample.image.shape[:2]
    xs = [e for b in sample.boxes for e in (b.x1, b.x2)] + [x * width for x, _ in sample.points_norm]
    ys = [e for b in sample.boxes for e in (b.y1, b.y2)] + [y * height for _, y in sample.points_norm]
    (x1, x2), (y1, y2) = _span(xs, width, generator), _span(ys, height, generator)
    return Box(x1, y1, x2, y2)


def _span(edges: list[float], length: int, generator: np.random.Generator) -> tuple[int, int]:
    """A random interval of whole pixels around the edges, within 0..length, at least a pixel long."""
    low = min(max(math.floor(min(edges, default=0.0)), 0), length - 1)
    high = max(min(math.ceil(max(edges, default=float(length))), length), low + 1)
    return int(generator.integers(0, low + 1)), int(generator.integers(high, length + 1))


def crop(sample: Sample, region: Box) -> Sample:
    """The part of the image in `region`, a box of whole pixels inside it."""
    x1, y1, x2, y2 = (int(edge) for edge in region.as_tuple())
    height, width = sample.image.shape[:2]
    return dataclasses.replace(
        sample,
        image=sample.image[y1:y2, x1:x2],
        boxes=tuple(Box(b.x1 - x1, b.y1 - y1, b.x2 - x1, b.y2 - y1) for b in sample.boxes),
        points_norm=tuple(((x * width - x1) / (x2 - x1), (y * height - y1) / (y2 - y1)) for x, y in sample.points_norm),
    )


def flip(sample: Sample) -> Sample:
    """The mirror image, left for right."""
    width = sample.image.shape[1]
    return dataclasses.replace(
        sample,
        image=np.ascontiguousarray(sample.image[:, ::-1]),
        boxes=tuple(Box(width - b.x2, b.y1, width - b.x1, b.y2) for b in sample.boxes),
        points_norm=tuple((1 - x, y) for x, y in sample.points_norm),
    )


def jitter(sample: Sample, shares: np.ndarray) -> Sample:
    """Move the four edges of each box by `shares` (4,) of its width and height; the image stays."""
    height, width = sample.image.shape[:2]
    boxes = []
    for box in sample.boxes:
        moves = shares * (box.width, box.height, box.width, box.height)
        moved = Box(*(float(edge + move) for edge, move in zip(box.as_tuple(), moves, strict=True)))
        boxes.append(moved.clipped(width, height) or box)
    return dataclasses.replace(sample, boxes=tuple(boxes))
