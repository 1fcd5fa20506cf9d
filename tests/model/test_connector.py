"""The connector works token by token, so a box is a choice between two banks."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from sf_ros.model.connector import Connector  # noqa: E402


def test_the_papers_connector_has_29_370_368_weights_beside_the_box_embedding() -> None:
    with torch.device("meta"):
        connector = Connector(1024, 4096, 2048)
    by_hand = (1024 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 2048 + 2048)
    assert sum(p.numel() for p in connector.layers.parameters()) == by_hand == 29_370_368
    assert connector.box_embedding.shape == (1024,)


@torch.no_grad()
def test_choosing_from_the_banks_is_exactly_marking_before_the_connector() -> None:
    connector = Connector(8, 16, 12)
    features = torch.randn(5, 9, 8)
    plain, marked = connector(features), connector(features, torch.ones(5, 9, dtype=torch.bool))
    for mask in (torch.rand(5, 9) < 0.4, torch.zeros(5, 9, dtype=torch.bool), torch.ones(5, 9, dtype=torch.bool)):
        assert torch.equal(torch.where(mask[..., None], marked, plain), connector(features, mask))


@torch.no_grad()
def test_a_box_changes_the_marked_tokens_and_no_other() -> None:
    connector = Connector(8, 16, 12)
    features, mask = torch.randn(1, 9, 8), torch.zeros(1, 9, dtype=torch.bool)
    mask[0, [2, 5]] = True
    changed = (connector(features, mask) != connector(features)).any(-1)
    assert torch.equal(changed, mask)


@torch.no_grad()
def test_no_mask_is_an_empty_mask() -> None:
    connector = Connector(8, 16, 12)
    features = torch.randn(2, 9, 8)
    assert torch.equal(connector(features), connector(features, torch.zeros(2, 9, dtype=torch.bool)))


def test_the_box_embedding_learns_from_marked_tokens_only() -> None:
    connector = Connector(8, 16, 12)
    features = torch.randn(1, 4, 8)
    connector(features, torch.zeros(1, 4, dtype=torch.bool)).sum().backward()
    assert not connector.box_embedding.grad.any()
    connector(features, torch.ones(1, 4, dtype=torch.bool)).sum().backward()
    assert connector.box_embedding.grad.any()


@torch.no_grad()
def test_half_precision_features_stay_half_precision_under_a_mask() -> None:
    connector = Connector(8, 16, 12).bfloat16()
    mask = torch.ones(1, 4, dtype=torch.bool)
    assert connector(torch.randn(1, 4, 8).bfloat16(), mask).dtype == torch.bfloat16
