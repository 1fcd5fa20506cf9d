"""A state has the trainable weights only, and a run resumes from it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.rooms import room_for
from tests.training.trainer.test_loop import fit, network, same
from training.trainer import state


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
    (tmp_path / "state" / state.HASHES).unlink()  # as earlier versions wrote states
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


def spoil(path: Path, seed: int) -> None:
    """Change 30 bytes."""
    data = bytearray(path.read_bytes())
    for at in np.random.default_rng(seed).integers(0, len(data), 30):
        data[at] ^= 1
    path.write_bytes(data)


FILES = ("model.safetensors", "optimizer.bin", "scheduler.bin", "history.json", "seconds.json", "hashes.json")


@pytest.mark.parametrize("name", FILES)
def test_damage_is_named_and_the_older_state_goes_on_to_the_same_curve(name: str, tmp_path: Path) -> None:
    whole, resumed = network(), network()
    history = fit(whole, tmp_path / "whole")
    run = tmp_path / "run"
    fit(network(), run, stop_after=6)
    spoil(run / "state" / name, 1)
    with pytest.raises(ValueError, match=rf"state: damaged \({name} has .*state\.old, of step \d, is whole") as caught:
        fit(network(), run)
    assert "\n" not in str(caught.value)
    shutil.rmtree(run / "state")
    (run / "state.old").rename(run / "state")
    assert fit(resumed, run) == history and same(resumed, whole)


def test_a_damaged_older_state_is_not_recommended(tmp_path: Path) -> None:
    fit(network(), tmp_path, stop_after=6)
    for folder in ("state", "state.old"):
        spoil(tmp_path / folder / "optimizer.bin", 2)
    with pytest.raises(ValueError, match=r"state: damaged .* Start again in another folder"):
        fit(network(), tmp_path)


def test_a_state_of_an_earlier_version_resumes(tmp_path: Path) -> None:
    whole, resumed = network(), network()
    history = fit(whole, tmp_path / "whole")
    fit(network(), tmp_path / "run", stop_after=6)
    (tmp_path / "run" / "state" / state.HASHES).unlink()
    shutil.rmtree(tmp_path / "run" / "state.old")
    assert fit(resumed, tmp_path / "run") == history and same(resumed, whole)


@pytest.mark.parametrize("room", [10, 600, 2000])
def test_a_full_disk_while_saving_is_one_line_and_keeps_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    save, run = state.save_accelerator_state, tmp_path / "run"
    fit(network(), run, stop_after=2)

    def without_room(*values: Any, **named: Any) -> None:
        with room_for(room):  # not around the whole run, whose progress bar is written to a file here
            save(*values, **named)

    with monkeypatch.context() as patch:
        patch.setattr(state, "save_accelerator_state", without_room)
        with pytest.raises(OSError, match=r"state\.new: cannot be written \(.*Free some") as caught:
            fit(network(), run)
    assert "\n" not in str(caught.value) and not (run / "state.new").exists()
    resumed, whole = network(), network()
    assert fit(resumed, run) == fit(whole, tmp_path / "whole") and same(resumed, whole)
