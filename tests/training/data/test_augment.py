"""Augmentation: boxes and points follow the pixels, labels stay valid."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from tests.tiny_models import CONFIG
from tests.training.data.test_cache import Images
from training.config import AUGMENTATIONS
from training.data.augment import augment, colour, crop, mirror, random_region
from training.data.sample import Sample
from training.data.task_data import LiveData

HEAD = Box(10, 6, 18, 16)
TARGET = (41, 25)  # pixel column and row


def painted() -> Sample:
    """A black image with a red head and a green pixel as its gaze target."""
    image = np.zeros((36, 52, 3), np.uint8)
    image[6:16, 10:18] = (255, 0, 0)
    image[TARGET[1], TARGET[0]] = (0, 255, 0)
    return Sample("gaze", image, (HEAD,), points_norm=(((TARGET[0] + 0.5) / 52, (TARGET[1] + 0.5) / 36),))


def head_in_pixels(sample: Sample) -> Box:
    rows, columns = np.nonzero(sample.image[..., 0])
    return Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def target_in_pixels(sample: Sample) -> tuple[float, float]:
    """The centre of the green pixel, normalised."""
    (row,), (column,) = np.nonzero(sample.image[..., 1])
    height, width = sample.image.shape[:2]
    return (column + 0.5) / width, (row + 0.5) / height


def test_mirroring_moves_box_and_point_with_the_pixels() -> None:
    sample = mirror(painted())
    assert sample.boxes[0] == head_in_pixels(sample) == Box(34, 6, 42, 16)
    assert sample.points_norm[0] == pytest.approx(target_in_pixels(sample))
    assert sample.points_norm[0] != pytest.approx(painted().points_norm[0])


def test_mirroring_twice_changes_nothing() -> None:
    sample = mirror(mirror(painted()))
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
        assert head_in_pixels(sample).area == HEAD.area  # nothing is cropped
        assert sample.points_norm[0] == pytest.approx(target_in_pixels(sample))
        sizes.add(sample.image.shape)
    assert len(sizes) > 20


def test_cropping_handles_boxes_beyond_the_edge() -> None:
    sample = Sample("gaze", np.zeros((20, 30, 3), np.uint8), (Box(-4, -3, 5, 6),), points_norm=((1.0, 1.0),))
    for seed in range(20):
        region = random_region(sample, np.random.default_rng(seed))
        assert (region.x1, region.y1, region.x2, region.y2) == (0, 0, 30, 20)


def test_no_label_or_prompt_names_a_side() -> None:
    for spec in TASKS.values():
        assert not re.search(r"\b(left|right)\b", " ".join((*spec.labels, spec.prompt)), re.IGNORECASE), spec.name


def test_colour_changes_worked_by_hand() -> None:
    image = np.array([[[100, 100, 100], [50, 50, 50]]], np.uint8)
    sample = Sample("expression", image)
    assert colour(sample, np.array([1.2, 1, 1])).image[0, :, 0].tolist() == [120, 60]
    assert colour(sample, np.array([1, 2.0, 1])).image[0, :, 0].tolist() == [125, 25]  # twice as far from 75
    assert np.array_equal(colour(sample, np.array([1, 1, 5.0])).image, image)  # grey has no saturation
    red = Sample("expression", np.array([[[100, 0, 0]]], np.uint8))
    assert colour(red, np.array([1, 1, 0.0])).image[0, 0].tolist() == [30, 30, 30]  # its grey: 0.299 of red
    assert colour(red, np.array([3.0, 1, 1])).image[0, 0].tolist() == [255, 0, 0]
    assert image[0, 0, 0] == 100


@pytest.mark.parametrize("task", TASKS)
def test_only_frame_views_are_cropped(task: str) -> None:
    sample = dataclasses.replace(painted(), task=task)
    shapes = {augment(sample, ("crop",), np.random.default_rng(seed)).image.shape for seed in range(20)}
    assert (len(shapes) > 5) == (TASKS[task].view == "frame")
    assert TASKS[task].view == "frame" or shapes == {sample.image.shape}


def test_each_kind_changes_half_of_the_samples() -> None:
    generator = np.random.default_rng(1)
    samples = [augment(painted(), AUGMENTATIONS, generator) for _ in range(400)]
    cropped = np.mean([sample.image.shape != painted().image.shape for sample in samples])
    coloured = np.mean([sample.image[..., 0].max() != 255 or sample.image[..., 2].any() for sample in samples])
    mirrored = np.mean([sample.points_norm[0][0] * sample.image.shape[1] < sample.boxes[0].x1 for sample in samples])
    assert cropped == pytest.approx(0.5, abs=0.1) and mirrored == pytest.approx(0.5, abs=0.1)
    assert 0.3 < coloured < 0.6  # brighter and more saturated red stays 255
    assert np.array_equal(augment(painted(), (), generator).image, painted().image)


def test_moments_change_with_their_sample() -> None:
    sample = dataclasses.replace(painted(), task="looking_at_me", moments=(painted(), painted()))
    for changed in (mirror(sample), colour(sample, np.array([0.5, 1.2, 0.3]))):
        for moment in changed.moments:
            assert np.array_equal(moment.image, changed.image) and moment.boxes == changed.boxes


def test_live_inputs_change_only_with_a_generator() -> None:
    live = LiveData(Images("relation", 3), CONFIG, AUGMENTATIONS)
    plain = LiveData(Images("relation", 3), CONFIG)
    assert np.array_equal(live.inputs(1).frame.pixels, plain.inputs(1).frame.pixels)  # as in validation
    assert np.array_equal(plain.inputs(1, np.random.default_rng(0)).frame.pixels, plain.inputs(1).frame.pixels)
    views = [live.inputs(1, np.random.default_rng(seed)).frame.pixels for seed in range(8)]
    assert sum(np.array_equal(view, plain.inputs(1).frame.pixels) for view in views) < 4
    assert all(
        np.array_equal(view, live.inputs(1, np.random.default_rng(s)).frame.pixels) for s, view in enumerate(views)
    )
