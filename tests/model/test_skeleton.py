"""Modules without numbers take no memory until they are given weights."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from sf_ros.model.skeleton import without_numbers  # noqa: E402


def test_parameters_have_no_numbers_and_buffers_have() -> None:
    with without_numbers():
        made = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert all(weight.is_meta and not weight.requires_grad for weight in made.parameters())
    assert made[1].running_var.tolist() == [1.0, 1.0]
    weights = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()
    made.load_state_dict(weights, strict=True, assign=True)
    assert torch.equal(made[0].weight, weights["0.weight"]) and not made[0].weight.requires_grad


def test_afterwards_modules_are_made_as_ever_also_after_an_error() -> None:
    with pytest.raises(RuntimeError, match="stop"), without_numbers():
        raise RuntimeError("stop")
    assert not nn.Linear(3, 2).weight.is_meta
