"""Samples of one image share its frame: in batches, in caches, and in the order of an epoch."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch

from sf_ros.core.cues import TASKS
from sf_ros.core.views import normalise
from tests.tiny_models import CONFIG, fused_model
from tests.training.data.test_cache import Images
from tests.training.test_train import TOY
from training.config import TrainConfig
from training.data import cache
from training.data.inputs import NO_ROW, ModelInputs, View, collate
from training.data.mixture import BatchOrder, image_batches
from training.data.sample import Sample
from training.data.scenes.dataset import Scenes
from training.data.task_data import LiveData

MODEL = dataclasses.replace(CONFIG, boxes="token", shared_prefix=True, crop_size=24)
# 8 images; every task has another number of samples and of samples per image.
IMAGES: dict[str, list[Hashable]] = {
    "gesture": [number % 8 for number in range(24)],
    "gaze": [number // 2 for number in range(12)],
    "relation": [7 - number for number in range(8)],
}


class OnImages(Images):
    """A dataset with three samples on each image, from every `stride`-th place."""

    def __init__(self, task: str, count: int, stride: int = 1) -> None:
        super().__init__(task, count)
        self.stride = stride

    def image_name(self, index: int) -> str:
        return f"image-{index // 3 if self.stride == 1 else index % self.stride}"

    def __getitem__(self, index: int) -> Sample:
        image = np.random.default_rng(list(self.image_name(index).encode())).integers(0, 256, (40, 60, 3), np.uint8)
        return dataclasses.replace(super().__getitem__(index), image=image, image_name=self.image_name(index))


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "worker_pool", ThreadPoolExecutor)
    monkeypatch.setattr(cache, "CHUNK", 2)


def drawn(batches: list[tuple[tuple[str, int], ...]]) -> list[tuple[str, int]]:
    return [element for batch in batches for element in batch]


@pytest.mark.parametrize("factors", [{}, {"gesture": 2}, {"gesture": 9, "gaze": 9}])
def test_every_drawn_sample_is_there_once_and_images_are_adjacent(factors: dict[str, int]) -> None:
    elements = drawn(image_batches(IMAGES, 1, epoch=2, seed=5, factors=factors))
    counts = Counter(task for task, _ in elements)
    assert counts == {task: min(len(of), 8 * factors.get(task, 1)) for task, of in IMAGES.items()}
    assert len(set(elements)) == len(elements)
    assert all(0 <= index < len(IMAGES[task]) for task, index in elements)
    runs = [image for image, _ in groupby(IMAGES[task][index] for task, index in elements)]
    assert len(runs) == len(set(runs)) == 8


def test_all_tasks_share_batches_of_images() -> None:
    batches = image_batches(IMAGES, 6, epoch=0, seed=0)
    assert [len(batch) for batch in batches] == [6, 6, 6, 6]
    assert sum({"gaze", "gesture"} <= {task for task, _ in batch} for batch in batches) >= 3
    assert [len(batch) for batch in image_batches(IMAGES, 7, epoch=0, seed=0)] == [7, 7, 7]  # 3 of 24 are dropped
    assert [len(batch) for batch in image_batches(IMAGES, 50, epoch=0, seed=0)] == [24]


def test_an_epoch_of_images_is_a_function_of_its_arguments() -> None:
    first = image_batches(IMAGES, 4, epoch=1, seed=3)
    assert first == image_batches({task: tuple(of) for task, of in IMAGES.items()}, 4, epoch=1, seed=3)
    assert first != image_batches(IMAGES, 4, epoch=2, seed=3) and first != image_batches(IMAGES, 4, epoch=1, seed=4)
    seen = {e for epoch in range(12) for e in drawn(image_batches(IMAGES, 4, epoch, seed=3)) if e[0] == "gesture"}
    assert len(seen) == 24
    orders = {tuple(drawn(image_batches({"gaze": IMAGES["gaze"]}, 4, epoch, seed=3))) for epoch in range(3)}
    assert len(orders) == 3


@pytest.mark.parametrize(("processes", "accumulate"), [(2, 1), (1, 2), (2, 2)])
def test_parts_by_image_are_the_batch_one_behind_another(processes: int, accumulate: int) -> None:
    sizes = {task: len(of) for task, of in IMAGES.items()}

    def config(parts: int) -> TrainConfig:
        return dataclasses.replace(TOY, joint=dataclasses.replace(TOY.joint, batch_size=8, accumulate=parts))

    whole = BatchOrder(sizes, config(1), images=IMAGES)
    orders = [BatchOrder(sizes, config(accumulate), number, processes, IMAGES) for number in range(processes)]
    for step in range(5):
        parts = [order.part(step * accumulate + part) for order in orders for part in range(accumulate)]
        assert tuple(element for part in parts for element in part.elements) == whole.batch(step)
        assert len({len(part.elements) for part in parts}) == 1
        states = [g.bit_generator.state for part in parts for g in part.generators]
        assert states == [g.bit_generator.state for g in whole.part(step).generators]


def inputs(number: float, image: Hashable, *, crop: bool = False) -> ModelInputs:
    frame, face = (View(features=np.full((patches, 2), number, np.float32)) for patches in (16, 4))
    nothing = np.zeros(16, bool), np.zeros((2, 4), np.float32), 0, np.full((20, 2), 0.5, np.float32)
    return ModelInputs(*nothing, frame=frame, crop=face if crop else None, image=image)


def test_a_batch_has_each_named_image_once() -> None:
    samples = [inputs(1, "a"), inputs(2, ("b", 1), crop=True), inputs(1, "a", crop=True), inputs(3, None),
               inputs(3, None), inputs(2, ("b", 1))]  # fmt: skip
    batch = collate(samples, ["domain", "expression", "gesture", "gaze", "relation", "domain"], MODEL)
    assert batch.frame_of == (0, 1, 0, 2, 3, 1) and batch.crop_of == (NO_ROW, 0, 1, NO_ROW, NO_ROW, NO_ROW)
    assert batch.frames.features[:, 0, 0].tolist() == [1, 2, 3, 3]  # unnamed images are their own
    assert batch.crops.features[:, 0, 0].tolist() == [2, 1] and batch.crops.features.shape == (2, 4, 2)
    assert batch.targets.shape == (1, CONFIG.heatmap_size, CONFIG.heatmap_size)


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("task", ["gaze", "expression", "gesture", "relation"])
def test_a_cache_has_each_image_once_and_the_live_inputs(task: str, stride: int, tmp_path: Path) -> None:
    """Also where the samples of an image are read by several jobs."""
    dataset = OnImages(task, 9, stride)
    live, cached = LiveData(dataset, MODEL), cache.load_or_build(dataset, MODEL, tmp_path)
    assert cached.frames is not None and len(cached.frames.views) == 3
    assert (cached.views is None) == (TASKS[task].view == "frame")
    for index in range(9):
        one, two = live.inputs(index), cached.inputs(index)
        assert np.array_equal(one.frame.pixels, two.frame.pixels) and one.frame.pixels.shape == (48, 48, 3)
        assert (one.crop is None) == (two.crop is None) == (TASKS[task].view == "frame")
        if one.crop is not None:
            assert np.array_equal(one.crop.pixels, two.crop.pixels) and one.crop.pixels.shape == (24, 24, 3)
        assert one.label == two.label and np.array_equal(one.boxes, two.boxes) and one.boxes[0].any()
        assert one.image == live.image(index) and two.image == cached.image(index)
        for other in range(9):
            assert (live.image(index) == live.image(other)) == (cached.image(index) == cached.image(other))


def test_features_of_a_shared_cache_are_those_of_its_views(tmp_path: Path) -> None:
    views, model = cache.load_or_build(OnImages("expression", 4), MODEL, tmp_path), fused_model(MODEL)
    data = cache.load_or_encode(views, model.encoder, MODEL, tmp_path, exact=True)
    for index in range(4):
        pixels, features = views.inputs(index), data.inputs(index)
        for one, two in ((pixels.frame, features.frame), (pixels.crop, features.crop)):
            with torch.no_grad():
                expected = model.encode(torch.from_numpy(normalise(one.pixels[None], CONFIG.encoder)))[0]
            assert two.pixels is None and two.features == pytest.approx(expected.numpy(), abs=1e-5)
    assert data.frames.features.shape == (2, 16, 32) and data.features.shape == (4, 4, 32)


@pytest.mark.parametrize("task", ["gaze", "expression"])
def test_neighbouring_scenes_share_a_frame(task: str, tmp_path: Path) -> None:
    scenes = Scenes(task, "train", 6)
    cached, samples = cache.load_or_build(scenes, MODEL, tmp_path), [scenes[index] for index in range(6)]
    assert len(cached.frames.views) == len({sample.image.tobytes() for sample in samples}) < 6
    for index, sample in enumerate(samples):
        assert np.array_equal(cached.inputs(index).frame.pixels, LiveData(scenes, MODEL).inputs(index).frame.pixels)
        for other in range(6):
            same = np.array_equal(sample.image, samples[other].image)
            assert (cached.image(index) == cached.image(other)) == same


def test_augmented_and_broken_samples_have_images_of_their_own() -> None:
    dataset = OnImages("domain", 6)
    assert len({LiveData(dataset, MODEL, ("mirror",)).image(index) for index in range(6)}) == 6
    dataset.broken = (1,)
    assert LiveData(dataset, MODEL).inputs(1).image is None  # it shows the image of the sample behind it
    assert LiveData(dataset, CONFIG).inputs(0).image is None  # nothing is shared


def test_caches_with_and_without_shared_frames_are_apart() -> None:
    separate = dataclasses.replace(MODEL, shared_prefix=False)
    for task in ("gaze", "expression"):
        keys = {cache.views_key(OnImages(task, 3), model) for model in (MODEL, separate)}
        assert len(keys) == 2
    larger = dataclasses.replace(MODEL, crop_size=48)
    assert cache.views_key(OnImages("gaze", 3), larger) == cache.views_key(OnImages("gaze", 3), MODEL)
    assert cache.views_key(OnImages("gesture", 3), larger) != cache.views_key(OnImages("gesture", 3), MODEL)
