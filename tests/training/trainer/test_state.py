"""A state holds what trains; what it does not hold must not be needed."""

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


def test_frozen_weights_are_not_in_a_state_and_a_run_resumes_without_them(tmp_path: Path) -> None:
    whole, resumed = half_frozen(), half_frozen()
    history = fit(whole, tmp_path / "whole")
    fit(half_frozen(), tmp_path / "parts", stop_after=3)
    saved = load_file(tmp_path / "parts" / "state" / "model.safetensors")
    assert {"trained.4.weight", "trained.1.running_mean"} <= set(saved)  # buffers change too
    assert not [name for name in saved if name.startswith("trained.0.")]
    assert fit(resumed, tmp_path / "parts") == history and same(resumed, whole)


def test_a_state_that_holds_frozen_weights_as_earlier_versions_did_is_resumed_and_they_are_left_alone(
    tmp_path: Path,
) -> None:
    whole, resumed = half_frozen(), half_frozen()
    history = fit(whole, tmp_path / "whole")
    fit(half_frozen(), tmp_path / "parts", stop_after=3)
    file = tmp_path / "parts" / "state" / "model.safetensors"
    save_file({**load_file(file), "trained.0.weight": torch.zeros(8, 3), "trained.0.bias": torch.zeros(8)}, file)
    assert fit(resumed, tmp_path / "parts") == history and same(resumed, whole)


@pytest.mark.parametrize("damage", ["cut off", "missing", "left over", "another shape"])
def test_a_state_that_does_not_fit_is_refused(damage: str, tmp_path: Path) -> None:
    fit(network(), tmp_path, stop_after=2)
    file = tmp_path / "state" / "model.safetensors"
    weights = load_file(file)
    if damage == "cut off":
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
