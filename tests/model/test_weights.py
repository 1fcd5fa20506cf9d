"""Empty modules take no memory until they are filled."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from sf_ros.model.published import WeightsError  # noqa: E402
from sf_ros.model.weights import empty_weights, fill, read_weights  # noqa: E402


def test_parameters_are_empty_and_buffers_are_not() -> None:
    with empty_weights():
        made = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    assert all(weight.is_meta and weight.requires_grad for weight in made.parameters())
    assert made[1].running_var.tolist() == [1.0, 1.0]
    weights = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()
    made.load_state_dict(weights, strict=True, assign=True)
    assert torch.equal(made[0].weight, weights["0.weight"]) and made[0].weight.requires_grad


def test_a_module_is_filled_and_frozen_from_its_part_of_a_file(tmp_path: Path) -> None:
    weights = {f"{part}.{key}": value for part in "ab" for key, value in nn.BatchNorm1d(2).state_dict().items()}
    weights["a.weight"] = torch.tensor([2.0, 3.0])
    save_file(weights, tmp_path / "it.safetensors")
    with empty_weights():
        made = nn.BatchNorm1d(2)
    fill(made, tmp_path / "it.safetensors", torch.device("cpu"), torch.float64, "a.")
    assert made.weight.tolist() == [2.0, 3.0] and made.weight.dtype == torch.float64
    assert not made.training and not made.weight.requires_grad
    with pytest.raises(RuntimeError, match="Missing key"):
        fill(made, tmp_path / "it.safetensors", torch.device("cpu"), torch.float64, "c.")


def test_modules_are_normal_again_even_after_an_error() -> None:
    with pytest.raises(RuntimeError, match="stop"), empty_weights():
        raise RuntimeError("stop")
    assert not nn.Linear(3, 2).weight.is_meta


def test_scales_are_applied_before_rounding(tmp_path: Path) -> None:
    weights = {"it.a": torch.full((2, 2), 1 + 2**-8), "it.b": torch.full((2, 2), 1 + 2**-8)}
    save_file({key: weight.half() for key, weight in weights.items()}, tmp_path / "it.safetensors")
    scales = {"it.a": torch.tensor([1.0, 1 + 2**-8])}  # a tie that bfloat16 rounds to 1, and a number above it
    read = read_weights(tmp_path / "it.safetensors", dtype=torch.bfloat16, prefix="it.", scales=scales)
    assert read["b"].tolist() == [[1.0, 1.0]] * 2
    assert read["a"].tolist() == [[1.0, 1 + 2**-7]] * 2 and read["a"].dtype == torch.bfloat16


def test_tensors_are_read_as_stored_and_by_suffix(tmp_path: Path) -> None:
    path = tmp_path / "it.safetensors"
    save_file({"a.norm": torch.ones(2).half(), "a.weight": torch.ones(3)}, path)
    assert {key: tensor.dtype for key, tensor in read_weights(path).items()} == {
        "a.norm": torch.float16,
        "a.weight": torch.float32,
    }
    assert list(read_weights(path, suffix="norm")) == ["a.norm"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "it.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"it\.safetensors: damaged"):
        read_weights(tmp_path / "it.safetensors")
