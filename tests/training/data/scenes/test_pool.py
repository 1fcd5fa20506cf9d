"""Scenes that every task learns from: samples of all tasks, on images that a cache holds once."""

from __future__ import annotations

import dataclasses
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sf_ros.core.config import MODELS, ModelConfig
from sf_ros.core.cues import TASKS
from training.data import cache
from training.data.columns import CachedData
from training.data.inputs import model_inputs
from training.data.scenes.dataset import DRAWN_TASKS
from training.data.scenes.pool import ScenePool

MODEL = dataclasses.replace(MODELS["tiny"], boxes="token", shared_prefix=True, crop_size=48)
POOL = ScenePool("train", 5, DRAWN_TASKS)


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> dict[str, CachedData]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "worker_pool", ThreadPoolExecutor)
        patch.setattr(cache, "CHUNK", 2)
        return cache.load_or_build_pool(POOL, MODEL, tmp_path_factory.mktemp("pool"))


def test_a_scene_is_a_function_of_its_number() -> None:
    again = ScenePool("train", 9, DRAWN_TASKS)
    assert all(np.array_equal(a.image, b.image) and a.key == b.key for a, b in zip(POOL[3], again[3], strict=True))
    other = ScenePool("train", 5, DRAWN_TASKS, seed=1)
    assert not np.array_equal(POOL[3][0].image, other[3][0].image)
    assert not np.array_equal(POOL[3][0].image, ScenePool("test", 5, DRAWN_TASKS)[3][0].image)
    with pytest.raises(IndexError, match="Scene 5 of 5"):
        POOL[5]


def test_a_scene_has_samples_of_several_tasks_on_one_image() -> None:
    tasks = Counter[str]()
    for index in range(len(POOL)):
        samples = POOL[index]
        assert len({sample.image_name for sample in samples}) == 1
        assert all(sample.image is samples[0].image for sample in samples)
        tasks.update(sample.task for sample in samples)
    assert set(tasks) == set(DRAWN_TASKS)


def test_sizes_are_those_of_the_first_scenes() -> None:
    counts = Counter(sample.task for index in range(len(POOL)) for sample in POOL[index])
    assert POOL.sizes() == {task: counts[task] for task in DRAWN_TASKS}
    assert ScenePool("train", 5, ("gaze",)).sizes() == {"gaze": counts["gaze"]}


def test_a_cache_has_every_sample_in_order_and_every_image_once(cached: dict[str, CachedData]) -> None:
    for task in DRAWN_TASKS:
        samples = [sample for index in range(len(POOL)) for sample in POOL[index] if sample.task == task]
        assert [tags["key"] for tags in cached[task].tags] == [sample.key for sample in samples]
        for row, sample in enumerate(samples):
            direct, stored = model_inputs(sample, MODEL), cached[task].inputs(row)
            assert direct.frame is not None and stored.frame is not None
            assert np.array_equal(direct.frame.pixels, stored.frame.pixels)
            assert np.array_equal(direct.boxes, stored.boxes) and direct.boxes[0].any()
            assert (direct.crop is None) == (stored.crop is None) == (TASKS[task].view == "frame")
            if direct.crop is not None and stored.crop is not None:
                assert direct.crop.pixels.shape == (48, 48, 3)
                assert np.array_equal(direct.crop.pixels, stored.crop.pixels)
    frames = {id(data.frames.folder): len(data.frames.views) for data in cached.values() if data.frames is not None}
    assert set(frames.values()) <= {len(POOL)}


def test_samples_of_one_image_have_one_name_in_all_tasks(cached: dict[str, CachedData]) -> None:
    names = {
        (data.image(row), tags["key"].split("/")[3]) for data in cached.values() for row, tags in enumerate(data.tags)
    }
    assert len({name for name, _ in names}) == len({scene for _, scene in names}) == len(names)


@pytest.mark.parametrize("change", [{"crop_size": 96}, {"crop_size": None}])
def test_a_pool_is_cached_by_its_scenes_and_sizes(change: dict[str, object]) -> None:
    key = cache.pool_key(POOL, MODEL)
    separate = dataclasses.replace(MODEL, shared_prefix=False, boxes="patch")
    assert key == cache.pool_key(POOL, separate)  # the same arrays, whatever is made of them
    changed: ModelConfig = dataclasses.replace(MODEL, **change)
    assert key != cache.pool_key(POOL, changed)
    assert key != cache.pool_key(ScenePool("train", 6, DRAWN_TASKS), MODEL)


@pytest.mark.parametrize("first", [False, True])
def test_models_with_and_without_a_shared_prefix_read_one_pool(
    first: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "worker_pool", ThreadPoolExecutor)
    pool, separate = ScenePool("train", 1, DRAWN_TASKS), dataclasses.replace(MODEL, shared_prefix=False, boxes="patch")
    models = {True: MODEL, False: separate}
    assert cache.pool_key(pool, MODEL) == cache.pool_key(pool, separate)
    found = {shared: cache.load_or_build_pool(pool, models[shared], tmp_path) for shared in (first, not first)}
    for shared, data in found.items():
        for sample in (sample for sample in pool[0] if sample.key.endswith("/0")):
            direct, stored = model_inputs(sample, models[shared]), data[sample.task].inputs(0)
            for one, two in ((direct.frame, stored.frame), (direct.crop, stored.crop)):
                assert (one is None) == (two is None), sample.task
                assert one is None or two is None or np.array_equal(one.pixels, two.pixels)
