"""The connector works token by token, so a box mask is a choice between plain and marked tokens."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from sf_ros.model.connector import Connector, thinned  # noqa: E402


def test_the_papers_connector_has_29_370_368_weights() -> None:
    with torch.device("meta"):
        connector = Connector(1024, 4096, 2048)
    by_hand = (1024 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 2048 + 2048)
    assert sum(p.numel() for p in connector.layers.parameters()) == by_hand == 29_370_368
    assert connector.box_embedding.shape == (1024,)


@torch.no_grad()
def test_a_box_mask_chooses_between_plain_and_marked_tokens() -> None:
    connector = Connector(8, 16, 12)
    features = torch.randn(5, 9, 8)
    plain, marked = connector.plain_and_marked(features)
    assert plain.shape == (5, 9, 12) and marked.shape == (1, 9, 12)
    for mask in (torch.rand(9) < 0.4, torch.zeros(9, dtype=torch.bool), torch.ones(9, dtype=torch.bool)):
        chosen = torch.where(mask[:, None], marked[0], plain[0])
        assert torch.allclose(chosen, connector(features[:1], mask[None])[0], atol=1e-6)


@torch.no_grad()
def test_a_box_changes_marked_tokens_only() -> None:
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
def test_a_mask_keeps_half_precision() -> None:
    connector = Connector(8, 16, 12).bfloat16()
    mask = torch.ones(1, 4, dtype=torch.bool)
    assert connector(torch.randn(1, 4, 8).bfloat16(), mask).dtype == torch.bfloat16


def test_a_thinned_token_is_one_of_its_four() -> None:
    grid = torch.arange(16.0).reshape(1, 16, 1).expand(200, -1, -1)  # 4 x 4, raster order
    cells = [{0, 1, 4, 5}, {2, 3, 6, 7}, {8, 9, 12, 13}, {10, 11, 14, 15}]
    found = [set(column.tolist()) for column in thinned(grid, 2, shuffled=True)[..., 0].T]
    assert found == cells  # each of them, in 200 draws


def test_thinned_tokens_are_the_same_again_in_evaluation() -> None:
    tokens = torch.randn(3, 16, 5)
    first = thinned(tokens, 2, shuffled=False)
    torch.manual_seed(99)
    assert first.shape == (3, 4, 5) and torch.equal(thinned(tokens, 2, shuffled=False), first)
    assert torch.equal(thinned(tokens[2:], 2, shuffled=False), first[2:])  # in any batch
    assert not torch.equal(thinned(tokens, 2, shuffled=True), thinned(tokens, 2, shuffled=True))
