"""Boxes and points follow the pixels through every augmentation."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core.types import Box
from tests.training.data.test_augment import HEAD, head_in_pixels, painted, target_in_pixels
from training.baselines.gaze_augmentation import JITTER, augment, jitter
from training.data.sample import Sample


def test_jitter_moves_edges_within_the_image() -> None:
    sample = jitter(painted(), np.array([0.1, -0.2, 0.2, 0.1]))
    assert sample.boxes[0].as_tuple() == pytest.approx((10.8, 4.0, 19.6, 17.0))
    assert np.array_equal(sample.image, painted().image) and sample.points_norm == painted().points_norm
    edge = Sample("gaze", painted().image, (Box(0, 0, 10, 10),))
    assert jitter(edge, np.array([-0.2, -0.2, 0, 0])).boxes[0] == Box(0, 0, 10, 10)


def test_each_augmentation_affects_half_of_the_samples() -> None:
    generator = np.random.default_rng(1)
    made = [augment(painted(), generator) for _ in range(400)]
    cropped = np.mean([sample.image.shape != painted().image.shape for sample in made])
    jittered = np.mean([sample.boxes[0] != head_in_pixels(sample) for sample in made])
    mirrored = np.mean(
        [sample.points_norm[0][0] * sample.image.shape[1] < head_in_pixels(sample).x1 for sample in made]
    )
    assert cropped == pytest.approx(0.5, abs=0.1)  # a region that is the whole image is rare
    assert jittered == pytest.approx(0.5, abs=0.1) and mirrored == pytest.approx(0.5, abs=0.1)
    for sample in made:
        assert sample.points_norm[0] == pytest.approx(target_in_pixels(sample))
        moved = np.abs(np.subtract(sample.boxes[0].as_tuple(), head_in_pixels(sample).as_tuple()))
        assert (moved <= np.array([8, 10, 8, 10]) * JITTER + 1e-6).all()


def test_augmentation_leaves_the_original_unchanged() -> None:
    sample = painted()
    before = sample.image.copy()
    augment(sample, np.random.default_rng(2))
    assert np.array_equal(sample.image, before) and sample.boxes == (HEAD,)
