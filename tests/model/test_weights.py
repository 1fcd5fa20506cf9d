"""Modules without numbers take no memory until they are given weights."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from sf_ros.model.skeleton import empty_weights, fill, read_weights  # noqa: E402


def test_parameters_have_no_numbers_and_buffers_have() -> None:
    with empty_weights():
        made = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert all(weight.is_meta and not weight.requires_grad for weight in made.parameters())
    assert made[1].running_var.tolist() == [1.0, 1.0]
    weights = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()
    made.load_state_dict(weights, strict=True, assign=True)
    assert torch.equal(made[0].weight, weights["0.weight"]) and not made[0].weight.requires_grad


def test_a_skeleton_is_filled_with_its_part_of_a_file(tmp_path: Path) -> None:
    weights = {f"{part}.{key}": value for part in "ab" for key, value in nn.BatchNorm1d(2).state_dict().items()}
    weights["a.weight"] = torch.tensor([2.0, 3.0])
    save_file(weights, tmp_path / "it.safetensors")
    with empty_weights():
        made = nn.BatchNorm1d(2)
    fill(made, tmp_path / "it.safetensors", torch.device("cpu"), torch.float64, "a.")
    assert made.weight.tolist() == [2.0, 3.0] and made.weight.dtype == torch.float64 and not made.training
    with pytest.raises(RuntimeError, match="Missing key"):
        fill(made, tmp_path / "it.safetensors", torch.device("cpu"), torch.float64, "c.")


def test_afterwards_modules_are_made_as_ever_also_after_an_error() -> None:
    with pytest.raises(RuntimeError, match="stop"), empty_weights():
        raise RuntimeError("stop")
    assert not nn.Linear(3, 2).weight.is_meta


def test_scales_are_multiplied_before_numbers_are_rounded(tmp_path: Path) -> None:
    weights = {"it.a": torch.full((2, 2), 1 + 2**-8), "it.b": torch.full((2, 2), 1 + 2**-8)}
    save_file({key: weight.half() for key, weight in weights.items()}, tmp_path / "it.safetensors")
    scales = {"it.a": torch.tensor([1.0, 1 + 2**-8])}  # a tie that bfloat16 would round to 1, and one above it
    found = read_weights(tmp_path / "it.safetensors", torch.device("cpu"), torch.bfloat16, "it.", scales)
    assert found["b"].tolist() == [[1.0, 1.0]] * 2
    assert found["a"].tolist() == [[1.0, 1 + 2**-7]] * 2 and found["a"].dtype == torch.bfloat16
