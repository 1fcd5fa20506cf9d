"""PCGrad removes only the conflicting components of gradients."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from sf_ros.core.fields import NotAvailable
from tests.training.test_train import TOY, fresh, random_data, weights
from training.config import TrainConfig
from training.trainer import joint, loop
from training.trainer.gradients import ProjectedGradients, project
from training.trainer.joint import JointBatches, fit_joint, set_training
from training.trainer.objective import joint_losses

PCGRAD = dataclasses.replace(
    TOY, pcgrad=True, joint=dataclasses.replace(TOY.joint, batch_size=6, steps=6), save_every=3
)


def test_two_gradients_projected_by_hand() -> None:
    first, second = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    # Their product is -1: the first gains half of the second, the second all of the first.
    assert project([first, second]).tolist() == [0.5 + 0.0, 0.5 + 1.0]
    assert first.tolist() == [1.0, 0.0] and second.tolist() == [-1.0, 1.0]


def test_agreeing_gradients_are_summed() -> None:
    agreeing = [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), torch.tensor([3.0, 1.0])]
    assert project(agreeing).tolist() == [4.0, 3.0]
    assert project(agreeing[:1]).tolist() == [1.0, 0.0]


def test_opposite_gradients_cancel() -> None:
    assert project([torch.tensor([2.0, -1.0]), torch.tensor([-2.0, 1.0])]).abs().max() < 1e-6


def test_the_sum_opposes_neither_gradient() -> None:
    for _ in range(20):
        first, second = torch.randn(2, 5)
        if torch.dot(first, second) < 0:
            total = project([first, second])
            assert torch.dot(total, first) >= -1e-5 and torch.dot(total, second) >= -1e-5


def test_parts_of_a_batch_are_projected_together() -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    used, unused = torch.nn.Parameter(torch.tensor([1.0, 2.0])), torch.nn.Parameter(torch.tensor([1.0]))
    backward = ProjectedGradients([used, unused])
    accelerator.gradient_state._set_sync_gradients(False)
    backward(accelerator, {"one": used[0] * 4, "other": used[1] * 2})
    assert used.grad is None
    accelerator.gradient_state._set_sync_gradients(True)
    backward(accelerator, {"one": -used[0] * 2})
    assert used.grad.tolist() == [(4 - 2) / 2, 2 / 2] and unused.grad is None
    backward(accelerator, {"one": used[0]})  # the previous batch is cleared
    assert used.grad.tolist() == [0.5, 0.0]


@pytest.mark.parametrize("checkpointed", [False, True])
def test_without_conflicts_the_gradient_is_the_sum(checkpointed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(PCGRAD, checkpoint_activations=checkpointed)
    batches = JointBatches(random_data(), config)
    batch = next(b for b in map(batches.__getitem__, range(9)) if len(set(b.tasks)) > 2)
    model, accelerator = fresh(), Accelerator(cpu=True)
    set_training(model, config)
    parameters = [p for p in model.parameters() if p.requires_grad]
    loop.summed_backward(accelerator, joint_losses(model, batch, TOY))
    expected = [p.grad for p in parameters]
    for parameter in parameters:
        parameter.grad = None
    monkeypatch.setattr("training.trainer.gradients.project", lambda gradients: torch.stack(list(gradients)).sum(0))
    ProjectedGradients(parameters)(accelerator, joint_losses(model, batch, PCGRAD))
    for parameter, gradient in zip(parameters, expected, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.allclose(parameter.grad, gradient, atol=1e-5)


def test_a_resumed_run_repeats_the_projections(tmp_path: Path) -> None:
    def run(config: TrainConfig, out: Path, stop_after: int | None = None) -> tuple[list, dict[str, torch.Tensor]]:
        model = fresh()
        history, _ = fit_joint(model, random_data(), config, out, stop_after=stop_after)
        return history, weights(model)

    whole = run(PCGRAD, tmp_path / "whole")
    run(PCGRAD, tmp_path / "parts", stop_after=3)
    torch.manual_seed(99)
    history, resumed = run(PCGRAD, tmp_path / "parts")
    assert history == whole[0] and all(torch.equal(resumed[name], whole[1][name]) for name in resumed)
    assert {"gaze"} in map(set, history) and any(len(entry) > 2 for entry in history)
    plain = run(dataclasses.replace(PCGRAD, pcgrad=False), tmp_path / "plain")
    assert sum(plain[0][0].values()) == pytest.approx(sum(history[0].values()), rel=1e-5)  # before any step
    assert any(not torch.equal(resumed[name], plain[1][name]) for name in resumed)


@pytest.mark.parametrize("switch", ["pcgrad", "uncertainty"])
def test_several_processes_are_an_error(switch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joint, "PartialState", lambda: SimpleNamespace(num_processes=2, process_index=0))
    with pytest.raises(NotAvailable, match=f"{switch}=True works in one process"):
        fit_joint(fresh(), random_data(), dataclasses.replace(TOY, **{switch: True}), tmp_path)


def test_fp16_is_an_error() -> None:
    with pytest.raises(ValueError, match="precision 'fp16' scales"):
        dataclasses.replace(PCGRAD, precision="fp16")
