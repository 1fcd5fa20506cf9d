"""All baseline_cells are trained by the shared loop, resume exactly, and are scored by the shared evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sf_ros.model.encoders import build_encoder
from tests.tiny_models import CONFIG
from tests.training.baselines.trials import sample
from training.baselines.gaze_lle import GazeLle, GazeLleConfig
from training.baselines.interface import Baseline, check_tasks
from training.baselines.miniature import SMALL, qwen2_vl
from training.baselines.registry import load_vlm
from training.config import StageConfig
from training.evaluation.score import score
from training.trainer.loop import Trainer
from training.trainer.objective import Losses

STAGE = StageConfig(steps=5, batch_size=2, learning_rate=1e-2, warmup=1)


def gaze_lle(folder: Path) -> GazeLle:
    return GazeLle(build_encoder(CONFIG.encoder), CONFIG.encoder, GazeLleConfig(dim=32, layers=1, heads=2))


def vlm(folder: Path) -> Baseline:
    if not (folder / "config.json").exists():
        qwen2_vl(folder)
        torch.manual_seed(1)  # writing the folder draws random numbers
    return load_vlm(str(folder), SMALL)


BASELINES: list[Callable[[Path], Baseline]] = [gaze_lle, vlm]


@pytest.fixture(params=BASELINES, ids=lambda build: build.__name__)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Baseline]:
    def made() -> Baseline:
        torch.manual_seed(1)
        return request.param(tmp_path)

    return made


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR", "accelerate")  # it logs every tied weight


def fitted(baseline: Baseline, out: Path, stop_after: int | None = None) -> list[dict[str, float]]:
    assert isinstance(baseline, nn.Module)

    def objective(trained: Baseline, step: int) -> Losses:
        return trained.loss([sample(task, 10 * step + i) for i, task in enumerate(baseline.tasks)])

    trainer = Trainer("baseline", STAGE, out, precision="no", seed=3, save_every=2, stop_after=stop_after)
    return trainer.fit(baseline, trainer.step_numbers, objective)


def trained(baseline: Baseline) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in baseline.named_parameters() if p.requires_grad}  # type: ignore[attr-defined]


def test_interrupted_training_ends_like_an_unbroken_one(make: Callable[[], Baseline], tmp_path: Path) -> None:
    whole, broken, resumed = make(), make(), make()
    history = fitted(whole, tmp_path / "whole")
    assert len(history) == STAGE.steps
    fitted(broken, tmp_path / "broken", stop_after=2)
    torch.manual_seed(99)  # a new process has another random state
    assert fitted(resumed, tmp_path / "broken") == history
    expected, after, before = trained(whole), trained(resumed), trained(make())
    assert all(torch.equal(after[name], value) for name, value in expected.items())
    assert any(not torch.equal(before[name], value) for name, value in expected.items())


def test_evaluation_scores_every_task_of_a_baseline(make: Callable[[], Baseline]) -> None:
    baseline = make()
    for task in baseline.tasks:
        result = score(task, baseline.answer, iter([sample(task, 1), sample(task, 2)]))
        assert result["samples"] == 2 and all(np.isfinite(value) for value in result["metrics"].values())


def test_an_unsupported_task_is_named() -> None:
    check_tasks([sample("gaze", 0)], ("gaze",), "X")
    with pytest.raises(ValueError, match="X does not answer 'domain'; expected gaze"):
        check_tasks([sample("gaze", 0), sample("domain", 0)], ("gaze",), "X")
