"""What the model sees of a dataset is computed once, whole samples only, and features belong to one encoder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sf_ros.core.config import EncoderConfig
from sf_ros.core.cues import TASKS
from sf_ros.core.types import Box
from sf_ros.core.views import normalise
from sf_ros.model.encoders import build_encoder
from training import lock
from training.data import cache
from training.data.sample import Sample

ENCODER = EncoderConfig(image_size=48, dim=32, depth=1, heads=2)


class Pictures:
    """A dataset of random pictures, some of which cannot be read."""

    def __init__(self, task: str, count: int, broken: tuple[int, ...] = ()) -> None:
        self.task, self.count, self.broken = task, count, broken
        self.identity = f"pictures/{task}/{count}/{broken}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if index in self.broken:
            raise OSError(f"picture {index} is cut off")
        image = np.random.default_rng(index).integers(0, 256, (40, 60, 3), np.uint8)
        spec, key, tags = TASKS[self.task], f"pictures/{index}", {"place": index}
        boxes = tuple(Box(5 + 9 * i, 5, 25 + 9 * i, 35) for i in range(max(spec.boxes, 1)))
        if spec.kind == "heatmap":
            points = tuple((0.1 * i, 0.5) for i in range(index + 1))
            return Sample(self.task, image, boxes, points_norm=points, key=key, tags=tags)
        return Sample(self.task, image, boxes, label=index % len(spec.labels), key=key, tags=tags)


def in_this_process(dataset: Pictures, folder: Path) -> cache.ViewCache:
    """load_or_build with threads for processes: starting processes takes seconds."""
    return cache.load_or_build(dataset, ENCODER, folder)


@pytest.fixture(autouse=True)
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(cache, "worker_pool", ThreadPoolExecutor)


@pytest.mark.parametrize("task", TASKS)
def test_a_cache_holds_what_the_model_sees_and_the_truth(task: str, tmp_path: Path) -> None:
    dataset = Pictures(task, 3)
    views = in_this_process(dataset, tmp_path)
    assert views.task == task and len(views) == 3
    for index in range(3):
        sample = dataset[index]
        picture, mask, boxes = cache.model_inputs(sample, ENCODER)
        assert np.array_equal(views.views[index], picture) and np.array_equal(views.masks[index], mask)
        assert np.array_equal(views.boxes[index], boxes)
        assert mask.any() == bool(TASKS[task].boxes)
        assert views.labels[index] == (-1 if sample.label is None else sample.label)
        given = views.points[index][~np.isnan(views.points[index]).any(1)]
        assert given == pytest.approx(np.array(sample.points_norm, np.float32).reshape(-1, 2))
        assert views.sizes[index].tolist() == [60, 40]
        assert views.tags[index] == {"place": index, "key": f"pictures/{index}"}


def test_a_broken_sample_is_skipped_and_listed(tmp_path: Path) -> None:
    views = in_this_process(Pictures("expression", 40, broken=(1, 35)), tmp_path)
    assert len(views) == len(views.tags) == 38
    kept = [i for i in range(40) if i not in (1, 35)]
    assert [tag["place"] for tag in views.tags] == kept
    assert views.labels.tolist() == [i % 8 for i in kept]
    listed = json.loads((tmp_path / "tags.json").read_text())["skipped"]
    assert listed == ["1: picture 1 is cut off", "35: picture 35 is cut off"]


def test_a_dataset_of_which_nothing_can_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'domain': none of 3 samples could be read.*picture 0 is cut off"):
        in_this_process(Pictures("domain", 3, broken=(0, 1, 2)), tmp_path)
    assert not (tmp_path / "tags.json").exists()


def test_a_finished_cache_is_read_and_not_built_again(tmp_path: Path) -> None:
    first = in_this_process(Pictures("gaze", 2), tmp_path)
    again = in_this_process(Pictures("gaze", 2, broken=(0, 1)), tmp_path)
    assert np.array_equal(first.views, again.views) and np.array_equal(first.points, again.points, equal_nan=True)


def test_an_unfinished_cache_is_built_again(tmp_path: Path) -> None:
    np.save(tmp_path / "views.npy", np.zeros((1, 1)))
    assert len(in_this_process(Pictures("gaze", 2), tmp_path)) == 2


def test_more_annotations_than_are_kept_lose_the_last_ones(tmp_path: Path) -> None:
    views = in_this_process(Pictures("gaze", cache.MAX_POINTS + 3), tmp_path)
    assert not np.isnan(views.points[-1]).any() and views.points[-1, -1, 0] == pytest.approx(1.9)


def test_features_are_the_frozen_encoders_up_to_their_storage(tmp_path: Path) -> None:
    views = in_this_process(Pictures("gaze", 5), tmp_path)
    encoder = build_encoder(ENCODER).eval()
    features = cache.load_or_encode(views, encoder, ENCODER, tmp_path, batch_size=2)
    assert features.shape == (5, 16, 32) and features.dtype == np.float16
    with torch.no_grad():
        expected = encoder(torch.from_numpy(normalise(np.asarray(views.views), ENCODER))).numpy()
    assert np.abs(features - expected).max() < 0.1  # bfloat16 has 8 bits, features are of size 1
    assert cache.as_tensor(features, [3, 0]).numpy() == pytest.approx(features[[3, 0]].astype(np.float32))


def test_exact_features_are_the_evaluations_to_the_last_digits_and_lie_beside_the_others(tmp_path: Path) -> None:
    views = in_this_process(Pictures("gaze", 5), tmp_path)
    encoder = build_encoder(ENCODER).eval()
    half = cache.load_or_encode(views, encoder, ENCODER, tmp_path)
    exact = cache.load_or_encode(views, encoder, ENCODER, tmp_path, batch_size=2, exact=True)
    assert exact.dtype == np.float32 and half.dtype == np.float16
    for index in range(5):
        with torch.no_grad():
            alone = encoder(torch.from_numpy(normalise(np.asarray(views.views[index : index + 1]), ENCODER)))[0]
        assert exact[index] == pytest.approx(alone.numpy(), abs=1e-5)
    assert np.abs(half - exact).max() > 1e-3


def test_features_are_valid_for_one_encoder_only(tmp_path: Path) -> None:
    views = in_this_process(Pictures("gaze", 2), tmp_path)
    encoder = build_encoder(ENCODER).eval()
    first = np.array(cache.load_or_encode(views, encoder, ENCODER, tmp_path))
    key = cache.weights_key(encoder)
    with torch.no_grad():
        encoder.blocks[0].out.bias[0] += 1.0
    assert cache.weights_key(encoder) != key
    second = np.array(cache.load_or_encode(views, encoder, ENCODER, tmp_path))
    assert not np.array_equal(first, second)
    assert len(list(tmp_path.glob("features-*.npy"))) == 2
    other = dataclasses.replace(ENCODER, layers=(-2,))
    assert cache.features_key(encoder, other) != cache.features_key(encoder, ENCODER)


def test_views_are_valid_for_their_samples_and_size_only() -> None:
    first = cache.views_key(Pictures("gaze", 2), ENCODER)
    assert first == cache.views_key(Pictures("gaze", 2), ENCODER)
    larger = dataclasses.replace(ENCODER, image_size=96)
    others = [(Pictures("gaze", 3), ENCODER), (Pictures("domain", 2), ENCODER), (Pictures("gaze", 2), larger)]
    assert first not in {cache.views_key(*other) for other in others}


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda place: SimpleNamespace(free=2**20))
    with pytest.raises(ValueError, match=r"views of gaze take 0\.3 GB and .* has 0\.0 GB free.*--cache none"):
        cache.load_or_build(Pictures("gaze", 50_000), ENCODER, tmp_path / "views")
    assert "views of gaze: 0.3 GB into" in capsys.readouterr().err and not list(tmp_path.rglob("*.npy"))


def test_the_key_of_weights_sees_values_names_and_buffers_and_nothing_else() -> None:
    first, second = (torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2))
    assert cache.weights_key(first) == cache.weights_key(second.requires_grad_(False).eval())
    second.running_mean[1] = 1e-3
    assert cache.weights_key(first) != cache.weights_key(second)
    assert cache.weights_key(torch.nn.Sequential(first)) != cache.weights_key(first)


def test_features_half_written_when_killed_are_made_again(tmp_path: Path) -> None:
    views = in_this_process(Pictures("gaze", 2), tmp_path)
    encoder = build_encoder(ENCODER).eval()
    (tmp_path / f"features-{cache.features_key(encoder, ENCODER)}.part.npy").write_bytes(b"half")
    assert cache.load_or_encode(views, encoder, ENCODER, tmp_path).shape == (2, 16, 32)
    assert not list(tmp_path.glob("*.part.npy"))


def test_views_and_features_are_made_under_locks_of_their_own(tmp_path: Path) -> None:
    held: list[str] = []

    def look() -> None:
        for path in tmp_path.glob("*.lock"):
            with lock.held(path, wait=False) as free:
                held.extend([] if free else [path.name])

    class Watched(Pictures):
        def __getitem__(self, index: int) -> Sample:
            look()
            return super().__getitem__(index)

    views = in_this_process(Watched("gaze", 1), tmp_path)
    encoder = build_encoder(ENCODER).eval()
    encoder.register_forward_pre_hook(lambda *_: look())
    cache.load_or_encode(views, encoder, ENCODER, tmp_path)
    assert held == ["tags.json.lock", f"features-{cache.features_key(encoder, ENCODER)}.npy.lock"]
    assert not list(tmp_path.glob("*.lock"))
