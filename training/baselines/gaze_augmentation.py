"""Gaze-LLE's augmentations (Ryan et al. 2025, after Chong et al. 2020): Sample -> Sample, boxes and points follow."""

from __future__ import annotations

import dataclasses

import numpy as np

from sf_ros.core.types import Box
from training.data.augment import crop, mirror, random_region
from training.data.sample import Sample

CHANCE = 0.5  # of each augmentation
JITTER = 0.2  # of the head box's width and height, for each edge


def augment(sample: Sample, generator: np.random.Generator) -> Sample:
    """Crop, mirror and jitter a sample, each with probability CHANCE."""
    if generator.random() < CHANCE:
        sample = crop(sample, random_region(sample, generator))
    if generator.random() < CHANCE:
        sample = mirror(sample)
    if generator.random() < CHANCE:
        sample = jitter(sample, generator.uniform(-JITTER, JITTER, 4))
    return sample


def jitter(sample: Sample, shares: np.ndarray) -> Sample:
    """Move the four edges of each box by `shares` (4,) of its width and height; the image does not change."""
    height, width = sample.image.shape[:2]
    boxes = []
    for box in sample.boxes:
        moves = shares * (box.width, box.height, box.width, box.height)
        moved = Box(*(float(edge + move) for edge, move in zip(box.as_tuple(), moves, strict=True)))
        boxes.append(moved.clipped(width, height) or box)
    return dataclasses.replace(sample, boxes=tuple(boxes))
