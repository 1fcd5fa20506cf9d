"""Caches are built once and completely; features are valid for one encoder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sf_ros.core.config import EncoderConfig, ModelConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from sf_ros.core.views import normalise
from sf_ros.model.encoders import build_encoder
from training.data import cache
from training.data.columns import CachedData
from training.data.inputs import MAX_POINTS, model_inputs
from training.data.sample import Sample
from training.data.scenes.dataset import Scenes

ENCODER = EncoderConfig(image_size=48, dim=32, depth=1, heads=2)
MODEL = ModelConfig(encoder=ENCODER)


class Images:
    """A dataset of random images, some unreadable."""

    def __init__(self, task: str, count: int, broken: tuple[int, ...] = ()) -> None:
        self.task, self.count, self.broken = task, count, broken
        self.identity = f"images/{task}/{count}/{broken}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if index in self.broken:
            raise OSError(f"image {index} is truncated")
        image = np.random.default_rng(index).integers(0, 256, (40, 60, 3), np.uint8)
        spec, key, tags = TASKS[self.task], f"images/{index}", {"number": index}
        boxes = tuple(Box(5 + 9 * i, 5, 25 + 9 * i, 35) for i in range(max(spec.boxes, 1)))
        if spec.kind == "heatmap":
            points = tuple((0.1 * i, 0.5) for i in range(index + 1))
            return Sample(self.task, image, boxes, points_norm=points, key=key, tags=tags)
        return Sample(self.task, image, boxes, label=index % len(spec.labels), key=key, tags=tags)


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads instead of processes, which take seconds to start."""
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(cache, "worker_pool", ThreadPoolExecutor)


def build(dataset: Images, folder: Path) -> CachedData:
    return cache.load_or_build(dataset, MODEL, folder)


@pytest.mark.parametrize("task", TASKS)
def test_a_cache_has_the_model_inputs_of_every_sample(task: str, tmp_path: Path) -> None:
    dataset = Images(task, 3)
    views = build(dataset, tmp_path)
    assert views.task == task and len(views) == 3
    for index in range(3):
        sample = dataset[index]
        direct, cached = model_inputs(sample, MODEL), views.inputs(index)
        for name in ("mask", "boxes", "label"):
            assert np.array_equal(getattr(cached, name), getattr(direct, name)), name
        for one, two in ((direct.frame, cached.frame), (direct.crop, cached.crop)):
            assert (one is None) == (two is None)
            assert one is None or two is None or np.array_equal(one.pixels, two.pixels)
        assert (direct.frame is None) == (TASKS[task].view != "frame")
        assert direct.mask.any() == bool(TASKS[task].boxes)
        assert views.labels[index] == (-1 if sample.label is None else sample.label)
        points = views.points[index][~np.isnan(views.points[index]).any(1)]
        assert points == pytest.approx(np.array(sample.points_norm, np.float32).reshape(-1, 2))
        assert views.sizes[index].tolist() == [60, 40]
        assert views.tags[index] == {"number": index, "key": f"images/{index}"}


def test_a_broken_sample_is_skipped_and_listed(tmp_path: Path) -> None:
    views = build(Images("expression", 40, broken=(1, 35)), tmp_path)
    assert len(views) == len(views.tags) == 38
    readable = [i for i in range(40) if i not in (1, 35)]
    assert [tag["number"] for tag in views.tags] == readable
    assert views.labels.tolist() == [i % 8 for i in readable]
    skipped = json.loads((tmp_path / "tags.json").read_text())["skipped"]
    assert skipped == ["1: image 1 is truncated", "35: image 35 is truncated"]


def test_a_dataset_without_readable_samples_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'domain': none of 3 samples is readable.*image 0 is truncated"):
        build(Images("domain", 3, broken=(0, 1, 2)), tmp_path)
    assert not (tmp_path / "tags.json").exists()


def test_a_complete_cache_is_not_built_again(tmp_path: Path) -> None:
    first = build(Images("gaze", 2), tmp_path)
    again = build(Images("gaze", 2, broken=(0, 1)), tmp_path)
    assert np.array_equal(first.views, again.views) and np.array_equal(first.points, again.points, equal_nan=True)


def test_an_incomplete_cache_is_built_again(tmp_path: Path) -> None:
    np.save(tmp_path / "views.npy", np.zeros((1, 1)))
    assert len(build(Images("gaze", 2), tmp_path)) == 2


def test_annotations_beyond_the_maximum_are_dropped(tmp_path: Path) -> None:
    views = build(Images("gaze", MAX_POINTS + 3), tmp_path)
    assert not np.isnan(views.points[-1]).any() and views.points[-1, -1, 0] == pytest.approx(1.9)


def test_features_are_the_encoders_in_half_precision(tmp_path: Path) -> None:
    views = build(Images("gaze", 5), tmp_path)
    encoder = build_encoder(ENCODER).eval()
    features = cache.load_or_encode(views, encoder, MODEL, tmp_path, batch_size=2).features
    assert features.shape == (5, 16, 32) and features.dtype == np.float16
    with torch.no_grad():
        expected = encoder(torch.from_numpy(normalise(np.asarray(views.views), ENCODER))).numpy()
    assert np.abs(features - expected).max() < 0.1  # bfloat16 has 8 bits, features are of size 1


def test_exact_features_are_float32_in_a_file_of_their_own(tmp_path: Path) -> None:
    views = build(Images("gaze", 5), tmp_path)
    encoder = build_encoder(ENCODER).eval()
    half = cache.load_or_encode(views, encoder, MODEL, tmp_path).features
    exact = cache.load_or_encode(views, encoder, MODEL, tmp_path, batch_size=2, exact=True).features
    assert exact.dtype == np.float32 and half.dtype == np.float16
    for index in range(5):
        with torch.no_grad():
            alone = encoder(torch.from_numpy(normalise(np.asarray(views.views[index : index + 1]), ENCODER)))[0]
        assert exact[index] == pytest.approx(alone.numpy(), abs=1e-5)
    assert 0 < np.abs(half - exact).max() < 0.1


def test_features_are_valid_for_one_encoder(tmp_path: Path) -> None:
    views = build(Images("gaze", 2), tmp_path)
    encoder = build_encoder(ENCODER).eval()
    first = np.array(cache.load_or_encode(views, encoder, MODEL, tmp_path).features)
    key = cache.weights_key(encoder)
    with torch.no_grad():
        encoder.blocks[0].out.bias[0] += 1.0
    assert cache.weights_key(encoder) != key
    second = np.array(cache.load_or_encode(views, encoder, MODEL, tmp_path).features)
    assert not np.array_equal(first, second)
    assert len(list(tmp_path.glob("features-*.npy"))) == 2
    other = dataclasses.replace(ENCODER, layers=(-2,))
    assert cache.features_key(encoder, other) != cache.features_key(encoder, ENCODER)


def test_views_are_valid_for_their_samples_and_size() -> None:
    first = cache.views_key(Images("gaze", 2), MODEL)
    assert first == cache.views_key(Images("gaze", 2), MODEL)
    larger = ModelConfig(encoder=dataclasses.replace(ENCODER, image_size=96))
    others = [(Images("gaze", 3), MODEL), (Images("domain", 2), MODEL), (Images("gaze", 2), larger)]
    assert first not in {cache.views_key(*other) for other in others}


def test_scenes_are_drawn_anew_by_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [cache.views_key(samples, MODEL) for samples in (Scenes("gaze", "train", 2), Images("gaze", 2))]
    assert cache.drawing_code() == cache.drawing_code() != ""
    monkeypatch.setattr(cache, "drawing_code", lambda: "other")
    after = [cache.views_key(samples, MODEL) for samples in (Scenes("gaze", "train", 2), Images("gaze", 2))]
    assert after[0] != keys[0] and after[1] == keys[1]


def test_a_full_disk_is_an_error_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**20))
    with pytest.raises(ValueError, match=r"views of gaze take 0\.3 GB and .* has 0\.0 GB free.*--cache none"):
        cache.load_or_build(Images("gaze", 50_000), MODEL, tmp_path / "views")
    assert "views of gaze: 0.3 GB into" in capsys.readouterr().err and not list(tmp_path.rglob("*.npy"))


def test_the_weights_key_depends_on_values_and_names() -> None:
    first, second = (torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2))
    assert cache.weights_key(first) == cache.weights_key(second.requires_grad_(False).eval())
    second.running_mean[1] = 1e-3
    assert cache.weights_key(first) != cache.weights_key(second)
    assert cache.weights_key(torch.nn.Sequential(first)) != cache.weights_key(first)


def test_incomplete_features_are_computed_again(tmp_path: Path) -> None:
    views = build(Images("gaze", 2), tmp_path)
    encoder = build_encoder(ENCODER).eval()
    (tmp_path / f"features-{cache.features_key(encoder, ENCODER)}.part.npy").write_bytes(b"half")
    assert cache.load_or_encode(views, encoder, MODEL, tmp_path).features.shape == (2, 16, 32)
    assert not list(tmp_path.glob("*.part.npy"))
