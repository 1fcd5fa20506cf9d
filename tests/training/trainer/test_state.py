"""A state has the trainable weights only, and a run resumes from it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.training.trainer.test_loop import fit, network, same


def half_frozen() -> nn.Module:
    module = network()
    module[0].requires_grad_(False)
    return module


def test_a_run_resumes_from_a_state_without_frozen_weights(tmp_path: Path) -> None:
    whole, resumed = half_frozen(), half_frozen()
    history = fit(whole, tmp_path / "whole")
    fit(half_frozen(), tmp_path / "parts", stop_after=3)
    saved = load_file(tmp_path / "parts" / "state" / "model.safetensors")
    assert {"trained.4.weight", "trained.1.running_mean"} <= set(saved)  # buffers change in training
    assert not [name for name in saved if name.startswith("trained.0.")]
    assert fit(resumed, tmp_path / "parts") == history and same(resumed, whole)


@pytest.mark.parametrize("damage", ["truncated", "missing", "left over", "another shape"])
def test_a_state_with_other_weights_is_an_error(damage: str, tmp_path: Path) -> None:
    fit(network(), tmp_path, stop_after=2)
    file = tmp_path / "state" / "model.safetensors"
    weights = load_file(file)
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:50])
    elif damage == "missing":
        del weights["trained.4.bias"]
        save_file(weights, file)
    elif damage == "left over":
        save_file({**weights, "trained.9.weight": torch.zeros(1)}, file)
    else:
        save_file({**weights, "trained.4.bias": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match="the state of another model or version, or damaged"):
        fit(network(), tmp_path)
