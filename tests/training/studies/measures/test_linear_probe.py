"""A linear probe pools marked patches, separates linear clusters, stops early and is reproducible."""

from __future__ import annotations

import torch

from training.studies.measures.linear_probe import fit_probe, pool

MEANS = torch.tensor([[0.0, 0.0], [40.0, 0.0], [0.0, 4_000.0]])  # columns of very different scales


def clusters(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return MEANS[labels] + torch.randn(count, 2, generator=generator) * torch.tensor([2.0, 200.0]), labels


def test_marked_patches_are_pooled_separately() -> None:
    features = torch.tensor([[[1.0, 0.0], [3.0, 4.0]], [[5.0, 5.0], [7.0, 7.0]]])
    masks = torch.tensor([[False, True], [False, False]])
    assert pool(features, None).tolist() == [[2.0, 2.0], [6.0, 6.0]]
    assert pool(features, masks).tolist() == [[2.0, 2.0, 3.0, 4.0], [6.0, 6.0, 0.0, 0.0]]


def test_probe_separates_linear_clusters() -> None:
    fitted = fit_probe(clusters(600, 0), clusters(120, 1), 3, seed=0, epochs=60, patience=10)
    inputs, labels = clusters(300, 2)
    assert float((fitted.layer(inputs).argmax(1) == labels).float().mean()) > 0.98


def test_probe_stops_early_and_keeps_the_best() -> None:
    inputs, labels = clusters(300, 0)
    generator = torch.Generator().manual_seed(5)
    noise = labels[torch.randperm(len(labels), generator=generator)]
    fitted = fit_probe((inputs, labels), (inputs, noise), 3, seed=0, epochs=200, patience=3)
    assert fitted.epochs < 20
    best = torch.nn.functional.cross_entropy(fitted.layer(inputs), noise)
    longer = fit_probe((inputs, labels), (inputs, labels), 3, seed=0, epochs=40, patience=40)
    assert best < torch.nn.functional.cross_entropy(longer.layer(inputs), noise)


def test_probe_is_reproducible() -> None:
    def weights(seed: int) -> torch.Tensor:
        return fit_probe(clusters(90, 0), clusters(30, 1), 3, seed=seed, epochs=2, patience=2).layer.weight

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))
