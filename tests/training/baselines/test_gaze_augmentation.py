"""Boxes and points follow the pixels through every augmentation."""

from __future__ import annotations

import numpy as np
import pytest

from sf_ros.core.types import Box
from training.baselines.gaze_augmentation import JITTER, augment, crop, flip, jitter, random_region
from training.data.sample import Sample

HEAD = Box(10, 6, 18, 16)
TARGET = (41, 25)  # pixel column and row


def painted() -> Sample:
    """A black image with a red head and one green pixel that is looked at."""
    image = np.zeros((36, 52, 3), np.uint8)
    image[6:16, 10:18] = (255, 0, 0)
    image[TARGET[1], TARGET[0]] = (0, 255, 0)
    return Sample("gaze", image, (HEAD,), points_norm=(((TARGET[0] + 0.5) / 52, (TARGET[1] + 0.5) / 36),))


def head_in_pixels(sample: Sample) -> Box:
    rows, columns = np.nonzero(sample.image[..., 0])
    return Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def target_in_pixels(sample: Sample) -> tuple[float, float]:
    """The middle of the green pixel, normalised."""
    (row,), (column,) = np.nonzero(sample.image[..., 1])
    height, width = sample.image.shape[:2]
    return (column + 0.5) / width, (row + 0.5) / height


def test_flipping_moves_box_and_point_with_the_pixels() -> None:
    sample = flip(painted())
    assert sample.boxes[0] == head_in_pixels(sample) == Box(34, 6, 42, 16)
    assert sample.points_norm[0] == pytest.approx(target_in_pixels(sample))
    assert sample.points_norm[0] != pytest.approx(painted().points_norm[0])


def test_flipping_twice_changes_nothing() -> None:
    sample = flip(flip(painted()))
    assert np.array_equal(sample.image, painted().image) and sample.boxes == painted().boxes
    assert sample.points_norm[0] == pytest.approx(painted().points_norm[0])


def test_cropping_moves_box_and_point_with_the_pixels() -> None:
    sample = crop(painted(), Box(7, 2, 45, 30))
    assert sample.image.shape == (28, 38, 3)
    assert sample.boxes[0] == head_in_pixels(sample) == Box(3, 4, 11, 14)
    assert sample.points_norm[0] == pytest.approx(target_in_pixels(sample))


def test_random_regions_keep_head_and_target_and_differ() -> None:
    generator, sizes = np.random.default_rng(0), set()
    for _ in range(50):
        sample = crop(painted(), random_region(painted(), generator))
        assert sample.boxes[0] == head_in_pixels(sample)
        assert head_in_pixels(sample).area == HEAD.area  # nothing of it is cut off
        assert sample.points_norm[0] == pytest.approx(target_in_pixels(sample))
        sizes.add(sample.image.shape)
    assert len(sizes) > 20


def test_a_head_that_reaches_out_of_the_image_and_a_target_on_its_edge_can_be_cropped() -> None:
    sample = Sample("gaze", np.zeros((20, 30, 3), np.uint8), (Box(-4, -3, 5, 6),), points_norm=((1.0, 1.0),))
    for seed in range(20):
        region = random_region(sample, np.random.default_rng(seed))
        assert (region.x1, region.y1, region.x2, region.y2) == (0, 0, 30, 20)


def test_jitter_moves_each_edge_by_its_share_of_the_size_and_stays_inside() -> None:
    sample = jitter(painted(), np.array([0.1, -0.2, 0.2, 0.1]))
    assert sample.boxes[0].as_tuple() == pytest.approx((10.8, 4.0, 19.6, 17.0))
    assert np.array_equal(sample.image, painted().image) and sample.points_norm == painted().points_norm
    edge = Sample("gaze", painted().image, (Box(0, 0, 10, 10),))
    assert jitter(edge, np.array([-0.2, -0.2, 0, 0])).boxes[0] == Box(0, 0, 10, 10)


def test_each_augmentation_comes_to_half_of_the_samples() -> None:
    generator = np.random.default_rng(1)
    made = [augment(painted(), generator) for _ in range(400)]
    cropped = np.mean([sample.image.shape != painted().image.shape for sample in made])
    jittered = np.mean([sample.boxes[0] != head_in_pixels(sample) for sample in made])
    flipped = np.mean([sample.points_norm[0][0] * sample.image.shape[1] < head_in_pixels(sample).x1 for sample in made])
    assert cropped == pytest.approx(0.5, abs=0.1)  # a region that is the whole image is rare
    assert jittered == pytest.approx(0.5, abs=0.1) and flipped == pytest.approx(0.5, abs=0.1)
    for sample in made:
        assert sample.points_norm[0] == pytest.approx(target_in_pixels(sample))
        moved = np.abs(np.subtract(sample.boxes[0].as_tuple(), head_in_pixels(sample).as_tuple()))
        assert (moved <= np.array([8, 10, 8, 10]) * JITTER + 1e-6).all()


def test_the_original_sample_is_left_alone() -> None:
    sample = painted()
    before = sample.image.copy()
    augment(sample, np.random.default_rng(2))
    assert np.array_equal(sample.image, before) and sample.boxes == (HEAD,)
