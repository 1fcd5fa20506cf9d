"""All candidates are trained by the shared loop, resume exactly, and are scored by the shared evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sf_ros.core.tasks import TASKS
from sf_ros.model.encoders import build_encoder
from tests.tiny_models import CONFIG, fused_model
from tests.training.baselines.trials import sample
from training.baselines.fused import FusedCandidate
from training.baselines.gaze_lle import GazeLle, GazeLleConfig
from training.baselines.interface import Candidate, check_questions
from training.baselines.miniature import SMALL, qwen2_vl
from training.baselines.vlm import load_vlm
from training.config import StageConfig, preset
from training.evaluate import score_gaze, score_labels
from training.model.lora import attach
from training.trainer import loop

STAGE = StageConfig(steps=5, batch_size=2, learning_rate=1e-2, warmup=1)


def fused(folder: Path) -> FusedCandidate:
    config = dataclasses.replace(preset("smoke"), model=CONFIG)
    return FusedCandidate(attach(fused_model().requires_grad_(True), 2, 4), config)


def gaze_lle(folder: Path) -> GazeLle:
    return GazeLle(build_encoder(CONFIG.encoder), CONFIG.encoder, GazeLleConfig(dim=32, layers=1, heads=2))


def vlm(folder: Path) -> Candidate:
    if not (folder / "config.json").exists():
        qwen2_vl(folder)
        torch.manual_seed(1)  # making the folder drew random numbers
    return load_vlm(str(folder), SMALL)


CANDIDATES: list[Callable[[Path], Candidate]] = [fused, gaze_lle, vlm]


@pytest.fixture(params=CANDIDATES, ids=lambda build: build.__name__)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Candidate]:
    def made() -> Candidate:
        torch.manual_seed(1)
        return request.param(tmp_path)

    return made


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR", "accelerate")  # tells of every tied weight that it saves once


def fitted(candidate: Candidate, out: Path, stop_after: int | None = None) -> list[dict[str, float]]:
    assert isinstance(candidate, nn.Module)

    def loss(step: int) -> loop.Losses:
        return candidate.loss([sample(task, 10 * step + i) for i, task in enumerate(candidate.questions)])

    return loop.fit(
        "candidate", candidate, loss, STAGE, out, precision="no", seed=3, save_every=2, stop_after=stop_after
    )


def trained(candidate: Candidate) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in candidate.named_parameters() if p.requires_grad}  # type: ignore[attr-defined]


def test_the_shared_loop_trains_it_and_a_broken_run_ends_like_a_whole_one(
    make: Callable[[], Candidate], tmp_path: Path
) -> None:
    whole, broken, resumed = make(), make(), make()
    history = fitted(whole, tmp_path / "whole")
    assert len(history) == STAGE.steps
    fitted(broken, tmp_path / "broken", stop_after=2)
    torch.manual_seed(99)  # a new process has another random state
    assert fitted(resumed, tmp_path / "broken") == history
    expected, found, before = trained(whole), trained(resumed), trained(make())
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert any(not torch.equal(before[name], value) for name, value in expected.items())


def test_the_shared_evaluation_scores_every_question_it_answers(make: Callable[[], Candidate]) -> None:
    candidate = make()
    for task in candidate.questions:
        score = score_gaze if TASKS[task].kind == "heatmap" else score_labels
        result = score(task, candidate.answer, iter([sample(task, 1), sample(task, 2)]))
        assert result["samples"] == 2 and all(np.isfinite(value) for value in result["metrics"].values())


def test_a_question_that_is_not_answered_is_named() -> None:
    check_questions([sample("gaze", 0)], ("gaze",), "X")
    with pytest.raises(ValueError, match="X does not answer 'domain'; it answers gaze"):
        check_questions([sample("gaze", 0), sample("domain", 0)], ("gaze",), "X")
