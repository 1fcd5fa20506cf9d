"""An attentive probe finds what is in one patch, looks at marked patches for marks, and is a function of its seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from training.data.cache import ViewCache
from training.studies.measures.attentive_probe import AttentiveProbe, fit_attentive, logits, moments
from training.studies.measures.linear_probe import fit_probe, pooled
from training.trainer.objective import CachedData

PATCHES, DIM = 30, 6


def needle(count: int, seed: int, task: str = "expression") -> CachedData:
    """Noise; a random patch has its first channel lit, and in its second and third what the label is."""
    generator = np.random.default_rng(seed)
    features = generator.normal(0, 1, (count, PATCHES, DIM))
    labels, places = np.arange(count) % 2, generator.integers(0, PATCHES, count)
    features[np.arange(count), places, 0] = 9
    features[np.arange(count), places, 1] = np.where(labels == 1, 2, -2)
    masks = np.arange(PATCHES) == places[:, None]
    views = ViewCache(
        task, np.zeros((count, 1, 1, 3), np.uint8), masks, np.zeros((count, 2, 4)), labels, np.zeros((count, 20, 2)),
        np.zeros((count, 2)), [{}] * count,
    )  # fmt: skip
    return CachedData(views, features.astype(np.float16))


def accuracy(found: torch.Tensor, data: CachedData) -> float:
    return float((found.argmax(1).numpy() == data.views.labels).mean())


def fitted(task: str = "expression", seed: int = 0, epochs: int = 40) -> AttentiveProbe:
    limits = {"epochs": epochs, "patience": 10, "batch_size": 50, "learning_rate": 0.03}
    return fit_attentive(needle(400, 0, task), needle(100, 1, task), 2, seed=seed, **limits).layer


def test_it_finds_in_one_patch_what_the_mean_of_all_hides() -> None:
    train, val, test = needle(400, 0), needle(100, 1), needle(200, 2)
    pool = [(pooled(data), torch.from_numpy(data.views.labels)) for data in (train, val)]
    mean = fit_probe(pool[0], pool[1], 2, seed=0, epochs=60, patience=10).layer
    found = accuracy(logits(fitted(), test), test)
    assert found > 0.95 and accuracy(mean(pooled(test)), test) < found - 0.1


def test_before_it_has_learned_it_is_the_mean_of_all_and_of_the_marked() -> None:
    data = needle(3, 0, "domain")
    probe = AttentiveProbe(*moments(data), 2, marks=True, generator=torch.Generator())
    features = (torch.from_numpy(data.features).float() - probe.mean) / probe.deviation
    marked = torch.stack([row[mask].mean(0) for row, mask in zip(features, data.views.masks, strict=True)])
    expected = probe.layer(torch.cat([features.mean(1), marked], 1))
    assert torch.allclose(logits(probe, data), expected, atol=1e-5)


def test_marks_matter_where_a_question_marks_boxes_and_nowhere_else() -> None:
    for task, matters in (("domain", True), ("expression", False)):
        probe, data = fitted(task, epochs=2), needle(20, 3, task)
        before = logits(probe, data)
        data.views.masks[:] = np.roll(data.views.masks, 1, axis=1)
        assert torch.allclose(logits(probe, data), before) != matters


def test_channels_are_standardised_over_all_patches() -> None:
    data = needle(5, 0)
    mean, deviation = moments(data)
    patches = data.features.astype(np.float64).reshape(-1, DIM)
    assert mean.numpy() == pytest.approx(patches.mean(0), abs=1e-5)
    assert deviation.numpy() == pytest.approx(patches.std(0), rel=1e-4)


def test_it_is_a_function_of_its_seed() -> None:
    weights = [fitted(seed=seed, epochs=1).layer.weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
