"""Augmentation of training samples: boxes and gaze points follow the pixels, labels stay valid.

No label names a side, so a mirrored image keeps its label. Only frame views are cropped, around every box and point: a
face or person view is a crop around its box already.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from training.data.sample import Sample

CHANCE = 0.5  # that a sample is changed, for each kind
STRENGTH = 0.3  # largest relative change of brightness, contrast and saturation
GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma of RGB (ITU-R BT.601)


def augment(sample: Sample, kinds: Sequence[str], generator: np.random.Generator) -> Sample:
    """Apply each of `kinds` (training.config.AUGMENTATIONS) with probability CHANCE; moments change alike."""
    for kind in kinds:
        if generator.random() >= CHANCE:
            continue
        if kind == "mirror":
            sample = mirror(sample)
        elif kind == "colour":
            sample = colour(sample, generator.uniform(1 - STRENGTH, 1 + STRENGTH, 3))
        elif TASKS[sample.task].view == "frame":
            sample = crop(sample, random_region(sample, generator))
    return sample


def random_region(sample: Sample, generator: np.random.Generator) -> Box:
    """A random region in whole pixels that contains every box and every annotated point."""
    height, width = sample.image.shape[:2]
    xs = [e for b in sample.boxes for e in (b.x1, b.x2)] + [x * width for x, _ in sample.points_norm]
    ys = [e for b in sample.boxes for e in (b.y1, b.y2)] + [y * height for _, y in sample.points_norm]
    (x1, x2), (y1, y2) = _span(xs, width, generator), _span(ys, height, generator)
    return Box(x1, y1, x2, y2)


def _span(edges: list[float], length: int, generator: np.random.Generator) -> tuple[int, int]:
    """A random interval of whole pixels around the edges, within 0..length, at least one pixel long."""
    low = min(max(math.floor(min(edges, default=0.0)), 0), length - 1)
    high = max(min(math.ceil(max(edges, default=float(length))), length), low + 1)
    return int(generator.integers(0, low + 1)), int(generator.integers(high, length + 1))


def crop(sample: Sample, region: Box) -> Sample:
    """The sample cropped to `region`, a box of whole pixels inside the image."""
    x1, y1, x2, y2 = (int(edge) for edge in region.as_tuple())
    height, width = sample.image.shape[:2]
    return dataclasses.replace(
        sample,
        image=sample.image[y1:y2, x1:x2],
        boxes=tuple(Box(b.x1 - x1, b.y1 - y1, b.x2 - x1, b.y2 - y1) for b in sample.boxes),
        points_norm=tuple(((x * width - x1) / (x2 - x1), (y * height - y1) / (y2 - y1)) for x, y in sample.points_norm),
    )


def mirror(sample: Sample) -> Sample:
    """The sample mirrored horizontally."""
    width = sample.image.shape[1]
    return dataclasses.replace(
        sample,
        image=np.ascontiguousarray(sample.image[:, ::-1]),
        boxes=tuple(Box(width - b.x2, b.y1, width - b.x1, b.y2) for b in sample.boxes),
        points_norm=tuple((1 - x, y) for x, y in sample.points_norm),
        moments=tuple(map(mirror, sample.moments)),
    )


def colour(sample: Sample, factors: np.ndarray) -> Sample:
    """Brightness, contrast (around the mean grey) and saturation (around each pixel's grey) times `factors` (3,)."""
    brightness, contrast, saturation = factors.astype(np.float32)
    image = sample.image.astype(np.float32) * brightness
    mean = (image @ GREY).mean()
    image = mean + contrast * (image - mean)
    grey = (image @ GREY)[..., None]
    image = grey + saturation * (image - grey)
    return dataclasses.replace(
        sample,
        image=image.clip(0, 255).round().astype(np.uint8),
        moments=tuple(colour(moment, factors) for moment in sample.moments),
    )
