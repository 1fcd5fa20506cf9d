"""An attentive probe finds a single informative patch, uses masks for marked boxes, and is reproducible."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.data.cache import CachedData
from training.studies.measures import linear_probe
from training.studies.measures.attentive_probe import AttentiveProbe, attentive_logits, fit_attentive, moments

PATCHES, DIM = 30, 6


def one_patch_data(count: int, seed: int, task: str = "expression") -> CachedData:
    """Noise, except for one random patch: channel 0 marks it, channel 1 holds the label."""
    generator = np.random.default_rng(seed)
    features = generator.normal(0, 1, (count, PATCHES, DIM))
    labels, patches = np.arange(count) % 2, generator.integers(0, PATCHES, count)
    features[np.arange(count), patches, 0] = 9
    features[np.arange(count), patches, 1] = np.where(labels == 1, 2, -2)
    masks = np.arange(PATCHES) == patches[:, None]
    return CachedData(
        task, np.zeros((count, 1, 1, 3), np.uint8), masks, np.zeros((count, 2, 4)), labels, np.zeros((count, 20, 2)),
        np.zeros((count, 2)), [{}] * count, features.astype(np.float16),
    )  # fmt: skip


def accuracy(logits: torch.Tensor, data: CachedData) -> float:
    return float((logits.argmax(1).numpy() == data.labels).mean())


def fitted(task: str = "expression", seed: int = 0, epochs: int = 40) -> AttentiveProbe:
    data = one_patch_data(400, 0, task), one_patch_data(100, 1, task)
    return fit_attentive(*data, 2, seed=seed, epochs=epochs, patience=10).layer


@pytest.fixture(autouse=True)
def _short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_probe, "BATCH_SIZE", 50)
    monkeypatch.setattr(linear_probe, "LEARNING_RATE", 0.03)


def test_attentive_probe_beats_mean_on_one_patch() -> None:
    train, val, test = one_patch_data(400, 0), one_patch_data(100, 1), one_patch_data(200, 2)
    inputs = [(linear_probe.pooled(data), torch.from_numpy(data.labels)) for data in (train, val)]
    mean = linear_probe.fit_probe(inputs[0], inputs[1], 2, seed=0, epochs=60, patience=10).layer
    attentive = accuracy(attentive_logits(fitted(), test), test)
    assert attentive > 0.95 and accuracy(mean(linear_probe.pooled(test)), test) < attentive - 0.1


def test_untrained_attentive_probe_averages_patches() -> None:
    data = one_patch_data(3, 0, "domain")
    probe = AttentiveProbe(*moments(data), 2, marks=True, generator=torch.Generator())
    features = (torch.from_numpy(data.features).float() - probe.mean) / probe.deviation
    marked = torch.stack([row[mask].mean(0) for row, mask in zip(features, data.masks, strict=True)])
    expected = probe.layer(torch.cat([features.mean(1), marked], 1))
    assert torch.allclose(attentive_logits(probe, data), expected, atol=1e-5)


def test_masks_matter_only_for_tasks_with_boxes() -> None:
    for task, matters in (("domain", True), ("expression", False)):
        probe, data = fitted(task, epochs=2), one_patch_data(20, 3, task)
        before = attentive_logits(probe, data)
        data.masks[:] = np.roll(data.masks, 1, axis=1)
        assert torch.allclose(attentive_logits(probe, data), before) != matters


def test_moments_are_over_all_patches() -> None:
    data = one_patch_data(5, 0)
    mean, deviation = moments(data)
    patches = data.features.astype(np.float64).reshape(-1, DIM)
    assert mean.numpy() == pytest.approx(patches.mean(0), abs=1e-5)
    assert deviation.numpy() == pytest.approx(patches.std(0), rel=1e-4)


def test_attentive_probe_is_reproducible() -> None:
    weights = [fitted(seed=seed, epochs=1).layer.weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
