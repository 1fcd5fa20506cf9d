"""A killed and resumed run ends like an unbroken one, to the bit."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from training.config import StageConfig
from training.trainer import loop, state
from training.trainer.loop import Objective, Trainer
from training.trainer.objective import Losses

STAGE = StageConfig(steps=7, batch_size=4, learning_rate=0.05, warmup=2)


def network() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))


def objective(killed_at: int | None = None) -> Objective:
    """Two named losses of a batch that is a function of the step."""

    def losses(module: nn.Module, step: int) -> Losses:
        if step == killed_at:
            raise KeyboardInterrupt
        inputs = torch.randn(16, 3, generator=torch.Generator().manual_seed(step))
        outputs = module(inputs)
        return {"square": (outputs - inputs.sum(1, keepdim=True)).square().mean(), "size": 0.1 * outputs.abs().mean()}

    return losses


def fit(
    module: nn.Module, out: Path, *, killed_at: int | None = None, stage: StageConfig = STAGE, **changes
) -> list[dict[str, float]]:
    calls = {key: changes.pop(key) for key in ("validate", "throughput") if key in changes}
    trainer = Trainer("toy", stage, out, **{"precision": "no", "seed": 3, "save_every": 2, **changes})
    return trainer.fit(module, trainer.step_numbers, objective(killed_at), **calls)


def same(first: nn.Module, second: nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return set(a) == set(b) and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, list[dict[str, float]]]:
    module = network()
    return module, fit(module, tmp_path_factory.mktemp("unbroken"))


def test_the_history_has_every_step(unbroken: tuple[nn.Module, list[dict[str, float]]]) -> None:
    module, history = unbroken
    assert len(history) == 7 and all(set(entry) == {"square", "size"} for entry in history)
    assert not same(module, network())
    assert history[-1]["square"] != history[0]["square"]


@pytest.mark.parametrize("stop_after", [1, 2, 5])
def test_a_resumed_run_equals_an_unbroken_one(
    unbroken: tuple[nn.Module, list[dict[str, float]]], tmp_path: Path, stop_after: int
) -> None:
    part = fit(network(), tmp_path, stop_after=stop_after)
    assert part == unbroken[1][:stop_after]
    resumed = network()
    assert fit(resumed, tmp_path) == unbroken[1]
    assert same(resumed, unbroken[0])


def test_seconds_include_the_time_before_interruptions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state.seconds(tmp_path) == 0
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=itertools.count(step=10.0).__next__))
    fit(network(), tmp_path, stop_after=3)
    first = state.seconds(tmp_path)
    fit(network(), tmp_path)
    whole = state.seconds(tmp_path)
    assert 0 < first < whole - first  # three steps, then four
    fit(network(), tmp_path)  # finished already
    assert state.seconds(tmp_path) == whole


@pytest.mark.parametrize("killed_at", [1, 5])
def test_a_kill_between_two_states_repeats_the_last_steps(
    unbroken: tuple[nn.Module, list[dict[str, float]]], tmp_path: Path, killed_at: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(network(), tmp_path, killed_at=killed_at)
    resumed = network()
    assert fit(resumed, tmp_path) == unbroken[1]
    assert same(resumed, unbroken[0])


def test_a_kill_between_the_renames_keeps_a_complete_state(
    unbroken: tuple[nn.Module, list[dict[str, float]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if path.name == "state.new" and (path / "history.json").exists() and swaps:
            raise KeyboardInterrupt
        swaps.append(target)
        return rename(path, target)

    swaps: list[Path] = []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(network(), tmp_path)
    assert swaps and not (tmp_path / "state").exists()
    resumed = network()
    assert fit(resumed, tmp_path) == unbroken[1]
    assert same(resumed, unbroken[0])


def test_a_kill_during_removal_keeps_a_complete_state(
    unbroken: tuple[nn.Module, list[dict[str, float]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def killed(path: Path, **settings) -> None:
        if (Path(path) / "history.json").exists():
            next(Path(path).glob("*.safetensors")).unlink()
            raise KeyboardInterrupt
        remove(path, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(network(), tmp_path)
    resumed = network()
    assert fit(resumed, tmp_path) == unbroken[1]
    assert same(resumed, unbroken[0])


def test_a_kill_during_the_first_save_starts_again(
    unbroken: tuple[nn.Module, list[dict[str, float]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, text: str) -> None:
        path.write_bytes(text.encode()[: len(text) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(network(), tmp_path)
    resumed = network()
    assert fit(resumed, tmp_path) == unbroken[1]
    assert same(resumed, unbroken[0])


def test_a_kill_during_a_save_keeps_the_last_state(
    unbroken: tuple[nn.Module, list[dict[str, float]]], tmp_path: Path
) -> None:
    fit(network(), tmp_path, stop_after=2)
    (tmp_path / "state.new").mkdir()
    (tmp_path / "state.new" / "model.safetensors").write_bytes(b"half")
    resumed = network()
    assert fit(resumed, tmp_path) == unbroken[1]
    assert same(resumed, unbroken[0])


def test_a_finished_run_is_not_run_again(unbroken: tuple[nn.Module, list[dict[str, float]]], tmp_path: Path) -> None:
    fit(network(), tmp_path)
    again = network()
    assert fit(again, tmp_path, killed_at=6) == unbroken[1]
    assert same(again, unbroken[0])


def test_the_state_of_another_model_is_a_one_line_error(tmp_path: Path) -> None:
    fit(network(), tmp_path, stop_after=2)
    other = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1))
    with pytest.raises(ValueError, match=r"state of another model or version, or damaged .*Start again") as caught:
        fit(other, tmp_path)
    assert "\n" not in str(caught.value)


def test_frozen_parameters_do_not_change(tmp_path: Path) -> None:
    module = network()
    module[0].requires_grad_(False)
    fit(module, tmp_path)
    before = network()
    assert torch.equal(module[0].weight, before[0].weight)
    assert not torch.equal(module[4].weight, before[4].weight)


def test_a_warm_up_longer_than_the_run_lasts_all_of_it(tmp_path: Path) -> None:
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(1.0)
    weights = []

    def losses(trained: nn.Linear, step: int) -> Losses:
        weights.append(trained.weight.item())
        return {"down": trained.weight.sum()}

    stage = StageConfig(steps=4, learning_rate=0.4, warmup=500, weight_decay=0.0)
    Trainer("toy", stage, tmp_path, precision="no", seed=0, save_every=100).fit(module, range(4), losses)
    # The rate rises from zero by a quarter of 0.4 per step; Adam's step under a constant gradient is the rate.
    assert [*weights, module.weight.item()] == pytest.approx([1.0, 1.0, 0.9, 0.7, 0.4], abs=1e-5)


def blocks() -> nn.Module:
    """A module with the names of an encoder: a stem, and a block of two matrices."""
    torch.manual_seed(6)
    return nn.Sequential(
        OrderedDict(stem=nn.Linear(3, 8), blocks=nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), out=nn.Linear(8, 1))
    )


def test_muon_trains_block_matrices_and_adamw_the_others() -> None:
    module = nn.ModuleDict({"encoder": blocks()})
    adamw, muon = loop.build_optimizers(module, dataclasses.replace(STAGE, optimizer="muon"))
    assert isinstance(adamw, torch.optim.AdamW) and isinstance(muon, torch.optim.Muon)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = [{names[id(p)] for group in o.param_groups for p in group["params"]} for o in (adamw, muon)]
    assert groups[1] == {"encoder.blocks.0.weight", "encoder.blocks.1.weight"}
    assert groups[0] | groups[1] == set(names.values()) and not groups[0] & groups[1]
    assert len(loop.build_optimizers(module, STAGE)) == len(loop.build_optimizers(network(), STAGE)) == 1


def test_a_run_with_muon_resumes_to_the_bit(tmp_path: Path) -> None:
    stage = dataclasses.replace(STAGE, optimizer="muon")
    whole, resumed = blocks(), blocks()
    history = fit(whole, tmp_path / "whole", stage=stage)
    fit(resumed, tmp_path / "parts", stage=stage, stop_after=3)
    assert fit(resumed, tmp_path / "parts", stage=stage) == history and same(whole, resumed)
    assert not same(whole, blocks())
